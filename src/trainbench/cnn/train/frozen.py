"""The forward pass with constant weights.

Nothing changes the weights of a run of forward passes. As constants they are folded with their
normalization, and brought into the order in memory that the kernels read, once instead of in
every step.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from trainbench.cnn.train.step import Batch, Step

# A graph holds 2 GiB at most, and the weights pass through several of them.
LARGEST_BYTES = 1 << 30


def freeze(step: Step, batches: list[Batch]) -> Any:
    """Make the forward pass of ``step`` one without variables, for batches like ``batches``.

    Returns the graph, whose inputs are the images and labels of each device in turn.
    """
    traced = step.infer.get_concrete_function(batches)
    names = sorted(traced.structured_outputs)
    frozen = convert_variables_to_constants_v2(traced)

    def infer(batches: list[Batch]) -> dict[str, Any]:
        return dict(zip(names, frozen(*tf.nest.flatten(batches)), strict=True))

    step.infer = infer
    return frozen.graph


def fits(step: Step) -> bool:
    """Whether the weights are few enough to be constants of a graph."""
    variables = [v for copy in step.copies for v in (*copy.trainable, *copy.state)]
    return bool(sum(v.shape.num_elements() * v.dtype.size for v in variables) <= LARGEST_BYTES)
