"""The learning rate of each step, in float32 as TensorFlow 1 computed it.

Priority: the piecewise schedule, then ``init_learning_rate`` with its decay, then the model's own.
The linear warm-up of ``num_learning_rate_warmup_epochs`` goes with the first two.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainbench.cnn.flags.params import ParamError, Params

Rate = Callable[[int], float]
"""Global step to learning rate; the value is exact in float32."""


@dataclass(frozen=True)
class Horizon:
    """What a schedule is stretched over.

    Attributes:
        batches_per_epoch: a fraction where the batch does not divide the images.
        total_steps: steps of the whole run, warm-up included.
    """

    batches_per_epoch: float
    total_steps: int


def rate(params: Params, horizon: Horizon, *, model_rate: Rate) -> Rate:
    """The schedule that ``params`` ask for, or ``model_rate`` when they ask for none.

    Raises:
        ParamError: a malformed schedule, or two schedules at once.
    """
    start = params.init_learning_rate
    if params.piecewise_learning_rate_schedule:
        values, epochs = piecewise_parts(params, params.piecewise_learning_rate_schedule)
        main, start = _piecewise(values, epochs, horizon.batches_per_epoch), values[0]
    elif start is not None:
        main = _from_initial(params, start, horizon)
    else:
        return lambda step: float(np.float32(model_rate(step)))
    warmup = int(horizon.batches_per_epoch * params.num_learning_rate_warmup_epochs)
    return _warmed(main, start, warmup) if warmup > 0 else main


def piecewise_parts(params: Params, schedule: str) -> tuple[list[float], list[int]]:
    """Rates and whole epochs of ``schedule``, the ``--piecewise_learning_rate_schedule``.

    Raises:
        ParamError: an even number of parts, a part that is not a number, another schedule as well.
    """
    if (
        params.init_learning_rate is not None
        or params.learning_rate_decay_factor
        or params.minimum_learning_rate
        or params.num_epochs_per_decay
    ):
        raise ParamError(
            "No other learning rate-related flags can be specified if "
            "--piecewise_learning_rate_schedule is specified"
        )
    pieces = schedule.split(";")
    if len(pieces) % 2 == 0:
        raise ParamError("--piecewise_learning_rate_schedule must have an odd number of components")
    values = [_number(piece, float, "learning rate") for piece in pieces[::2]]
    return values, [_number(piece, int, "epoch") for piece in pieces[1::2]]


def scaled_base_rate(params: Params, global_batch: int, base: float = 0.128) -> float:
    """ResNet's rate at a global batch of ``global_batch``: linear in it, from 256.

    A sum of gradients over devices is ``num_gpus`` times their mean, so replicated divides.
    """
    if params.resnet_base_lr is not None:
        base = params.resnet_base_lr
    scaled = base * global_batch / 256
    return scaled / params.num_gpus if params.variable_update == "replicated" else scaled


def model_rate(params: Params, model: Any, global_batch: int, num_examples: int) -> Rate:
    """The schedule that ``model`` brings along, for a global batch of ``global_batch``."""
    schedule = getattr(model, "learning_rate_fn", None)
    if schedule is None:
        return lambda step: float(model.default_learning_rate)
    if not getattr(model, "scales_rate", False):
        return lambda step: float(schedule(step, global_batch, num_examples))
    peak = scaled_base_rate(params, global_batch, model.default_learning_rate)
    return lambda step: float(schedule(step, global_batch, num_examples, peak=peak))


def polynomial(start: float, end: float, steps: int, power: float) -> Rate:
    """From ``start`` to ``end`` in ``steps`` steps by ``(1 - step/steps) ** power``."""

    def value(step: int) -> float:
        left = 1 - min(step, steps) / steps
        return float(np.float32((start - end) * left**power + end))

    return value


def cosine(start: float, end: float, steps: int) -> Rate:
    """From ``start`` to ``end`` in ``steps`` steps by half a period of the cosine."""

    def value(step: int) -> float:
        share = 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
        return float(np.float32((start - end) * share + end))

    return value


def _from_initial(params: Params, start: float, horizon: Horizon) -> Rate:
    if params.learning_rate_decay:
        return _falling(params, start, horizon)
    if params.num_epochs_per_decay > 0 and params.learning_rate_decay_factor > 0:
        steps = max(int(horizon.batches_per_epoch * params.num_epochs_per_decay), 1)
        factor = np.float32(params.learning_rate_decay_factor)
        floor = np.float32(params.minimum_learning_rate or -np.inf)
        return lambda step: float(
            max(np.float32(start) * np.power(factor, np.float32(step // steps)), floor)
        )
    return lambda step: float(np.float32(start))


def _falling(params: Params, start: float, horizon: Horizon) -> Rate:
    warmup = int(horizon.batches_per_epoch * params.num_learning_rate_warmup_epochs)
    epochs = params.learning_rate_decay_epochs
    last = horizon.total_steps if epochs is None else int(horizon.batches_per_epoch * epochs)
    steps = max(last - warmup, 1)
    end = params.end_learning_rate
    if params.learning_rate_decay == "cosine":
        curve = cosine(start, end, steps)
    else:
        curve = polynomial(start, end, steps, params.polynomial_power)
    return lambda step: curve(max(step - warmup, 0))


def _piecewise(values: list[float], epochs: list[int], batches_per_epoch: float) -> Rate:
    # The first step of an epoch already has the epoch's rate: a boundary is the step before it.
    boundaries = [int(epoch * batches_per_epoch) - 1 for epoch in epochs]
    return lambda step: float(np.float32(values[bisect.bisect_left(boundaries, step)]))


def _warmed(main: Rate, start: float, warmup: int) -> Rate:
    def value(step: int) -> float:
        if step >= warmup:
            return main(step)
        return float(np.float32(start * step / warmup))

    return value


def _number(text: str, kind: Callable[[str], Any], what: str) -> Any:
    try:
        value = kind(text)
        if not math.isfinite(value):
            raise ValueError
    except (ValueError, OverflowError):
        raise ParamError(f"Invalid {what}: {text}") from None
    return value
