"""Adam as PyTorch has it: dense, bias-corrected, epsilon added outside the square root.

Source: Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainbench.config import NcfConfig


@dataclass(frozen=True)
class Adam:
    """The hyperparameters; the learning rate is constant, as the closed division asks."""

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float

    @classmethod
    def of(cls, config: NcfConfig) -> Adam:
        """The hyperparameters of ``config``."""
        return cls(config.learning_rate, config.beta1, config.beta2, config.epsilon)

    def scales(self, step: Any) -> tuple[Any, Any]:
        """Bias corrections of step ``step`` (from 1): lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t).

        In float64, because 1 - 0.999 has four digits left in float32.
        """
        time = tf.cast(step, tf.float64)
        first = self.learning_rate / -tf.math.expm1(time * _log(self.beta1))
        second = tf.math.rsqrt(-tf.math.expm1(time * _log(self.beta2)))
        return tf.cast(first, tf.float32), tf.cast(second, tf.float32)

    def update(self, scales: tuple[Any, Any], value: Any, m: Any, v: Any, grad: Any) -> Any:
        """New (value, m, v) after one step with gradient ``grad``; all float32 of one shape."""
        m = self.beta1 * m + (1 - self.beta1) * grad
        v = self.beta2 * v + (1 - self.beta2) * grad * grad
        value -= scales[0] * m / (tf.sqrt(v) * scales[1] + self.epsilon)
        return value, m, v


def _log(beta: float) -> float:
    # exp(-1e4) is 0 even after one step, and stays finite where log(0) would not.
    return math.log(beta) if beta > 0 else -1e4
