"""The devices that a trial computes on: found here, divided, or joined with those of others.

All of it comes before the producer, the page cache and ``run_start``: it touches neither data nor
model.
"""

from __future__ import annotations

import socket
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import tensorflow as tf
from tensorflow.python.client import device_lib  # The only way to a GPU's memory limit.

from trainbench.distribution.cluster import Cluster
from trainbench.distribution.join import join
from trainbench.distribution.links import Links
from trainbench.distribution.liveness import Liveness, first_line
from trainbench.errors import ConfigError, MachineError
from trainbench.ncf.config import NcfConfig, indivisible
from trainbench.ncf.replicas import Replicas
from trainbench.progress import duration, log_line

_TPU_TIMEOUT_S = 20.0
# The rest is for activations: the step's largest, at 65,536 samples, take less than 1 GB.
_FREE_PER_INPUT = 2


def check_devices(config: NcfConfig, cluster: Cluster | None = None) -> None:
    """Raise for what this machine cannot do, before any work; no device is initialised.

    Raises:
        MachineError: a GPU is asked for and TensorFlow sees none.
        ConfigError: the batch cannot be divided among the replicas.
    """
    if config.devices == "gpu" and not _gpus(config):
        raise no_gpu()
    if cluster:
        check_divisible(config, cluster.num_workers * max(1, len(_gpus(config))))
    elif config.devices == "all" and config.cpu_devices == 1:
        check_divisible(config, max(1, len(_gpus(config))))


def input_budget_bytes(device: str) -> int:
    """How much of an epoch may lie on ``device`` at a time; 0 on a CPU, where it is already."""
    if "GPU" not in device:
        return 0
    (found,) = (d for d in device_lib.list_local_devices() if d.name.endswith(f"device:{device}"))
    free = found.memory_limit - tf.config.experimental.get_memory_info(device)["current"]
    return int(max(0, free) // _FREE_PER_INPUT)


def check_divisible(config: NcfConfig, replicas: int) -> None:
    """A ``ConfigError`` unless a batch has the same number of samples for each replica."""
    if config.batch_size % replicas:
        raise ConfigError(indivisible(config.batch_size, replicas))


def no_gpu() -> MachineError:
    """The error for a GPU that was asked for and is not there."""
    return MachineError(
        "devices=gpu: TensorFlow sees no GPU on this machine; run with devices=cpu, or check "
        "nvidia-smi and that the CUDA wheels of TensorFlow are installed"
    )


def local_replicas(config: NcfConfig) -> Replicas | None:
    """The replicas of ``devices=all`` on this machine; ``None`` where one device is all there is.

    Raises:
        ConfigError: the batch cannot be divided among them.
        MachineError: TensorFlow's devices were initialised before, with fewer CPU devices.
    """
    if config.devices != "all":
        return None
    devices = _local_devices(config)
    check_divisible(config, len(devices))
    if len(devices) == 1:
        return None
    return Replicas(_mirrored(devices), devices)


def join_workers(config: NcfConfig, watch: Liveness) -> Replicas:
    """The replicas of all machines, once every worker is there.

    Raises:
        MachineError: this process cannot listen at its address.
        ConfigError: the batch cannot be divided among them.
    """
    cluster = watch.cluster
    if config.devices == "cpu":
        tf.config.set_visible_devices([], "GPU")
    log_line(f"{cluster.me} waits for the others, at most {duration(watch.timeout_s)}")
    links = Links(cluster)
    strategy = join(watch, gpus=len(_gpus(config)), links=links)
    check_divisible(config, strategy.num_replicas_in_sync)
    replicas = Replicas(strategy, tuple(strategy.extended.worker_devices), cluster, links)
    log_line(f"{cluster.me} has joined: {replicas.label}")
    return replicas


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
            f"--tpu {name}: no TPU answers ({first_line(error)}); check the name, the zone and "
            "that this machine may use it, or run without --tpu"
        ) from None
    return Replicas(strategy, tuple(strategy.extended.worker_devices), scoped=True)


def _require_answer(master: str) -> None:
    # TensorFlow itself would wait for minutes where nobody listens.
    found = urlsplit(master)
    if found.hostname and found.port:
        socket.create_connection((found.hostname, found.port), timeout=_TPU_TIMEOUT_S).close()


def _gpus(config: NcfConfig) -> list[Any]:
    return [] if config.devices == "cpu" else tf.config.list_physical_devices("GPU")


def _local_devices(config: NcfConfig) -> tuple[str, ...]:
    """Every local GPU, or ``config.cpu_devices`` logical CPU devices."""
    if config.cpu_devices > 1:
        _split_cpu(config.cpu_devices)
        return tuple(f"CPU:{index}" for index in range(config.cpu_devices))
    return tuple(f"GPU:{index}" for index in range(len(_gpus(config)))) or ("CPU:0",)


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(cpu, parts)
    except RuntimeError:
        found = len(tf.config.list_logical_devices("CPU"))
        if found < count:
            raise MachineError(
                f"cpu_devices={count}: TensorFlow was initialised with {found}; "
                "make it the process's first use of TensorFlow"
            ) from None


@cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    # One per process: a second strategy would number its collectives from the start again, and
    # TensorFlow keeps what it knows of the first one's by number.
    return tf.distribute.MirroredStrategy(list(devices))
