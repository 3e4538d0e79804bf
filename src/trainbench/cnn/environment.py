"""Devices, threads and environment variables, set before TensorFlow starts.

TensorFlow reads most of these once, when it is imported or first used. In a process where it
runs already, settings that come too late are reported and left as they are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

from trainbench.cnn.cluster import cluster_of
from trainbench.cnn.flags.params import ParamError, Params
from trainbench.cnn.threads import Threads
from trainbench.distribution.cluster import past_proxies
from trainbench.files import parse_object
from trainbench.machine import allotment
from trainbench.machine.system import nvidia_gpus
from trainbench.progress import log_line

FLAG_OF = {
    "TF_ENABLE_WINOGRAD_NONFUSED": "winograd_nonfused",
    "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT": "batchnorm_persistent",
    "TF_SYNC_ON_FINISH": "sync_on_finish",
    "TF_AUTOTUNE_THRESHOLD": "autotune_threshold",
    "TF_GPU_THREAD_MODE": "gpu_thread_mode",
    "TF_GPU_THREAD_COUNT": "per_gpu_thread_count",
    "TF_FORCE_UNIFIED_MEMORY": "use_unified_memory",
    "TF_ENABLE_ONEDNN_OPTS": "mkl",
}
"""The flag behind each variable of the environment."""


def variables(params: Params) -> dict[str, str]:
    """Environment variables that ``params`` ask for."""
    wanted = {
        "TF_ENABLE_WINOGRAD_NONFUSED": str(int(params.winograd_nonfused)),
        "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT": str(int(params.batchnorm_persistent)),
        "TF_SYNC_ON_FINISH": str(int(params.sync_on_finish)),
    }
    if params.autotune_threshold:
        wanted["TF_AUTOTUNE_THRESHOLD"] = str(params.autotune_threshold)
    if params.device.lower() == "gpu" and params.gpu_thread_mode != "global":
        wanted["TF_GPU_THREAD_MODE"] = params.gpu_thread_mode
        wanted["TF_GPU_THREAD_COUNT"] = str(Threads.of(params, on_gpu=True).gpu)
    if params.use_unified_memory:
        wanted["TF_FORCE_UNIFIED_MEMORY"] = "1"
    if params.mkl:
        wanted["TF_ENABLE_ONEDNN_OPTS"] = "1"
    threads = allotment.thread_variables().items()
    wanted.update({name: value for name, value in threads if name not in os.environ})
    cluster = cluster_of(params)
    if cluster is not None:
        wanted["TF_CONFIG"] = cluster.tf_config()
        wanted.update(past_proxies(cluster, os.environ))
    return wanted


def set_variables(wanted: Mapping[str, str], *, given: Collection[str] = ()) -> None:
    """Put ``wanted`` into the environment, saying what was requested and what it replaces.

    ``given`` are the flags that were set: a variable of the environment that only a default
    replaces gets tf_cnn_benchmarks' warning.
    """
    for name, value in wanted.items():
        before, flag = os.environ.get(name), FLAG_OF.get(name, "")
        if before is not None and before != value:
            if flag and flag not in given:
                log_line(
                    f"OS ENV variable {name}={before} is ignored and script default: {value} is "
                    f"used. Use --{flag} to override."
                )
            else:
                log_line(
                    f"{name}={before} of the environment is replaced by {value}, from the flags"
                )
        os.environ[name] = value
    # Only requested: cuDNN and the runtime may use others.
    asked = [name for name in wanted if FLAG_OF.get(name, "job_name") in given]
    if asked:
        log_line("requested: " + " ".join(f"{name}={wanted[name]}" for name in asked))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def devices(params: Params) -> tuple[list[str], list[str]]:
    """The devices as they are printed, and as TensorFlow knows them, one for each replica.

    Starts TensorFlow. Replicas beyond the devices that it was started with share the CPU, which is
    what logical CPU devices do as well.
    """
    import tensorflow as tf

    gpus = _gpus_of(params)
    kind = "gpu" if gpus else "cpu"
    printed = [f"/{params.device if gpus else kind}:{i}" for i in range(params.num_gpus)]
    there = len([d for d in tf.config.list_logical_devices(kind.upper()) if _is_local(d)])
    if kind == "gpu" and there < params.num_gpus:
        raise ParamError(
            f"num_gpus={params.num_gpus}: TensorFlow sees {there}; ask for as many at most"
        )
    return printed, [f"/{kind}:{i % there}" for i in range(params.num_gpus)]


def _is_local(device: Any) -> bool:
    """Whether ``device`` is one of this process; those of others are listed as well."""
    import tensorflow as tf

    own = tf.DeviceSpec.from_string(tf.constant(0).device)
    spec = tf.DeviceSpec.from_string(device.name)
    return spec.job is None or (spec.job, spec.task) == (own.job, own.task)


def configure(params: Params) -> None:
    """Tell TensorFlow what ``params`` ask for; only until it starts can a process join others."""
    import tensorflow as tf

    gpus = _gpus_of(params)
    if params.device.lower() == "gpu" and not gpus:
        log_line("device=gpu: TensorFlow sees no GPU on this machine; computing on the CPU")
    threads = Threads.of(params, on_gpu=bool(gpus))
    if threads != Threads(0, 0, 0, 0):
        log_line(str(threads))
    settings: list[Callable[[], None]] = [
        lambda: _threads(threads),
        lambda: _cpus(params) if not gpus else _gpus(params, gpus),
    ]
    for setting in settings:
        try:
            setting()
        except RuntimeError as error:
            # Raised only once TensorFlow has started, which in a library is not ours to prevent.
            log_line(f"TensorFlow is already running: {str(error).splitlines()[0]}")
    if params.xla:
        tf.config.optimizer.set_jit("autoclustering")
    if params.rewriter_config:
        tf.config.optimizer.set_experimental_options(rewriter_options(params.rewriter_config))
    elif not params.enable_optimizations:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def _gpus_of(params: Params) -> list[Any]:
    import tensorflow as tf

    wanted = params.device.lower() == "gpu"
    return tf.config.list_physical_devices("GPU") if wanted else []


def _threads(threads: Threads) -> None:
    import tensorflow as tf

    wanted = (
        (
            threads.within,
            tf.config.threading.get_intra_op_parallelism_threads,
            tf.config.threading.set_intra_op_parallelism_threads,
        ),
        (
            threads.between,
            tf.config.threading.get_inter_op_parallelism_threads,
            tf.config.threading.set_inter_op_parallelism_threads,
        ),
    )
    for count, current, change in wanted:
        if count and count != current():
            change(count)


def _cpus(params: Params) -> None:
    import tensorflow as tf

    if params.num_gpus > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        there = tf.config.get_logical_device_configuration(cpu) or []
        if len(there) < params.num_gpus:
            one = tf.config.LogicalDeviceConfiguration()
            # Too late once TensorFlow runs; replicas then share the devices that are there.
            with contextlib.suppress(RuntimeError):
                tf.config.set_logical_device_configuration(cpu, [one] * params.num_gpus)


def _gpus(params: Params, gpus: list[Any]) -> None:
    import tensorflow as tf

    if params.gpu_indices:
        chosen = [int(index) for index in params.gpu_indices.split(",")]
        gpus = [gpus[index] for index in chosen]
        tf.config.set_visible_devices(gpus, "GPU")
    # The driver's list; what TensorFlow says about a device does not hold its memory.
    sizes = [gpu["memory_bytes"] for gpu in nvidia_gpus()] or [16 << 30]
    for gpu in gpus:
        if params.gpu_memory_frac_for_testing:
            limit = int(min(sizes) * params.gpu_memory_frac_for_testing) >> 20
            one = tf.config.LogicalDeviceConfiguration(memory_limit=limit)
            tf.config.set_logical_device_configuration(gpu, [one])
        elif params.allow_growth is not None:
            tf.config.experimental.set_memory_growth(gpu, params.allow_growth)


def rewriter_options(text: str) -> dict[str, Any]:
    """The options in ``--rewriter_config``.

    Raises:
        ParamError: anything but a JSON object.
    """
    try:
        return parse_object(text)
    except ValueError:
        raise ParamError(
            f"--rewriter_config={text}: not a JSON object; give the options of "
            'tf.config.optimizer.set_experimental_options, such as {"disable_meta_optimizer": true}'
        ) from None
