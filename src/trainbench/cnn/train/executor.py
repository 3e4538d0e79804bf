"""How a step is run: compiled here, with equal workers, by those of a coordinator, or frozen.

Nothing changes the weights of a run of forward passes. As constants they are folded with their
normalization, and brought into the order in memory that the kernels read, once instead of in
every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from trainbench.cnn.input.batches import Batch
from trainbench.cnn.train.step import Step
from trainbench.distribution.collectives import Collectives

Function = Callable[..., Any]

# A graph holds 2 GiB at most, and the weights pass through several of them.
LARGEST_BYTES = 1 << 30


def compiled(function: Function) -> Any:
    """``function`` as a graph that this process runs, a ``tf.function``."""
    return tf.function(function, autograph=False)


@dataclass(frozen=True)
class Executor:
    """The functions of a ``Step``, ready to be called: batches in, numbers out."""

    train: Any
    train_with_gradients: Any
    infer: Any
    score: Any

    @classmethod
    def of(cls, step: Step, run: Callable[[Function], Function] = compiled) -> Executor:
        """``run`` makes of each function of ``step`` the one that is called; none is traced yet."""
        return cls(
            train=run(step.train),
            train_with_gradients=run(step.train_with_gradients),
            infer=run(step.infer),
            score=run(step.score),
        )

    @classmethod
    def collective(cls, step: Step, workers: Collectives) -> Executor:
        """This process is one of ``workers``, which train together."""
        # One function for all steps: workers that ran different ones would wait for ever.
        both = compiled(workers.replica(step.train_with_gradients))
        alone = compiled(step.infer), compiled(step.score)
        return cls(lambda *args: both(*args)[0], both, *alone)

    def frozen(self, batches: list[Batch]) -> tuple[Executor, Any]:
        """The same with a forward pass without variables, for batches like ``batches``.

        Also returns its graph, whose inputs are the images and labels of each device in turn.
        """
        traced = self.infer.get_concrete_function(batches)
        names = sorted(traced.structured_outputs)
        constant = convert_variables_to_constants_v2(traced)

        def infer(batches: list[Batch]) -> dict[str, Any]:
            return dict(zip(names, constant(*tf.nest.flatten(batches)), strict=True))

        return replace(self, infer=infer), constant.graph


def weight_bytes(step: Step) -> int:
    """What the weights take, of all copies."""
    variables = [v for copy in step.copies for v in (*copy.trainable, *copy.state)]
    return int(sum(v.shape.num_elements() * v.dtype.size for v in variables))


def can_be_frozen(step: Step) -> bool:
    """Whether the weights are few enough to be constants of a graph."""
    return weight_bytes(step) <= LARGEST_BYTES
