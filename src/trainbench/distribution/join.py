"""Connecting this process with the other machines of a run, or with a TPU.

Both come before the producer, the page cache and ``run_start``: they touch neither data nor model,
and how long other machines take to start is not the benchmark's time.
"""

from __future__ import annotations

import signal
import socket
from typing import Any
from urllib.parse import urlsplit

import tensorflow as tf

from trainbench.distribution.tf_config import JOIN_TIMEOUT_S, Cluster
from trainbench.errors import MachineError
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.replicas import Replicas, check_divisible
from trainbench.progress import log_line

_TPU_TIMEOUT_S = 20.0


def check_devices(config: NcfConfig, cluster: Cluster | None = None) -> None:
    """Raise for what this machine cannot do, before any work; no device is initialised.

    Raises:
        MachineError: a GPU is asked for and TensorFlow sees none.
        ConfigError: the batch cannot be divided among the replicas.
    """
    if config.devices == "gpu" and not _gpus(config):
        raise no_gpu()
    if cluster:
        check_divisible(config, len(cluster.workers) * max(1, len(_gpus(config))))
    elif config.devices == "all" and config.cpu_devices == 1:
        check_divisible(config, max(1, len(_gpus(config))))


def no_gpu() -> MachineError:
    """The error for a GPU that was asked for and is not there."""
    return MachineError(
        "devices=gpu: TensorFlow sees no GPU on this machine; run with devices=cpu, or check "
        "nvidia-smi and that the CUDA wheels of TensorFlow are installed"
    )


def _gpus(config: NcfConfig) -> list[Any]:
    return [] if config.devices == "cpu" else tf.config.list_physical_devices("GPU")


def join(config: NcfConfig, cluster: Cluster, *, timeout_s: float = JOIN_TIMEOUT_S) -> Replicas:
    """The replicas of all machines, once every worker of ``cluster`` is there.

    After ``timeout_s`` the process is ended by ``SIGALRM``, which its parent explains
    (``cluster.missing``): TensorFlow waits with the interpreter's lock held, so that no thread and
    no handler of ours could run.
    """
    if config.devices == "cpu":
        tf.config.set_visible_devices([], "GPU")
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.index,
        rpc_layer="grpc",
        num_accelerators={"GPU": len(_gpus(config))},
    )
    log_line(f"{cluster.own_name} waits for the others, at most {timeout_s:.0f} s")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        strategy = _strategy(resolver, cluster.own_name)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    check_divisible(config, strategy.num_replicas_in_sync)
    replicas = Replicas(strategy, tuple(strategy.extended.worker_devices), cluster)
    log_line(f"{cluster.own_name} has joined: {replicas.label}")
    return replicas


def _strategy(resolver: Any, own: str) -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        raise MachineError(f"{own}: could not join the others: {_first_line(error)}") from None


def connect_tpu(name: str) -> Replicas:
    """The cores of the TPU ``name``, reset to a clean state.

    Raises:
        MachineError: there is no such TPU, or it does not answer.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        _require_answer(resolver.master())
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        log_line(f"resetting the TPU {name} to a clean state")
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except Exception as error:  # noqa: BLE001  urllib, google-auth and TensorFlow: their own each
        raise MachineError(
            f"--tpu {name}: no TPU answers ({_first_line(error)}); check the name, the zone and "
            "that this machine may use it, or run without --tpu"
        ) from None
    return Replicas(strategy, tuple(strategy.extended.worker_devices), scoped=True)


def _require_answer(master: str) -> None:
    # TensorFlow itself would wait for minutes where nobody listens.
    found = urlsplit(master)
    if found.hostname and found.port:
        socket.create_connection((found.hostname, found.port), timeout=_TPU_TIMEOUT_S).close()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
