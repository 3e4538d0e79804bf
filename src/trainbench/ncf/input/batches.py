"""Batches that lie in memory and come from no producer: what is measured and tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MemoryBatches:
    """One epoch's input: int32, int32 and uint8 arrays of shape [steps, batch]."""

    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    epoch: int = 0


def random_batches(geometry: tuple[int, int], *, steps: int, batch: int) -> MemoryBatches:
    """``steps`` batches with MovieLens' skew, the same at every call.

    A few active users, and one popular positive to four uniform negatives.
    """
    rng = np.random.default_rng(0)
    users, items = geometry
    activity = rng.gamma(0.7, size=users)
    popularity = 1 / np.arange(10, items + 10)
    shape = (steps, batch)
    positive = rng.random(shape) < 0.2
    liked = rng.choice(items, shape, p=popularity / popularity.sum())
    return MemoryBatches(
        users=rng.choice(users, shape, p=activity / activity.sum()).astype(np.int32),
        items=np.where(positive, liked, rng.integers(0, items, shape)).astype(np.int32),
        labels=positive.astype(np.uint8),
    )
