"""Negatives: what is drawn, for whom, and how often."""

from __future__ import annotations

import numpy as np
import pytest
from chi_square import chi_square, far_out
from small_cache import cache_of, random_cache

from trainbench.errors import DataIntegrityError
from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.input.stream.sampling import Purpose, Sampler, chunk_bounds, stream


def sampler(cache: RatingsCache, seed: int = 7) -> Sampler:
    return Sampler(cache, seed, chunk_bounds(cache.row_starts, cache.num_items))


def test_chunks_cover_every_user_once_and_keep_their_limits() -> None:
    cache = random_cache(200, 50, seed=3)
    bounds = chunk_bounds(cache.row_starts, 50, cells=500, pairs=120)
    assert bounds[0] == 0
    assert bounds[-1] == 200
    widths, pairs = np.diff(bounds), np.diff(cache.row_starts[bounds])
    assert (widths >= 1).all()
    assert (widths <= 10).all()
    assert ((pairs <= 120) | (widths == 1)).all()


def test_user_with_more_ratings_than_a_chunk_holds_gets_a_chunk_alone() -> None:
    cache = cache_of([[0], list(range(30)), [1]], [40, 41, 42], items=50)
    assert chunk_bounds(cache.row_starts, 50, pairs=10).tolist() == [0, 1, 2, 3]


def test_no_training_negative_is_a_training_positive() -> None:
    cache = random_cache(40, 30, seed=1)
    drawn = sampler(cache).train_negatives(0, 0, 4)
    rated = set(zip(cache.users.tolist(), cache.items.tolist(), strict=True))
    users = np.repeat(cache.users, 4).tolist()
    assert len(drawn) == 4 * cache.num_train
    assert not rated & set(zip(users, drawn.tolist(), strict=True))


def test_held_out_item_can_be_a_training_negative() -> None:
    cache = cache_of([[0, 1]], [2], items=4)
    drawn = sampler(cache).train_negatives(0, 0, 100)
    assert set(drawn.tolist()) == {2, 3}


def test_negatives_are_uniform_over_the_unrated_items() -> None:
    cache = cache_of([[1, 4, 7], [0]], [2, 3], items=12)
    draws = sampler(cache)
    drawn = np.concatenate([draws.train_negatives(e, 0, 4)[:12] for e in range(3_000)])
    counts = np.bincount(drawn, minlength=12)
    unrated = np.delete(counts, [1, 4, 7])
    assert counts[[1, 4, 7]].sum() == 0
    assert chi_square(unrated) < far_out(unrated.size - 1)


def test_negatives_stay_uniform_where_nearly_everything_is_rated() -> None:
    items = 4_000
    free = [17, 1_000, 3_999]
    rated = [item for item in range(items) if item not in free]
    drawn = sampler(cache_of([rated], [17], items)).train_negatives(0, 0, 4)
    counts = np.array([(drawn == item).sum() for item in free])
    assert counts.sum() == 4 * len(rated)
    assert chi_square(counts) < far_out(2)


def test_user_who_rated_everything_is_named() -> None:
    cache = cache_of([[0], [0, 1, 2]], [1, 0], items=3)
    with pytest.raises(DataIntegrityError, match=r"user 1001 \(number 1\) has rated all 3 items"):
        sampler(cache).train_negatives(0, 0, 4)


def test_sampler_forgets_one_chunk_before_the_next() -> None:
    cache = random_cache(30, 20, seed=5)
    bounds = chunk_bounds(cache.row_starts, 20, cells=60)
    alone = [Sampler(cache, 7, bounds).train_negatives(0, c, 4) for c in range(len(bounds) - 1)]
    one = Sampler(cache, 7, bounds)
    for chunk in reversed(range(len(bounds) - 1)):
        assert (one.train_negatives(0, chunk, 4) == alone[chunk]).all()


def test_epochs_draw_anew() -> None:
    cache = random_cache(40, 300, seed=1)
    draws = sampler(cache)
    first, second = (draws.train_negatives(epoch, 0, 4) for epoch in (0, 1))
    assert (first != second).mean() > 0.9


def test_held_out_item_is_last_in_its_users_evaluation_row() -> None:
    cache = random_cache(40, 30, seed=2)
    candidates = sampler(cache).eval_candidates(0, 99)
    assert candidates.shape == (40, 100)
    assert (candidates[:, -1] == cache.test_items).all()


def test_evaluation_negatives_are_unrated_in_training() -> None:
    cache = random_cache(40, 30, seed=2)
    candidates = sampler(cache).eval_candidates(0, 99)
    for user, row in enumerate(candidates):
        start, end = cache.row_starts[user : user + 2]
        assert not set(row[:-1].tolist()) & set(cache.items[start:end].tolist())


def test_evaluation_negatives_repeat_and_meet_the_held_out_item_as_often_as_any() -> None:
    cache = cache_of([[0, 1]] * 50, [5] * 50, items=12)
    drawn = sampler(cache).eval_candidates(0, 999)[:, :-1]
    counts = np.bincount(drawn.ravel(), minlength=12)
    assert chi_square(counts[2:]) < far_out(9)


def test_streams_of_other_purposes_epochs_and_parts_differ() -> None:
    keys = [(p, e, c) for p in Purpose for e in range(3) for c in range(3)]
    first = [int(stream(1, *key).integers(2**63)) for key in keys]
    assert len(set(first)) == len(keys)
    assert first[0] == int(stream(1, *keys[0]).integers(2**63))
