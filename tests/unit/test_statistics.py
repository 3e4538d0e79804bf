"""Intervals and tests against published tables and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainbench import statistics


def test_the_interval_of_a_mean_is_students() -> None:
    # Student (1908), the ten hours of extra sleep; t(9, 0.975) = 2.262157.
    hours = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = statistics.mean_interval(hours)
    assert (found.mean, found.samples) == (pytest.approx(2.33), 10)
    reach = 2.262157 * 2.002249 / math.sqrt(10)
    assert (found.low, found.high) == pytest.approx((2.33 - reach, 2.33 + reach), rel=1e-5)


def test_one_value_has_no_interval() -> None:
    found = statistics.mean_interval([7.0])
    assert (found.mean, found.low, found.high, found.deviation) == (7.0, None, None, None)


def test_the_ratio_of_geometric_means_is_the_change() -> None:
    # Blocks that hold a pause: the arithmetic means are nearly equal.
    before, after = [48_000.0, 560.0, 24_280.0], [24_000.0, 24_500.0, 24_232.0]
    a, b = statistics.geometric_interval(before), statistics.geometric_interval(after)
    assert 100 * (b.mean / a.mean - 1) == pytest.approx(statistics.change(before, after).percent)
    assert a.mean == pytest.approx((48_000 * 560 * 24_280) ** (1 / 3))
    assert a.low is not None
    assert a.high is not None
    assert a.mean / a.low == pytest.approx(a.high / a.mean)
    assert statistics.geometric_interval([5.0]).low is None
    with pytest.raises(ValueError, match="above 0"):
        statistics.geometric_interval([5.0, 0.0])


def test_the_test_is_welchs_on_logarithms() -> None:
    before, after = [100.0, 102.0, 98.0, 101.0], [95.0, 97.0, 93.0]
    a, b = np.log(before), np.log(after)
    parts = a.var(ddof=1) / 4, b.var(ddof=1) / 3
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    t = (b.mean() - a.mean()) / math.sqrt(sum(parts))
    found = statistics.change(before, after)
    assert found.percent == pytest.approx(100 * (math.exp(b.mean() - a.mean()) - 1))
    assert found.low < found.percent < found.high < 0
    # Half of the two-sided probability lies on the side of the slowdown.
    assert found.p_slowdown == pytest.approx(found.p_value / 2)
    density = [(1 + x**2 / freedom) ** (-(freedom + 1) / 2) for x in np.arange(abs(t), 400, 0.001)]
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    assert found.p_value == pytest.approx(2 * scale * sum(density) * 0.001, rel=1e-2)


def test_the_change_back_is_the_reciprocal() -> None:
    rng = np.random.default_rng(5)
    before, after = rng.normal(100, 3, 6), rng.normal(90, 2, 8)
    there, back = statistics.change(before, after), statistics.change(after, before)
    assert (1 + there.percent / 100) * (1 + back.percent / 100) == pytest.approx(1)
    assert (1 + there.low / 100) * (1 + back.high / 100) == pytest.approx(1)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.hedges_g == pytest.approx(-back.hedges_g)


def test_one_in_twenty_equal_pairs_differs_and_the_interval_holds_the_rest() -> None:
    rng = np.random.default_rng(1)
    pairs = [rng.normal(100, 2, (2, 5)) for _ in range(200)]
    found = [statistics.change(a, b) for a, b in pairs]
    share = np.mean([each.p_value < 0.05 for each in found])
    assert 0.01 < share < 0.1
    assert all((each.p_value < 0.05) == (not each.low < 0 < each.high) for each in found)


def test_a_threshold_is_part_of_the_hypothesis_not_a_filter() -> None:
    rng = np.random.default_rng(2)
    slower = [
        statistics.change(rng.normal(100, 1, 5), rng.normal(97, 1, 5), threshold_percent=3)
        for _ in range(100)
    ]
    # Exactly at the threshold, one in twenty is found; a filter on the estimate would find half.
    assert 0.01 < np.mean([each.p_slowdown < 0.05 for each in slower]) < 0.1
    assert np.mean([each.p_value < 0.05 for each in slower]) > 0.9


def test_blocks_of_resembling_steps_do_not_promise_what_steps_would() -> None:
    rng = np.random.default_rng(3)

    def times() -> np.ndarray:
        drift = np.zeros(400)
        for i in range(1, 400):
            drift[i] = 0.8 * drift[i - 1] + rng.normal(0, 0.002)
        return 0.1 + drift

    by_blocks = by_steps = 0
    for _ in range(100):
        a, b = times(), times()
        blocks = [statistics.block_speeds(each, 32) for each in (a, b)]
        by_blocks += statistics.change(*blocks).p_value < 0.05
        by_steps += statistics.change(32 / a, 32 / b).p_value < 0.05
    assert by_blocks < 20 < 40 < by_steps


def test_blocks_keep_every_step() -> None:
    times = np.arange(1.0, 104.0)
    speeds = statistics.block_speeds(times, 10)
    assert len(speeds) == 10
    assert speeds[0] == pytest.approx(10 / times[:11].mean())
    with pytest.raises(ValueError, match="3 steps, at least 4"):
        statistics.block_speeds([1, 2, 3], 10)


def test_speeds_without_spread_differ_surely_or_not_at_all() -> None:
    same = statistics.change([5.0, 5.0], [5.0, 5.0])
    assert (same.percent, same.p_value, same.p_slowdown) == (0, 1, 1)
    slower = statistics.change([5.0, 5.0], [4.0, 4.0])
    assert (slower.p_value, slower.p_slowdown, slower.hedges_g) == (0, 0, None)
    assert slower.percent == pytest.approx(-20)
    with pytest.raises(ValueError, match="two speeds"):
        statistics.change([5.0], [4.0, 4.0])
