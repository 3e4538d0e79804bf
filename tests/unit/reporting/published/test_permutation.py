"""The permutation test is exact: by enumeration, under the null hypothesis and under a speed-up."""

from __future__ import annotations

from itertools import combinations
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainbench.reporting.published.permutation import p_faster, smallest_p

epochs = st.lists(st.integers(0, 20), min_size=1, max_size=6)


def enumerated(own: list[int], others: list[int]) -> float:
    together = own + others
    sums = [sum(choice) for choice in combinations(together, len(own))]
    return sum(s <= sum(own) for s in sums) / len(sums)


@given(epochs, epochs)
@settings(max_examples=200, deadline=None)
def test_p_is_the_share_of_all_choices_that_are_as_fast(own: list[int], others: list[int]) -> None:
    assert p_faster(own, others) == pytest.approx(enumerated(own, others), rel=1e-9)


@given(st.lists(st.integers(0, 9), min_size=3, max_size=9), st.data())
@settings(max_examples=60, deadline=None)
def test_under_the_null_hypothesis_p_is_uniform(pool: list[int], data: st.DataObject) -> None:
    """Every choice of runs is as probable: a share of at most p has a p-value of at most p.

    Equality holds for every value that occurs, which is as uniform as a discrete value can be.
    """
    number = data.draw(st.integers(1, len(pool) - 1))
    found = []
    for chosen in combinations(range(len(pool)), number):
        own = [pool[i] for i in chosen]
        others = [value for i, value in enumerate(pool) if i not in chosen]
        found.append(p_faster(own, others))
    for p in set(found):
        share = sum(other <= p * (1 + 1e-9) for other in found) / len(found)
        assert share == pytest.approx(p, rel=1e-9)


def test_ties_and_scale_do_not_matter() -> None:
    assert p_faster([5, 5], [5, 5, 5]) == 1.0
    assert p_faster([3], [4, 5, 6]) == p_faster([30], [40, 50, 60]) == 1 / 4


def test_the_smallest_p_is_that_of_a_set_that_is_faster_than_all_others() -> None:
    for own, others in ((1, 100), (5, 5), (3, 60)):
        found = p_faster([1] * own, list(range(2, 2 + others)))
        assert (
            found
            == pytest.approx(smallest_p(own, others))
            == pytest.approx(1 / comb(own + others, own))
        )


def test_large_sets_are_exact_as_well() -> None:
    """500 of the same distribution beside 100; the middle of a symmetric distribution is 1/2."""
    pool = [4, 5, 6, 7, 8] * 20
    assert 0.5 < p_faster(pool * 5, pool) < 0.6
    assert p_faster([v - 1 for v in pool] * 5, pool) < 1e-6


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="one value at least"):
        p_faster([], [1])
