"""Random candidates, the same at every call: what the tables of NCF are measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RandomCandidates:
    """Uniform candidates for the first users: int32 [users, negatives + 1]."""

    items: np.ndarray


def random_candidates(num_items: int, *, users: int, negatives: int) -> RandomCandidates:
    """Candidates of ``users`` users, the same at every call."""
    shape = (users, negatives + 1)
    return RandomCandidates(np.random.default_rng(0).integers(0, num_items, shape).astype(np.int32))
