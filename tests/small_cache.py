"""Caches of a handful of users, in memory or on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainbench.movielens.cache import RatingsCache, open_cache, write_cache
from trainbench.ncf.config import NcfConfig, reference


def cache_of(rated: Sequence[Sequence[int]], held_out: Sequence[int], items: int) -> RatingsCache:
    """A cache whose user ``u`` has rated ``rated[u]`` in training and has id ``1000 + u``."""
    starts = np.zeros(len(rated) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rated], out=starts[1:])
    return RatingsCache(
        folder=Path("cache/small"),
        key="small",
        num_users=len(rated),
        num_items=items,
        users=np.repeat(np.arange(len(rated), dtype=np.int32), np.diff(starts)),
        items=np.array([item for row in rated for item in row], dtype=np.int32),
        row_starts=starts,
        test_items=np.array(held_out, dtype=np.int32),
        user_ids=np.arange(1000, 1000 + len(rated)),
        item_ids=np.arange(items),
        record={},
    )


def random_cache(users: int, items: int, *, seed: int = 0, most: int | None = None) -> RatingsCache:
    """Users who rated 1 to ``most`` distinct items in training and one more that is held out."""
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(items)[: rng.integers(2, (most or items - 2) + 2)] for _ in range(users)
    ]
    return cache_of([row[:-1].tolist() for row in rows], [int(row[-1]) for row in rows], items)


def on_disk(cache: RatingsCache, folder: Path) -> RatingsCache:
    """The same cache, written to ``folder`` and opened from there."""
    names = ("users", "items", "row_starts", "test_items", "user_ids", "item_ids")
    write_cache(folder, {name: getattr(cache, name) for name in names}, {})
    return open_cache(folder, verify=True)


def small_config(**changes: object) -> NcfConfig:
    """A configuration for few ratings, in this process unless ``use_subprocess`` says otherwise."""
    base = replace(reference(), batch_size=32, eval_negatives=9, max_epochs=3, use_subprocess=False)
    return replace(base, **changes)  # type: ignore[arg-type]
