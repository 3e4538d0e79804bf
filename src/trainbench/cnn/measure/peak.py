"""The rate of a large matrix product: what a run's operations per second are compared with.

It is a yardstick, not a bound. It is measured for a moment, when other work may run, and kernels
can be faster than it. So a share above 100 % has its peak measured again, and then its reason.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import tensorflow as tf

from trainbench.cnn.flags.params import Params
from trainbench.machine import allotment
from trainbench.machine.system import has_bfloat16


@dataclass(frozen=True)
class Share:
    """Operations per second of the yardstick, and a run's rate in percent of it.

    ``reason`` is why ``percent`` is above 100, where it is.
    """

    peak_flops_per_s: float
    percent: float | None
    reason: str | None = None


def share_of_peak(flops_per_s: float | None, *, dtype: str, devices: int) -> Share:
    """What ``flops_per_s`` of ``devices`` together are of the rate of as many products.

    Args:
        flops_per_s: of the run; ``None`` where its operations are not counted.
        dtype: of the product's matrices.
    """
    peak = devices * measured_peak_flops(dtype=dtype)
    if flops_per_s is not None and flops_per_s > peak:
        peak = max(peak, devices * measured_peak_flops(2048, seconds=1.0, dtype=dtype))
    percent = None if flops_per_s is None else 100 * flops_per_s / peak
    return Share(peak, percent, reason_above(percent, os.getloadavg()[0], allotment.cpus()))


def reason_above(percent: float | None, load: float, cpus: int) -> str | None:
    """Why a share is above 100 %; ``None`` where it is not.

    Args:
        load: the mean number of runnable threads in the last minute, of this process as well.
        cpus: that this process may use.
    """
    if percent is None or percent <= 100:
        return None
    if load > 1.5 * cpus:
        why = f"other work ran when it was measured (load {load:.1f} on {cpus} CPUs)"
    else:
        why = "the run's kernels need fewer operations than are counted, or are faster than it"
    return f"above 100 %: the matrix product that stands for the peak is slower; {why}"


def compute_dtype(params: Params) -> str:
    """The type of a run's matrix products, where the device multiplies it by itself."""
    on_gpu = params.device.lower() == "gpu"
    if params.use_fp16 and on_gpu:
        return "float16"
    return "bfloat16" if params.use_bf16 and (on_gpu or has_bfloat16()) else "float32"


def measured_peak_flops(size: int = 1024, seconds: float = 0.3, *, dtype: str = "float32") -> float:
    """Operations per second of a large matrix product on the first device."""
    matrix = tf.cast(tf.random.stateless_uniform((size, size), (0, 0)), dtype)
    tf.linalg.matmul(matrix, matrix).numpy()
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < seconds:
        before = time.perf_counter()
        tf.linalg.matmul(matrix, matrix)[0, 0].numpy()
        best = min(best, time.perf_counter() - before)
    return 2 * size**3 / best
