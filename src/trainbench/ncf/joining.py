"""Connecting this process with the other machines of a run, or with a TPU.

Both come before the producer, the page cache and ``run_start``: they touch neither data nor model,
and how long other machines take to start is not the benchmark's time.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import tensorflow as tf

from trainbench.config import NcfConfig
from trainbench.errors import MachineError
from trainbench.ncf.cluster import JOIN_TIMEOUT_S, Cluster
from trainbench.ncf.replicas import Replicas, check_divisible
from trainbench.progress import heartbeat, say

_TPU_TIMEOUT_S = 20.0

OnFailure = Callable[[str], None]


def check_devices(config: NcfConfig, cluster: Cluster | None = None) -> None:
    """Raise for what this machine cannot do, before any work; no device is initialised.

    Raises:
        MachineError: a GPU is asked for and TensorFlow sees none.
        ConfigError: the batch cannot be divided among the replicas.
    """
    gpus = [] if config.devices == "cpu" else tf.config.list_physical_devices("GPU")
    if config.devices == "gpu" and not gpus:
        raise MachineError(
            "devices=gpu: TensorFlow sees no GPU on this machine; run with devices=cpu, or check "
            "nvidia-smi and that the CUDA wheels of TensorFlow are installed"
        )
    if cluster:
        check_divisible(config, len(cluster.workers) * max(1, len(gpus)))
    elif config.devices == "all" and config.cpu_devices == 1:
        check_divisible(config, max(1, len(gpus)))


def join(
    config: NcfConfig,
    cluster: Cluster,
    *,
    timeout_s: float = JOIN_TIMEOUT_S,
    on_failure: OnFailure = lambda message: None,
) -> Replicas:
    """The replicas of all machines, once every worker of ``cluster`` is there.

    TensorFlow cannot be interrupted while it waits for the others. After ``timeout_s`` this process
    therefore calls ``on_failure(message)`` and ends.
    """
    gpus = [] if config.devices == "cpu" else tf.config.list_physical_devices("GPU")
    if config.devices == "cpu":
        tf.config.set_visible_devices([], "GPU")
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.index,
        rpc_layer="grpc",
        num_accelerators={"GPU": len(gpus)},
    )
    own = f"worker {cluster.index} of {len(cluster.workers)} ({cluster.workers[cluster.index]})"
    say(f"{own} waits for the others")
    message = (
        f"{own}: the workers were not all there after {timeout_s:.0f} s "
        f"({', '.join(cluster.workers)}); start the same command on every machine, and see that "
        "they reach each other at these addresses"
    )
    with _deadline(timeout_s, message, on_failure), heartbeat("waiting for the other workers"):
        strategy = _strategy(resolver, own)
    check_divisible(config, strategy.num_replicas_in_sync)
    replicas = Replicas(strategy, tuple(strategy.extended.worker_devices), cluster)
    say(f"{own} has joined: {replicas.label}")
    return replicas


def _strategy(resolver: Any, own: str) -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        raise MachineError(f"{own}: could not join the others: {_first_line(error)}") from None


@contextlib.contextmanager
def _deadline(timeout_s: float, message: str, on_failure: OnFailure) -> Iterator[None]:
    def give_up() -> None:
        on_failure(message)
        print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(MachineError.exit_code)

    timer = threading.Timer(timeout_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
        say(f"resetting the TPU {name} to a clean state")
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
