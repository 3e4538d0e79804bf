"""What the machine does at best: the rate of a matrix product, and of a pass over memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import tensorflow as tf

ROWS, SIZE, LENGTH = 20_480, 256, 32_000_000
"""Of a product in a step of NCF, and numbers in a vector of 128 MB."""


@dataclass(frozen=True)
class MachineLimits:
    """What the machine does at best, as measured here."""

    fp32_gflop_per_s: float
    bf16_gflop_per_s: float
    gbyte_per_s: float

    def or_better(self, other: MachineLimits) -> MachineLimits:
        """The higher of two measurements of each: what disturbs only lowers them."""
        return MachineLimits(*map(max, astuple(self), astuple(other)))

    def gflop_per_s(self, precision: str) -> float:
        """The matrix rate in a number format."""
        return self.bf16_gflop_per_s if precision == "bf16" else self.fp32_gflop_per_s


def machine_limits(*, repeats: int) -> MachineLimits:
    """Matrix rates of both number formats, and the bandwidth."""
    fp32, bf16 = (matrix_gflop_per_s(name, repeats=repeats) for name in ("fp32", "bf16"))
    return MachineLimits(fp32, bf16, memory_gbyte_per_s(repeats=repeats))


def matrix_gflop_per_s(
    precision: str, *, repeats: int, rows: int = ROWS, size: int = SIZE
) -> float:
    """The rate of ``rows`` x ``size`` x ``size`` on the device of the context."""
    dtype = tf.bfloat16 if precision == "bf16" else tf.float32
    left = tf.cast(tf.random.stateless_normal([rows, size], [1, 2]), dtype)
    seconds = _best(lambda one, other: tf.matmul(one, other)[0, 0], repeats, left, left[:size])
    return 2 * rows * size * size / seconds / 1e9


def memory_gbyte_per_s(*, repeats: int, length: int = LENGTH) -> float:
    """The bandwidth of a sum of two vectors of ``length`` float32: two are read, one is written."""
    vector, other = tf.Variable(tf.zeros([length])), tf.ones([length])
    seconds = _best(lambda: vector.assign_add(other)[0], repeats)
    return 3 * 4 * length / seconds / 1e9


def _best(function: Callable[..., Any], repeats: int, *inputs: Any) -> float:
    """Seconds of the fastest call; its number is fetched, so that a GPU has done the work."""
    compiled = tf.function(function, autograph=False)
    compiled(*inputs).numpy()
    seconds = []
    for _ in range(2 * repeats):
        started = time.perf_counter()
        compiled(*inputs).numpy()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
