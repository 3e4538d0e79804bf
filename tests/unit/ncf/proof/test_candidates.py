"""Candidates drawn a second time from docs/input.md: those that the producer draws."""

from __future__ import annotations

import numpy as np
import pytest
from small_cache import cache_of, random_cache

from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.input.stream.sampling import CHUNK_USERS, Sampler, chunk_bounds
from trainbench.ncf.proof import candidates

CASES = {
    "few users": random_cache(30, 40, seed=1),
    "users who rated nearly all": random_cache(60, 9, seed=2),
    "one user": cache_of([[0, 1]], [2], 4),
}


def test_many_items_leave_the_producers_chunks_some_users() -> None:
    cache = random_cache(70, 200_000, seed=2, most=4)
    for stream_format, users in ((1, 20), (2, 32)):
        found = list(candidates.drawn(cache, 3, 5, stream_format=stream_format))
        assert found[1][0] == users
        anyway = 1 if stream_format == 1 else CHUNK_USERS
        bounds = chunk_bounds(cache.row_starts, cache.num_items, users_anyway=anyway)
        assert [first for first, _ in found] == bounds[:-1].tolist()


def of_the_producer(cache: RatingsCache, seed: int, negatives: int) -> np.ndarray:
    bounds = chunk_bounds(cache.row_starts, cache.num_items)
    sampler = Sampler(cache, seed, bounds)
    return np.concatenate([sampler.eval_candidates(n, negatives) for n in range(len(bounds) - 1)])


@pytest.mark.parametrize("name", CASES)
def test_the_same_seed_draws_what_the_producer_draws(name: str) -> None:
    cache = CASES[name]
    found = list(candidates.drawn(cache, 11, 50))
    assert [first for first, _ in found] == [0] * len(found)
    rows = np.concatenate([rows for _, rows in found])
    assert (rows == of_the_producer(cache, 11, 50)).all()
    assert (rows != of_the_producer(cache, 12, 50)).any()


def test_users_are_cut_into_the_producers_chunks() -> None:
    """More pairs and more cells than fit one chunk."""
    for users, items, most in ((700, 120, 90), (200, 60_000, 4)):
        cache = random_cache(users, items, seed=5, most=most)
        found = list(candidates.drawn(cache, 3, 5))
        bounds = chunk_bounds(cache.row_starts, cache.num_items)
        assert len(found) > 1
        assert [first for first, _ in found] == bounds[:-1].tolist()
        rows = np.concatenate([rows for _, rows in found])
        assert (rows == of_the_producer(cache, 3, 5)).all()
