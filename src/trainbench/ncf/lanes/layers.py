"""The dense layers and their gradients, written out for TensorFlow's graph.

The products are operations of the graph, which oneDNN computes (bfloat16 in hardware, where the CPU
can) and Grappler fuses with bias and rectifier. What lies between them is compiled by XLA.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import tensorflow as tf

from trainbench.ncf.lanes.numbers import through_rectifier
from trainbench.ncf.model import Geometry


class Gradients(NamedTuple):
    """Gradients of one chunk of samples, in the dtype of the layers."""

    rows: Any
    dense: dict[str, Any]


class Layers:
    """The hidden layers on [samples, first size] rows, forward and backward."""

    def __init__(self, geometry: Geometry, *, xla: bool) -> None:
        self.numbers = range(1, len(geometry.mlp_layer_sizes))
        self._masked = tf.function(through_rectifier, jit_compile=xla, autograph=False)

    def hidden(self, dense: dict[str, Any], rows: Any) -> list[Any]:
        """``rows`` and the output of every layer after its rectifier."""
        return hidden_layers(dense, rows, self.numbers)

    def gradients(self, dense: dict[str, Any], hidden: list[Any], gradient: Any) -> Gradients:
        """Gradients of the rows and of every layer; ``gradient`` is that of the last output."""
        ones = tf.ones([1, hidden[0].shape[0]], gradient.dtype)
        found = {}
        for number in reversed(self.numbers):
            below, kernel = hidden[number - 1], f"mlp_{number}_kernel"
            gradient = self._masked(gradient, hidden[number])
            found[kernel] = tf.matmul(below, gradient, transpose_a=True)
            # As a product it takes less than half the time of a sum over the samples.
            found[f"mlp_{number}_bias"] = tf.matmul(ones, gradient)[0]
            gradient = tf.matmul(gradient, dense[kernel], transpose_b=True)
        return Gradients(gradient, found)


def hidden_layers(dense: dict[str, Any], rows: Any, numbers: Iterable[int]) -> list[Any]:
    """``rows`` and the outputs of the layers ``numbers``, each after its rectifier."""
    found = [rows]
    for number in numbers:
        sums = tf.matmul(found[-1], dense[f"mlp_{number}_kernel"])
        found.append(tf.nn.relu(tf.nn.bias_add(sums, dense[f"mlp_{number}_bias"])))
    return found
