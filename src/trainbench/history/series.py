"""The runs of one task on one machine in order of time, and where their level changed.

Runs of another machine or another task are another series, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import geometric_mean

from trainbench.history import changes
from trainbench.history.changes import Step
from trainbench.history.measured import Measured, Quantity, describe, differing
from trainbench.history.reading import quantities_of
from trainbench.history.stored import Stored
from trainbench.trials.notes import EXPECTED

THRESHOLD_PERCENT = 1.0
"""Changes for the worse by less than this raise no alarm."""


@dataclass(frozen=True)
class Change:
    """A change of level in a trend.

    Attributes:
        run: the first run at the new level; ``previous`` is the one before it.
        alarm: whether it is for the worse, is not undone, and was not expected.
        because: why a change for the worse raises no alarm; empty for an alarm and for the better.
        software: (name, before, since) of what else changed between the two runs.
    """

    quantity: Quantity
    step: Step
    run: Measured
    previous: Measured
    number: int
    worse_percent: float
    alarm: bool
    because: str
    software: tuple[tuple[str, str, str], ...]

    @property
    def word(self) -> str:
        """``slower``, ``faster``, ``lower`` or ``higher``."""
        if self.quantity.unit:
            return "slower" if self.worse_percent > 0 else "faster"
        return "lower" if self.worse_percent > 0 else "higher"


@dataclass(frozen=True)
class Trend:
    """One quantity of a series: a value for each run that has one.

    Attributes:
        suspect: whether the newest run stands out: one run cannot show whether the level changed.
    """

    quantity: Quantity
    runs: tuple[Measured, ...]
    values: tuple[float, ...]
    changes: tuple[Change, ...]
    suspect: bool

    @property
    def too_short(self) -> bool:
        """Whether there are too few runs to look for a change."""
        return len(self.runs) < changes.LEAST_RUNS

    @property
    def levels(self) -> list[tuple[int, int, float]]:
        """(first run, run after the last, geometric mean) of each level, runs from 0."""
        bounds = [0, *(change.step.index for change in self.changes), len(self.values)]
        return [(a, b, geometric_mean(self.values[a:b])) for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class Series:
    """All runs of one task on one machine; those that are left out of the trends as well."""

    runs: tuple[Measured, ...]
    trends: tuple[Trend, ...]

    @property
    def first(self) -> Measured:
        """The oldest run, of which task and machine are told."""
        return self.runs[0]

    @property
    def key(self) -> str:
        """Its identity, for an anchor."""
        return f"{self.first.benchmark}-{self.first.task_key}-{self.first.fingerprint}"

    @property
    def title(self) -> str:
        """Task and machine in words."""
        return f"{self.first.title} on {describe(self.first.machine)}"

    @cached_property
    def alarms(self) -> tuple[Change, ...]:
        """The changes for the worse that are still there."""
        return tuple(c for trend in self.trends for c in trend.changes if c.alarm)


@dataclass(frozen=True)
class History:
    """Everything that is stored, by series; those with alarms first, then the newest."""

    series: tuple[Series, ...]
    stored: Stored
    threshold_percent: float

    @property
    def runs(self) -> tuple[Measured, ...]:
        """All runs, in order of time."""
        return self.stored.runs

    @property
    def alarms(self) -> tuple[Change, ...]:
        """Of all series."""
        return tuple(change for series in self.series for change in series.alarms)


def history(stored: Stored, *, threshold_percent: float = THRESHOLD_PERCENT) -> History:
    """The series of what is ``stored``, each tested for changes of its level."""
    groups: dict[tuple[str, str, str], list[Measured]] = {}
    for run in stored.runs:
        # A run without a system.json says neither its machine nor, mostly, anything else.
        groups.setdefault((run.benchmark, run.task_key, run.fingerprint), []).append(run)
    found = [_series(runs, threshold_percent) for runs in groups.values()]
    found.sort(key=lambda s: (-len(s.alarms), -(s.runs[-1].created_unix_s or 0.0), s.key))
    return History(tuple(found), stored, threshold_percent)


def _series(runs: Sequence[Measured], threshold_percent: float) -> Series:
    kept = [run for run in runs if not run.left_out]
    quantities = quantities_of(kept)
    alpha = changes.ALPHA / max(1, len(quantities))
    trends = (_trend(quantity, kept, alpha, threshold_percent) for quantity in quantities)
    return Series(tuple(runs), tuple(trend for trend in trends if trend.runs))


def _trend(
    quantity: Quantity, runs: Iterable[Measured], alpha: float, threshold_percent: float
) -> Trend:
    pairs = [(run, level(run, quantity)) for run in runs]
    known = [(run, value) for run, value in pairs if value is not None]
    those = tuple(run for run, _ in known)
    values = tuple(value for _, value in known)
    found = changes.steps(values, alpha=alpha)
    told = tuple(_change(quantity, those, found, i, threshold_percent) for i in range(len(found)))
    newest = values[found[-1].index if found else 0 :]
    return Trend(quantity, those, values, told, changes.stands_out(newest, alpha=alpha))


def level(run: Measured, quantity: Quantity) -> float | None:
    """One value for a run: the geometric mean of its samples; ``None`` where there is none."""
    samples = run.values.get(quantity.key, ())
    return geometric_mean(samples) if samples and min(samples) > 0 else None


def _change(
    quantity: Quantity,
    runs: Sequence[Measured],
    found: Sequence[Step],
    place: int,
    threshold_percent: float,
) -> Change:
    step = found[place]
    run, previous = runs[step.index], runs[step.index - 1]
    worse = quantity.worse(step.percent)
    # Small changes for the worse add up, and a repair takes them back.
    lasting = quantity.worse(100 * (found[-1].after / step.before - 1))
    because = ""
    if worse > 0:
        if EXPECTED in run.tags:
            because = f"the run is tagged {EXPECTED!r}"
        elif lasting <= threshold_percent:
            undone = f"by no more than {threshold_percent:g} %"
            because = undone if place == len(found) - 1 else "later runs are as before again"
    return Change(
        quantity=quantity,
        step=step,
        run=run,
        previous=previous,
        number=step.index + 1,
        worse_percent=worse,
        alarm=worse > 0 and not because,
        because=because,
        software=tuple(differing(previous.software, run.software)),
    )
