"""Confidence intervals: Student's t for a mean, Welch's t for a difference of two.

Speeds are compared by their logarithms: the difference of two means is then a ratio, "3 % slower",
and so are the ends of its confidence interval.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
# The end of an interval of two values that differ much; a larger one is no number any more.
_LARGEST = 700.0
LEAST_STEPS = 4
"""Fewer steps cannot be divided into two blocks of two."""


@dataclass(frozen=True)
class Interval:
    """The mean of ``samples`` values and the interval that holds the true one.

    ``low`` and ``high`` are ``None`` for one value, which says nothing about its spread.
    """

    mean: float
    low: float | None
    high: float | None
    deviation: float | None
    samples: int


@dataclass(frozen=True)
class Change:
    """How the second of two sets of speeds or times differs from the first, in percent of it.

    Attributes:
        percent: of the geometric means; of speeds, below 0 is slower.
        low, high: ends of the confidence interval of ``percent``.
        p_value: of a difference at least as large where there is none (two-sided).
        p_slowdown: of a slowdown at least as large where it is ``threshold_percent`` or less
            (one-sided).
        hedges_g: the difference in pooled standard deviations, corrected for small samples;
            ``None`` where both deviations are 0.
    """

    percent: float
    low: float
    high: float
    p_value: float
    p_slowdown: float
    hedges_g: float | None


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """The mean of independent ``values`` with its confidence interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None, None, len(values))
    deviation = float(np.std(values, ddof=1))
    reach = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * deviation / math.sqrt(len(values))
    return Interval(mean, float(mean - reach), float(mean + reach), deviation, len(values))


def geometric_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """The geometric mean of independent ``values`` above 0 with its confidence interval.

    The ratio of two of them is what ``change`` gives in percent. ``deviation`` is that of the
    natural logarithms.

    Raises:
        ValueError: a value that is not above 0.
    """
    found = mean_interval(_logarithms(values, least=1).tolist(), confidence=confidence)
    low, high = (
        None if end is None else math.exp(min(end, _LARGEST)) for end in (found.low, found.high)
    )
    return replace(found, mean=math.exp(found.mean), low=low, high=high)


def change(
    before: Sequence[float],
    after: Sequence[float],
    *,
    confidence: float = CONFIDENCE,
    threshold_percent: float = 0.0,
    smaller_is_better: bool = False,
) -> Change:
    """Compare two sets of independent speeds, or times where ``smaller_is_better``.

    Two of each are needed at least.

    Raises:
        ValueError: fewer than two speeds, or one that is not above 0.
    """
    a, b = _logarithms(before), _logarithms(after)
    # A slowdown within the threshold is the null hypothesis: the baseline is made slower by it.
    share = threshold_percent / 100
    allowed = a + math.log1p(share if smaller_is_better else -share)
    worse = "greater" if smaller_is_better else "less"
    percent = _percent(b.mean() - a.mean())
    if np.ptp(a) == np.ptp(b) == 0:
        # Without any spread, what differs differs surely, as far as anyone can tell.
        slow = float(b[0] <= allowed[0] if smaller_is_better else b[0] >= allowed[0])
        return Change(percent, percent, percent, float(b[0] == a[0]), slow, None)
    with warnings.catch_warnings():
        # One side alone without any spread: Welch's t holds, of which scipy is not sure.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_ind(b, a, equal_var=False)
        interval = test.confidence_interval(confidence)
        slower = stats.ttest_ind(b, allowed, equal_var=False, alternative=worse)
    return Change(
        percent,
        _percent(interval.low),
        _percent(interval.high),
        float(test.pvalue),
        float(slower.pvalue),
        _hedges_g(a, b),
    )


def block_speeds(times_s: Sequence[float], images: float) -> list[float]:
    """Speeds of consecutive blocks of steps of ``images`` images that took ``times_s`` seconds.

    Neighbouring steps resemble one another, so that steps taken singly would promise more than they
    know. The means of about ``sqrt(n)`` blocks of ``sqrt(n)`` steps are nearly independent (the
    method of batch means).

    Raises:
        ValueError: fewer than ``LEAST_STEPS`` steps.
    """
    if len(times_s) < LEAST_STEPS:
        raise ValueError(f"{len(times_s)} steps, at least {LEAST_STEPS} are needed")
    blocks = np.array_split(np.asarray(times_s, np.float64), math.isqrt(len(times_s)))
    return [float(images / block.mean()) for block in blocks]


def _logarithms(speeds: Sequence[float], least: int = 2) -> np.ndarray:
    values = np.asarray(speeds, np.float64)
    if len(values) < least or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError("two speeds above 0 are needed at least")
    return np.log(values)


def _hedges_g(a: np.ndarray, b: np.ndarray) -> float | None:
    freedom = len(a) + len(b) - 2
    pooled = math.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom)
    if pooled == 0:
        return None
    return float((b.mean() - a.mean()) / pooled * (1 - 3 / (4 * freedom - 1)))


def _percent(difference: float) -> float:
    return float(100 * math.expm1(min(difference, _LARGEST)))
