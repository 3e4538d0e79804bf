"""The second ranking: the reference's dictionary, and what errors can make of a rank."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainbench.ncf.proof.ranking import TOP, place


def reference_hit(items: list[int], scores: list[float]) -> bool:
    """ncf.py of the v0.5 reference: a dictionary by item, of which the ten largest are taken."""
    by_item = dict(zip(items, scores, strict=True))
    return items[-1] in heapq.nlargest(TOP, by_item, key=by_item.__getitem__)


def placed(items: list[int], scores: list[float], error: float = 0.0):  # type: ignore[no-untyped-def]
    numbers = np.array(scores, np.float64)
    return place(np.array(items), numbers, np.full(len(items), error))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_hit_is_one_of_the_reference_for_any_repeats_and_ties(data: st.DataObject) -> None:
    num_items = data.draw(st.integers(1, 30))
    items = data.draw(st.lists(st.integers(0, num_items - 1), min_size=1, max_size=40))
    of_item = data.draw(st.lists(st.integers(0, 4), min_size=num_items, max_size=num_items))
    scores = [float(of_item[item]) for item in items]
    found = placed(items, scores)
    assert found.hit == reference_hit(items, scores)
    assert found.lowest <= found.rank <= found.highest


def test_repeats_count_once_and_the_held_out_item_loses_ties() -> None:
    assert placed([1, 1, 1, 2, 2, 0], [9, 9, 9, 9, 9, 5]).rank == 2
    assert placed([1, 2, 3, 0], [5, 4, 5, 5]).rank == 2


def test_a_held_out_item_that_was_also_drawn_holds_the_earlier_place() -> None:
    assert placed([1, 0, 3, 0], [5, 5, 5, 5]).rank == 1


def test_errors_widen_the_ranks_that_can_be() -> None:
    items, scores = [1, 2, 3, 4, 0], [4.0, 3.0, 2.9, 1.0, 3.0]
    exact, wide = placed(items, scores), placed(items, scores, 0.1)
    assert (exact.lowest, exact.rank, exact.highest) == (1, 2, 2)
    assert (wide.lowest, wide.rank, wide.highest) == (1, 2, 3)
    assert [rank for rank in range(5) if wide.can_be(rank)] == [1, 2, 3]


def test_the_margin_is_the_distance_to_the_tenth_best_rival() -> None:
    rivals = [20.0 - n for n in range(15)]
    hit, missed = (
        placed([*range(1, 16), 0], [*rivals, 11.5]),
        placed([*range(1, 16), 0], [*rivals, 10.5]),
    )
    assert (hit.rank, hit.margin, hit.hit) == (9, pytest.approx(0.5), True)
    assert (missed.rank, missed.margin, missed.hit) == (10, pytest.approx(-0.5), False)
    assert placed([1, 2, 0], [3.0, 2.0, 1.0]).margin == np.inf


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_score_or_an_error_that_is_not_finite_decides_no_rank(wrong: float) -> None:
    items, finite = np.arange(30), np.linspace(0, 1, 30)
    one_wrong = np.where(items == 3, wrong, finite)
    for found in (place(items, one_wrong, finite), place(items, finite, one_wrong)):
        assert not found.hit
        assert (found.lowest, found.highest, found.bound) == (0, 29, np.inf)
