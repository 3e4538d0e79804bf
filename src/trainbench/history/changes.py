"""Where the level of a series of measurements changes: a step test with a bound on false alarms.

Every split of every interval of a fixed set (seeded intervals: Kovács, Bühlmann, Li and Munk 2023)
is tested by Student's t, with Bonferroni's correction for the number of splits. So a series of
equal, independent, normal values is marked with a probability of at most ``alpha``, whatever its
length, and nothing is drawn at random: the same series has the same changes. Short intervals find
a slowdown that was repaired later, which a test on the whole series misses.

One or two runs that stand out are no change of level: values are drawn in to a few standard
deviations around the median of their neighbours. docs/decisions.md has what else was looked at.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import special

ALPHA = 0.01
"""Bound on the probability that a series of equal runs is marked anywhere."""
LEAST_RUNS = 8
"""Fewer runs cannot show a change at ``ALPHA``."""
_LEAST_SIDE = 2
_DECAY = math.sqrt(0.5)
_STANDS_OUT = 3.0
_NORMAL_MAD = 1.4826
_EQUAL = 1e-9


@dataclass(frozen=True)
class Step:
    """A change of level between two neighbouring values of a series.

    Attributes:
        index: of the first value at the new level.
        before, after: geometric mean level of the runs since the change before and until the next.
        percent: of ``after`` against ``before``.
        p_value: of Student's t at this split, times the number of splits that were tested.
        gradual: a straight line fits the runs on both sides better than two levels do.
    """

    index: int
    before: float
    after: float
    percent: float
    p_value: float
    gradual: bool


def steps(values: Sequence[float], *, alpha: float = ALPHA) -> list[Step]:
    """Every change of level in ``values``, all above 0, in order of time; empty for short series.

    Raises:
        ValueError: a value that is not a finite number above 0.
    """
    raw = np.asarray(values, np.float64)
    if not (np.isfinite(raw) & (raw > 0)).all():
        raise ValueError("wanted finite values above 0")
    if len(raw) < LEAST_RUNS:
        return []
    if np.ptp(raw) <= _EQUAL * raw[0]:
        return []
    series = _Series.of(np.log(raw))
    cuts = series.settled(series.found(alpha), alpha)
    bounds = [0, *cuts, len(raw)]
    return [series.step(*bounds[i : i + 3]) for i in range(len(cuts))]


def stands_out(values: Sequence[float], *, alpha: float = ALPHA) -> bool:
    """Whether the last of ``values`` lies outside of what the ones before it let expect.

    One run does not show whether it is an outlier or the first of a new level.
    """
    if len(values) < LEAST_RUNS:
        return False
    drawn = _drawn_in(np.log(np.asarray(values[:-1], np.float64)))
    last, n = math.log(values[-1]), len(drawn)
    spread = max(float(drawn.std(ddof=1)), _resolution(np.log(np.asarray(values))))
    if spread == 0:
        return bool(last != drawn[-1])
    t = abs(last - drawn.mean()) / (spread * math.sqrt(1 + 1 / n))
    return float(2 * special.stdtr(n - 1, -t)) < alpha


@dataclass(frozen=True)
class _Series:
    """Logarithms of a series with their running sums, so that any split is tested at once."""

    values: np.ndarray
    offset: float
    sums: np.ndarray
    squares: np.ndarray
    floor: float
    tests: int

    @classmethod
    def of(cls, logarithms: np.ndarray) -> _Series:
        values = _drawn_in(logarithms)
        offset = float(values.mean())
        values = values - offset
        sums, squares = (np.concatenate([[0.0], np.cumsum(of)]) for of in (values, values * values))
        tests = sum(
            max(0, high - low - 2 * _LEAST_SIDE + 1) for low, high in intervals(len(values))
        )
        return cls(values, offset, sums, squares, _resolution(logarithms), tests)

    def found(self, alpha: float) -> list[int]:
        """The most significant split, then of the intervals without it the next, and so on."""
        candidates = []
        for low, high in intervals(len(self.values)):
            cut, p_value, t = self.best(low, high)
            if p_value < alpha:
                candidates.append((p_value, -t, cut, low, high))
        cuts: list[int] = []
        while candidates:
            *_, cut, _, _ = min(candidates)
            cuts.append(cut)
            candidates = [c for c in candidates if not c[3] < cut < c[4]]
        return sorted(cuts)

    def settled(self, cuts: list[int], alpha: float) -> list[int]:
        """``cuts``, each moved to where its neighbours want it; those that then mean nothing go."""
        cuts = self._moved(cuts)
        while cuts:
            bounds = [0, *cuts, len(self.values)]
            p_values = [self.split(*bounds[i : i + 3])[0] for i in range(len(cuts))]
            if max(p_values) < alpha:
                break
            del cuts[p_values.index(max(p_values))]
            cuts = self._moved(cuts)
        return cuts

    def _moved(self, cuts: list[int]) -> list[int]:
        bounds = [0, *cuts, len(self.values)]
        for i in range(1, len(bounds) - 1):
            if bounds[i + 1] - bounds[i - 1] >= 2 * _LEAST_SIDE:
                bounds[i] = self.best(bounds[i - 1], bounds[i + 1])[0]
        return sorted(set(bounds[1:-1]))

    def best(self, low: int, high: int) -> tuple[int, float, float]:
        """The split of ``[low, high)`` with the largest t: cut, corrected p-value, t."""
        cuts = np.arange(low + _LEAST_SIDE, high - _LEAST_SIDE + 1)
        t = self._t(low, cuts, high)
        place = int(np.argmax(t))
        return int(cuts[place]), self._p_value(float(t[place]), high - low), float(t[place])

    def split(self, low: int, cut: int, high: int) -> tuple[float, float]:
        """Corrected p-value and t of one split; one run alone on a side says nothing."""
        if min(cut - low, high - cut) < _LEAST_SIDE:
            return 1.0, 0.0
        t = float(self._t(low, np.array([cut]), high)[0])
        return self._p_value(t, high - low), t

    def _t(self, low: int, cuts: np.ndarray, high: int) -> np.ndarray:
        left, right = cuts - low, high - cuts
        mean_left = (self.sums[cuts] - self.sums[low]) / left
        mean_right = (self.sums[high] - self.sums[cuts]) / right
        total = self.squares[high] - self.squares[low]
        within = np.maximum(total - left * mean_left**2 - right * mean_right**2, 0.0)
        # Rounding of the measurement is noise that values which happen to be equal do not show.
        spread = np.sqrt(np.maximum(within / (high - low - 2), self.floor**2))
        t: np.ndarray = np.abs(mean_right - mean_left) / (spread * np.sqrt(1 / left + 1 / right))
        return t

    def _p_value(self, t: float, length: int) -> float:
        return min(1.0, self.tests * float(2 * special.stdtr(length - 2, -t)))

    def step(self, low: int, cut: int, high: int) -> Step:
        """The change at ``cut``, between the changes at ``low`` and ``high``."""
        before, after = self._mean(low, cut), self._mean(cut, high)
        return Step(
            index=cut,
            before=math.exp(self.offset + before),
            after=math.exp(self.offset + after),
            percent=100 * math.expm1(after - before),
            p_value=self.split(low, cut, high)[0],
            gradual=self._gradual(low, cut, high),
        )

    def _gradual(self, low: int, cut: int, high: int) -> bool:
        part, at = self.values[low:high], np.arange(low, high)
        line = np.polyval(np.polyfit(at, part, 1), at)
        levels = np.where(at < cut, self._mean(low, cut), self._mean(cut, high))
        return bool(((part - line) ** 2).sum() < ((part - levels) ** 2).sum())

    def _mean(self, low: int, high: int) -> float:
        return float((self.sums[high] - self.sums[low]) / (high - low))


@functools.lru_cache(maxsize=64)
def intervals(length: int) -> tuple[tuple[int, int], ...]:
    """Seeded intervals ``[low, high)``: the whole, then ever shorter ones that overlap by half."""
    found = {(0, length)}
    size = length * _DECAY
    while size >= LEAST_RUNS:
        width = math.ceil(size)
        number = 2 * math.ceil(length / size) - 1
        starts = np.linspace(0, length - width, number).round().astype(int)
        found |= {(int(start), int(start) + width) for start in starts}
        size *= _DECAY
    return tuple(sorted(found))


def _drawn_in(logarithms: np.ndarray) -> np.ndarray:
    """Values no further than a few deviations from the median of their neighbourhood.

    That is five runs, at the ends three: a level that lasts for three runs, or for the newest two,
    passes as it is; one or two runs that stand out do not. The deviation is of differences between
    neighbours, which a step hardly changes.
    """
    first, *_, last = (np.median(t) for t in sliding_window_view(logarithms, 3))
    inner = np.median(sliding_window_view(logarithms, 5), axis=1)
    middle = np.concatenate([[first, first], inner, [last, last]])
    differences = np.abs(np.diff(logarithms))
    deviation = _NORMAL_MAD * float(np.median(differences)) / math.sqrt(2)
    reach = _STANDS_OUT * max(deviation, math.sqrt(12) * _resolution(logarithms))
    drawn: np.ndarray = np.clip(logarithms, middle - reach, middle + reach)
    return drawn


def _resolution(logarithms: np.ndarray) -> float:
    """Standard deviation of rounding to the smallest difference between two values."""
    differences = np.diff(np.unique(logarithms))
    differences = differences[differences > _EQUAL]
    return float(differences.min()) / math.sqrt(12) if len(differences) else 0.0
