"""Negatives by place: the same whoever asks, uniform, and never a rated item."""

from __future__ import annotations

import numpy as np
import pytest
from chi_square import chi_square, far_out
from small_cache import cache_of, random_cache

from trainbench.errors import DataIntegrityError
from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.input.stream import draws
from trainbench.ncf.input.stream.draws import Rated, below, key_of, negatives, words
from trainbench.ncf.input.stream.sampling import Purpose, chunk_bounds


def drawn(cache: RatingsCache, rows: np.ndarray, *, seed: int = 3) -> np.ndarray:
    """A negative for each of ``rows``, all of one chunk."""
    bounds = np.array([0, cache.num_users])
    rated = Rated(cache, bounds)
    rated.load(0)
    places = np.arange(len(rows), dtype=np.uint64)
    key = key_of(seed, Purpose.NEGATIVES_BY_PLACE, 0, 0)
    return negatives(rated, key, 0, num_items=cache.num_items, places=places, rows=rows)


def test_words_are_those_of_splitmix64() -> None:
    # The first outputs of Vigna's splitmix64.c for the state 1234567, whose first is of place 1.
    found = words(np.uint64(1234567), np.arange(1, 6, dtype=np.uint64))
    assert found.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 1_000])
def test_numbers_below_a_bound_are_uniform(bound: int) -> None:
    numbers, rejected = below(bound, words(np.uint64(9), np.arange(200_000, dtype=np.uint64)))
    assert numbers.max() < bound
    assert rejected.mean() < 1e-4
    if bound > 1:
        assert chi_square(np.bincount(numbers[~rejected].astype(int), minlength=bound)) < far_out(
            bound - 1
        )


def test_words_that_would_prefer_a_number_are_rejected() -> None:
    # Of the 2**32 words below a bound of 3, one is too many: that whose product's low half is 0.
    upper = np.array([0, 1, 2**31], dtype=np.uint64) << np.uint64(32)
    assert below(3, upper)[1].tolist() == [True, False, False]


def test_a_negative_is_uniform_over_what_its_user_has_not_rated() -> None:
    cache = cache_of([[1, 4, 7], [0]], [2, 3], items=12)
    rows = np.repeat([0, 1], 30_000)
    found = drawn(cache, rows).astype(int)
    for user, rated in ((0, {1, 4, 7}), (1, {0})):
        counts = np.bincount(found[rows == user], minlength=12)
        free = [item for item in range(12) if item not in rated]
        assert counts[sorted(rated)].sum() == 0
        assert chi_square(counts[free]) < far_out(len(free) - 1)


def test_a_user_who_rated_nearly_everything_gets_what_is_left() -> None:
    cache = cache_of([list(range(1_000))], [1_000], items=1_003)
    counts = np.bincount(drawn(cache, np.zeros(30_000, np.int64)).astype(int) - 1_000)
    assert len(counts) == 3
    assert chi_square(counts) < far_out(2)


def test_a_user_who_rated_everything_is_named() -> None:
    cache = cache_of([[0, 1, 2]], [0], items=3)
    with pytest.raises(DataIntegrityError, match=r"user 1000 \(number 0\) has rated all 3 items"):
        drawn(cache, np.zeros(10, np.int64))


def test_any_place_has_its_negative_without_the_others() -> None:
    cache = random_cache(30, 40, seed=2)
    bounds = np.array([0, 30])
    rated = Rated(cache, bounds)
    rated.load(0)
    rows, key = np.repeat(np.arange(30), 20), key_of(1, Purpose.NEGATIVES_BY_PLACE, 0, 0)
    every = np.arange(len(rows), dtype=np.uint64)
    some = np.array([599, 3, 3, 250], dtype=np.uint64)
    all_at_once = negatives(rated, key, 0, num_items=40, places=every, rows=rows)
    alone = negatives(rated, key, 0, num_items=40, places=some, rows=rows[some.astype(int)])
    assert alone.tolist() == all_at_once[some.astype(int)].tolist()


def test_a_chunk_too_wide_for_a_map_is_looked_up_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = random_cache(300, 900, seed=6)
    bounds = chunk_bounds(cache.row_starts, 900, cells=900 * 300)
    assert len(bounds) > 2
    rows = np.repeat(np.arange(100), 50)
    items = np.tile(np.arange(50), 100)
    mapped = Rated(cache, bounds)
    monkeypatch.setattr(draws, "MAP_CELLS", 1 << 12)
    monkeypatch.setattr(draws, "_FILTER_BITS", 12)
    searched = Rated(cache, bounds)
    for chunk in (0, 1, 0):
        monkeypatch.setattr(draws, "MAP_CELLS", 1 << 23)
        mapped.load(chunk)
        monkeypatch.setattr(draws, "MAP_CELLS", 1 << 12)
        searched.load(chunk)
        width = min(100, int(bounds[chunk + 1] - bounds[chunk]))
        some = rows < width
        found = mapped.contain(rows[some], items[some])
        assert found.any()
        assert not found.all()
        assert searched.contain(rows[some], items[some]).tolist() == found.tolist()
