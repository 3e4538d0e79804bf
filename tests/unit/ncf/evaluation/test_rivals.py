"""Claims about the ranking of held-out items: the reference's semantics, to the last tie."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ncf import reference_rank

from trainbench.ncf.evaluation.evaluator import ranks
from trainbench.ncf.evaluation.rivals import rivals


def our_ranks(rows: list[list[int]], score_of: dict[int, float]) -> list[int]:
    against = rivals(np.array(rows, np.int32))
    held_out = np.array(rows, np.int32)[:, -1:]
    ids = np.concatenate([against.items, held_out], axis=1)
    scores = np.vectorize(lambda item: score_of.get(item, 1e9))(ids).astype(np.float32)
    return list(ranks(tf.constant(scores), tf.constant(against.code)).numpy())


@st.composite
def rows_with_repeats_and_ties(draw: st.DrawFn) -> tuple[list[list[int]], dict[int, float]]:
    num_items = draw(st.integers(1, 30))
    width = draw(st.integers(1, 40))
    item = st.integers(0, num_items - 1)
    rows = draw(st.lists(st.lists(item, min_size=width, max_size=width), min_size=1, max_size=4))
    scores = draw(st.lists(st.integers(0, 4), min_size=num_items, max_size=num_items))
    return rows, {i: float(score) for i, score in enumerate(scores)}


@settings(max_examples=100, deadline=None)
@given(rows_with_repeats_and_ties())
def test_rank_is_the_references_for_any_repeats_and_ties(
    case: tuple[list[list[int]], dict[int, float]],
) -> None:
    rows, score_of = case
    for row, found in zip(rows, our_ranks(rows, score_of), strict=True):
        expected = reference_rank(row, score_of)
        assert found == expected if expected is not None else found >= 10


def test_held_out_item_loses_ties() -> None:
    assert our_ranks([[1, 2, 3, 0]], {0: 5.0, 1: 5.0, 2: 4.0, 3: 5.0}) == [2]


def test_held_out_item_among_the_negatives_holds_that_earlier_place() -> None:
    assert our_ranks([[1, 0, 3, 0]], {0: 5.0, 1: 5.0, 3: 5.0}) == [1]


def test_repeated_negatives_count_once() -> None:
    assert our_ranks([[1, 1, 1, 2, 2, 0]], {0: 0.0, 1: 9.0, 2: 9.0}) == [2]


def test_item_numbers_too_large_for_32_bit_keys_rank_alike() -> None:
    row = np.array([[2_000_000, 7, 2_000_000, 7, 1_999_999]], np.int32)
    row = np.repeat(row, 1_000, axis=1)
    row[0, -1] = 5
    against = rivals(row)
    assert sorted(against.items[0].tolist()) == [7, 1_999_999, 2_000_000]


def test_few_candidates_are_counted_and_tell_what_a_guess_finds() -> None:
    against = rivals(np.array([[*range(19), 19], [*range(9)] * 2 + [7, 9]], np.int32))
    assert against.count.tolist() == [19, 9]
    assert against.sure_hits == 1
    assert against.guessed_hit_rate == pytest.approx((10 / 20 + 1) / 2)
