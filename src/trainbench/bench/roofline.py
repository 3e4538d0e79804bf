"""The machine's highest rates and the limits that follow: the roofline of each figure.

A rate is bounded by the arithmetic of the matrix products and by the bytes of parameters and
moments that have to be read and written; activations count as if they stayed in the cache.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import psutil
import tensorflow as tf

from trainbench.machine import allotment
from trainbench.machine.system import has_bfloat16
from trainbench.ncf.model import Geometry

STATE_BYTES = 24
"""Value, m and v, each read and written in float32."""


@dataclass(frozen=True)
class MachineLimits:
    """What the machine does at best, as measured here."""

    fp32_gflop_per_s: float
    bf16_gflop_per_s: float
    gbyte_per_s: float

    def or_better(self, other: MachineLimits) -> MachineLimits:
        """The higher of two measurements of each: what disturbs only lowers them."""
        return MachineLimits(*map(max, astuple(self), astuple(other)))


@dataclass(frozen=True)
class Work:
    """What one sample or pair costs at least in the form that is timed."""

    flops: float
    bytes: float

    def limit(self, limits: MachineLimits, precision: str) -> tuple[str, float]:
        """What bounds the rate, "matrix" or "memory", and the rate per second it allows."""
        gflop_per_s = limits.bf16_gflop_per_s if precision == "bf16" else limits.fp32_gflop_per_s
        matrix, memory = gflop_per_s * 1e9 / self.flops, limits.gbyte_per_s * 1e9 / self.bytes
        return ("matrix", matrix) if matrix <= memory else ("memory", memory)


def training_work(
    geometry: Geometry, *, batch: int, projected: set[str], rows: dict[str, float]
) -> Work:
    """The work of one sample of a training step.

    Args:
        batch: samples per step.
        projected: sides whose first-layer product is taken once per row of the table.
        rows: per side, the rows of its tables that a step reads and writes.
    """
    first, *others = _layer_macs(geometry)
    macs = float(sum(others))
    for side in rows:
        macs += first / 2 * (geometry.rows(side) / batch if side in projected else 1)
    width = geometry.mf_dim + geometry.mlp_dim
    dense = sum(_layer_macs(geometry)) + sum(geometry.mlp_layer_sizes[1:])
    parameters = dense + width * sum(rows.values())
    # Forward, gradient of the weights, gradient of the inputs; two operations per product.
    return Work(3 * 2 * macs, STATE_BYTES * parameters / batch)


def evaluation_work(geometry: Geometry, *, candidates: int) -> Work:
    """The work of one pair where the first layer is taken once per user and once per item."""
    first, *others = _layer_macs(geometry)
    pairs = geometry.num_users * candidates
    once = first / 2 * (geometry.num_users + geometry.num_items) / pairs
    return Work(2 * (sum(others) + once), 4 * (geometry.mlp_layer_sizes[1] + geometry.mf_dim))


def machine_limits(*, repeats: int) -> MachineLimits:
    """Matrix rates of 20,480 x 256 x 256 and the bandwidth of a sum of two 128 MB vectors."""

    def best(function: Callable[..., Any], *inputs: Any) -> float:
        compiled = tf.function(function, autograph=False)
        compiled(*inputs)
        seconds = []
        for _ in range(2 * repeats):
            started = time.perf_counter()
            compiled(*inputs)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    rows, size, length = 20_480, 256, 32_000_000
    rates = []
    for dtype in (tf.float32, tf.bfloat16):
        left = tf.cast(tf.random.stateless_normal([rows, size], [1, 2]), dtype)
        seconds = best(tf.matmul, left, left[:size])
        rates.append(2 * rows * size * size / seconds / 1e9)
    vector = tf.Variable(tf.zeros([length]))
    other = tf.ones([length])
    seconds = best(lambda: vector.assign_add(other, read_value=False) and None)
    return MachineLimits(rates[0], rates[1], 3 * 4 * length / seconds / 1e9)


def machine_lines(limits: MachineLimits) -> list[str]:
    """What the machine does at best, in words."""
    lines = [
        f"CPUs {allotment.cpus()}, load {psutil.getloadavg()[0]:.1f}: figures are rough while "
        "other work runs",
        f"matrix rate fp32 {limits.fp32_gflop_per_s:.0f} GFLOP/s, "
        f"bf16 {limits.bf16_gflop_per_s:.0f} GFLOP/s; memory {limits.gbyte_per_s:.1f} GB/s",
    ]
    if not (tf.config.list_physical_devices("GPU") or has_bfloat16()):
        lines.append("bf16: not supported in hardware by this CPU; its rows are emulated")
    return lines


def _layer_macs(geometry: Geometry) -> list[int]:
    sizes = geometry.mlp_layer_sizes
    return [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(sizes)]
