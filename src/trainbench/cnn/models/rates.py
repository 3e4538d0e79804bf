"""Learning rate schedules of the models, in float32 as TensorFlow 1 computed them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StepRate:
    """A rate that falls at given epochs.

    Attributes:
        base: the rate at a batch of ``base_batch`` images, or at any batch when that is ``None``.
        factors: of the base, one more than ``epochs``.
        epochs: where the factor changes; the boundary step itself still has the old one.
        warmup_epochs: the rate rises linearly from 0 over these.
        whole_batches: count the steps of an epoch without the incomplete batch.
    """

    base: float
    factors: tuple[float, ...]
    epochs: tuple[int, ...]
    base_batch: int | None = None
    warmup_epochs: int = 0
    whole_batches: bool = False

    def __call__(
        self, global_step: int, global_batch: int, num_examples: int, *, peak: float | None = None
    ) -> float:
        """The rate of a step; ``peak`` replaces the base, already scaled to the batch."""
        steps = num_examples / global_batch
        if peak is None:
            peak = self.base * (global_batch / self.base_batch if self.base_batch else 1)
        warmup = int(steps * self.warmup_epochs)
        if global_step < warmup:
            return float(np.float32(peak * global_step / warmup))
        if self.whole_batches:
            steps = int(steps)
        boundaries = [int(steps * epoch) for epoch in self.epochs]
        return float(np.float32(peak * self.factors[bisect_left(boundaries, global_step)]))


@dataclass(frozen=True)
class StaircaseRate:
    """A rate multiplied by ``factor`` every ``epochs`` epochs."""

    base: float
    factor: float
    epochs: int

    def __call__(
        self, global_step: int, global_batch: int, num_examples: int, *, peak: float | None = None
    ) -> float:
        """The rate of a step; ``peak`` replaces the base."""
        fallen = global_step // max(self.epochs * num_examples // global_batch, 1)
        start = np.float32(self.base if peak is None else peak)
        return float(start * np.power(np.float32(self.factor), np.float32(fallen)))


ModelRate = StepRate | StaircaseRate
