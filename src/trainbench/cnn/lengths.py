"""How long a run is: batches, epochs, warm-up, and the steps after which it is evaluated."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainbench.cnn.flags.params import ParamError, Params
from trainbench.cnn.rules import check_length

DEFAULT_NUM_BATCHES = 100
DEFAULT_NUM_WARMUP_BATCHES = 10


@dataclass(frozen=True)
class Length:
    """How many steps, and how many epochs they come to."""

    num_batches: int
    num_epochs: float


def length(params: Params, global_batch: int, num_examples: int) -> Length:
    """Steps and epochs of a run over ``num_examples`` images, ``global_batch`` at a time.

    Epochs are rounded up to whole steps.

    Raises:
        ParamError: both ``num_batches`` and ``num_epochs`` are given.
    """
    check_length(params)
    if params.num_epochs:
        num_batches = whole_steps(params.num_epochs, global_batch, num_examples)
    else:
        num_batches = params.num_batches or DEFAULT_NUM_BATCHES
    return Length(num_batches, num_batches * global_batch / num_examples)


def eval_length(params: Params, global_batch: int, num_examples: int) -> Length:
    """The same for an evaluation; training's flags hold where its own are not given."""
    if params.num_eval_batches is not None or params.num_eval_epochs is not None:
        params = params.replace(
            num_batches=params.num_eval_batches, num_epochs=params.num_eval_epochs
        )
    return length(params, global_batch, num_examples)


def whole_steps(epochs: float, global_batch: int, num_examples: int) -> int:
    """Steps that hold at least ``epochs`` epochs."""
    return int(epochs * num_examples + global_batch - 1) // global_batch


def warmup_steps(params: Params) -> int:
    """Steps before the clock starts.

    cuDNN tries its algorithms ``autotune_threshold`` times, which a benchmark must not time.
    """
    if params.num_warmup_batches is not None:
        return int(params.num_warmup_batches)
    threshold = params.autotune_threshold or 1
    return max(DEFAULT_NUM_WARMUP_BATCHES, 5 * threshold * threshold)


def rounded_warmup(steps: int, group: int, stages: int) -> int:
    """``steps`` raised until the clock starts at the start of a group of batches.

    Args:
        group: ``batch_group_size``.
        stages: batches that the input pipeline holds on its way to the devices.
    """
    return -(-(steps + stages - 1) // group) * group - stages + 1


def eval_steps(params: Params, global_batch: int, num_examples: int, num_epochs: float) -> set[int]:
    """The steps after which training pauses to be evaluated, by any flag but every_n_steps.

    Raises:
        ParamError: a list that is not of numbers.
    """
    if params.eval_during_training_every_n_epochs:
        every = params.eval_during_training_every_n_epochs
        epochs: Collection[float] = np.arange(every, num_epochs, every)
    elif params.eval_during_training_at_specified_epochs:
        epochs = _numbers(params, "eval_during_training_at_specified_epochs", float, "floats")
    else:
        return set(_numbers(params, "eval_during_training_at_specified_steps", int, "integers"))
    return {whole_steps(epoch, global_batch, num_examples) for epoch in epochs}


def _numbers(params: Params, name: str, kind: type, plural: str) -> list[Any]:
    value = getattr(params, name)
    try:
        return [kind(part) for part in value]
    except (TypeError, ValueError):
        raise ParamError(
            f"Param {name} value of {list(value)} cannot be converted to a list of {plural}."
        ) from None
