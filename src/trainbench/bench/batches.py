"""Random input of a geometry, the same at every call: what the tables of NCF are measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainbench.ncf.input.batches import MemoryBatches


@dataclass(frozen=True)
class RandomCandidates:
    """Uniform candidates for the first users: int32 [users, negatives + 1]."""

    items: np.ndarray


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


def random_candidates(num_items: int, *, users: int, negatives: int) -> RandomCandidates:
    """Candidates of ``users`` users, the same at every call."""
    shape = (users, negatives + 1)
    return RandomCandidates(np.random.default_rng(0).integers(0, num_items, shape).astype(np.int32))
