"""The step test: what it marks, and how seldom it marks what is nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainbench.history.changes import LEAST_RUNS, intervals, stands_out, steps


def normal(rng: np.random.Generator, number: int, noise: float = 0.01) -> np.ndarray:
    return 100 * (1 + noise * rng.standard_normal(number))


def indices(values: np.ndarray) -> list[int]:
    return [step.index for step in steps(values.tolist())]


NOISES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": normal,
    "heavy tails": lambda rng, n: 100 * np.exp(0.01 * rng.standard_t(3, n)),
    "skewed": lambda rng, n: 100 * (1 + 0.02 * rng.exponential(1, n)),
    "one in fifty 30 % slower": lambda rng, n: (
        normal(rng, n) * np.where(rng.random(n) < 0.02, 1.3, 1)
    ),
    "rounded": lambda rng, n: np.round(10 * (1 + 0.01 * rng.standard_normal(n)), 1),
    "two values": lambda rng, n: 10 + 0.1 * (rng.random(n) < 0.5),
    "seldom another value": lambda rng, n: 10 + 0.1 * (rng.random(n) < 0.07),
    "whole epochs": lambda rng, n: rng.choice([6.0, 7.0, 8.0], n, p=[0.6, 0.3, 0.1]),
}


@pytest.mark.parametrize("number", [8, 10, 30])
def test_equal_runs_are_marked_no_more_often_than_said(number: int) -> None:
    rng = np.random.default_rng(number)
    marked = sum(bool(indices(normal(rng, number))) for _ in range(300))
    # 1 % are 3; more than 9 have a probability of 0.0003 then.
    assert marked <= 9


@pytest.mark.parametrize("noise", NOISES)
def test_twenty_sets_of_thirty_equal_runs_raise_at_most_one_alarm(noise: str) -> None:
    rng = np.random.default_rng(7)
    sets = [sum(bool(indices(NOISES[noise](rng, 30))) for _ in range(20)) for _ in range(10)]
    assert sum(marked > 1 for marked in sets) == 0


@pytest.mark.parametrize(
    ("number", "at", "size"),
    [
        (30, 19, 0.05),
        (30, 5, 0.05),
        (30, 27, 0.05),
        (12, 6, 0.05),
        (100, 70, 0.03),
        (200, 150, 0.03),
    ],
)
def test_a_planted_slowdown_is_marked_where_it_is(number: int, at: int, size: float) -> None:
    rng, right = np.random.default_rng(1), 0
    for _ in range(50):
        values = normal(rng, number)
        values[at:] *= 1 + size
        found = indices(values)
        right += len(found) == 1 and abs(found[0] - at) <= 1
    assert right >= 46


def test_a_step_says_its_levels_and_its_size() -> None:
    values = normal(np.random.default_rng(3), 30)
    values[19:] *= 1.05
    (step,) = steps(values.tolist())
    assert step.before == pytest.approx(100, rel=0.01)
    assert step.after == pytest.approx(105, rel=0.01)
    assert step.percent == pytest.approx(100 * (step.after / step.before - 1))
    assert step.percent == pytest.approx(5, abs=1.2)
    assert step.p_value < 1e-6
    assert not step.gradual


def test_the_newest_two_runs_are_a_level_and_the_newest_one_only_stands_out() -> None:
    rng = np.random.default_rng(5)
    two = one = alone = 0
    for _ in range(50):
        values = normal(rng, 30)
        values[28:] *= 1.05
        two += indices(values) == [28]
        values[28] /= 1.05
        one += bool(indices(values))
        alone += stands_out(values.tolist())
    assert two >= 44
    assert one <= 2
    assert alone >= 48
    assert sum(stands_out(normal(rng, 30).tolist()) for _ in range(200)) <= 8


@pytest.mark.parametrize("factor", [0.5, 1.3, 2, 1000])
def test_a_single_run_that_stands_out_is_no_change(factor: float) -> None:
    """Among the first or the last two it may be taken for a level, in one of twenty cases."""
    rng = np.random.default_rng(11)
    marked = dict.fromkeys((0, 1, 14, 28, 29), 0)
    for place in marked:
        for _ in range(40):
            values = normal(rng, 30)
            values[place] *= factor
            marked[place] += bool(indices(values))
    assert marked[14] <= 1
    assert max(marked.values()) <= 6


def test_a_slowdown_that_was_repaired_is_two_changes() -> None:
    rng, right = np.random.default_rng(2), 0
    for _ in range(40):
        values = normal(rng, 30)
        values[9:19] *= 1.05
        found = indices(values)
        right += len(found) == 2 and abs(found[0] - 9) <= 1 and abs(found[1] - 19) <= 1
    assert right >= 36


def test_a_drift_is_called_gradual() -> None:
    rng, gradual = np.random.default_rng(4), 0
    for _ in range(40):
        found = steps((normal(rng, 30) * np.linspace(1, 1.1, 30)).tolist())
        gradual += bool(found) and any(step.gradual for step in found)
    assert gradual >= 36


def test_values_without_noise_change_where_they_change_and_not_where_they_are_equal() -> None:
    assert indices(np.full(50, 0.635)) == []
    assert indices(np.array([0.635] * 10 + [0.628] * 10)) == [10]
    assert indices(np.full(30, 1e9)) == []


def test_a_series_has_the_same_changes_in_every_unit_and_every_time() -> None:
    values = normal(np.random.default_rng(9), 40)
    values[25:] *= 0.9
    assert indices(values) == indices(values) == indices(values * 3.7e-6) == [25]
    (step,) = steps(values.tolist())
    assert step.percent == pytest.approx(-10, abs=1.5)


def test_too_short_a_series_says_nothing_and_a_value_of_0_is_refused() -> None:
    assert steps([1.0] * 3 + [9.0] * (LEAST_RUNS - 4)) == []
    assert not stands_out([1.0, 9.0])
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="above 0"):
            steps([*[1.0] * 20, wrong])


def test_intervals_cover_every_place_at_every_length() -> None:
    for number in (LEAST_RUNS, 9, 30, 1000):
        found = intervals(number)
        assert found[0][0] == 0
        assert max(high for _, high in found) == number
        assert all(low >= 0 and high - low >= LEAST_RUNS for low, high in found)
        for length in {high - low for low, high in found}:
            covered = {i for low, high in found if high - low == length for i in range(low, high)}
            assert len(covered) == number
