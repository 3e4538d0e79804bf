"""The v0.5 statistic of runs, whatever they were read from: pure, and the same for the same runs.

Rules (training_rules.adoc@6e02163): run NCF 100 times, take the first 50 runs that converge, drop
the fastest and the slowest of them, and average the other 48. Of the other benchmarks there are
fewer runs, and all have to converge. The rules do not define "first"; the submission tool took the
runs by index in November 2018 and by ``run_start`` in January 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from trainbench.benchmark import RunRule, registered
from trainbench.compliance.outcome import Outcome
from trainbench.compliance.submission.verifier import Printed
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import ConfigError

BOOTSTRAP_SAMPLES = 10_000
BOOTSTRAP_SEED = 0
ORDERS = ("run_start", "index")
UNVERIFIED = "Unverified: result not verified by MLPerf."


WANTED: Mapping[str, RunRule] = {
    "gnmt": RunRule(10, 10),
    "maskrcnn": RunRule(5, 5),
    "minigo": RunRule(20, 20),
    "ncf": RunRule(100, 50),
    "resnet": RunRule(5, 5),
    "ssd": RunRule(5, 5),
    "transformer": RunRule(10, 10),
}
"""By benchmark, as the submission tool of v0.5 has them."""


def run_rule(benchmark: str) -> RunRule | None:
    """The rule of ``benchmark``; ``None`` where neither v0.5 nor a record here has one."""
    own = registered().get(benchmark)
    return WANTED.get(benchmark) or (own.run_rule if own else None)


@dataclass(frozen=True)
class Reference:
    """A time in seconds to compare a result with; it is always shown with its name."""

    benchmark: str
    name: str
    time_s: float


LEGACY_REFERENCE = Reference(
    tags.BENCHMARK,
    "legacy v0.5 reference result of May 2018, measured on another NCF task with one P100",
    2803.0,
)


@dataclass(frozen=True)
class RunScore:
    """One log: its file, its index (the number in its name), its outcome, and why it is left out.

    ``reason`` is empty for a run that counts. ``damage`` is why its file could not be read to the
    end: then nobody knows what the rest says, and the run does not count.
    ``own_data``: it trained on somebody's own ratings, of which the rules know nothing.
    """

    file: str
    index: int
    outcome: Outcome
    reason: str = ""
    damage: str = ""
    own_data: bool = False

    @property
    def counts(self) -> bool:
        """Whether it can be among those that are averaged: whole, converged, with a time."""
        left_out = self.damage or self.own_data
        return not left_out and self.outcome.converged and self.outcome.time_s is not None


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of a resampled mean, and the share of the samples that had enough hits."""

    low: float
    high: float
    complete: float


@dataclass(frozen=True)
class Score:
    """The statistic and everything needed to recompute it. Runs are named by index; times in s.

    ``rules`` are ``v0.5`` or those of a later round. ``official`` says whether this is their
    statistic: for v0.5, exactly as many logs as are ``WANTED`` of the benchmark (of NCF 100, 50 of
    them converged). Otherwise ``mean_s`` is the mean of all runs that converged, and ``notes`` says
    what is missing. ``verifier`` is what the v0.5 submission tool prints.
    """

    folder: str
    rules: str
    benchmark: str
    order: str
    official: bool
    runs: tuple[RunScore, ...]
    converged: int
    counted: tuple[int, ...]
    dropped: tuple[int, ...]
    mean_s: float | None
    standard_deviation_s: float | None
    median_s: float | None
    shortest_s: float | None
    longest_s: float | None
    epochs: tuple[int, ...]
    interval: Interval | None
    notes: tuple[str, ...]
    verifier: Printed | None = None

    @property
    def convergence_rate(self) -> float:
        """Share of the runs that reached the target."""
        return self.converged / len(self.runs)

    def speed_up(self, reference: Reference) -> float | None:
        """``reference / result``: higher is better.

        Raises:
            ConfigError: the reference is a time of another benchmark.
        """
        if reference.benchmark != self.benchmark:
            raise ConfigError(
                f"{self.folder}: logs of {self.benchmark}, which a time of {reference.benchmark} "
                f"says nothing about ({reference.name})"
            )
        return None if self.mean_s is None else reference.time_s / self.mean_s


def _by_start(run: RunScore) -> tuple[float, int]:
    start = run.outcome.run_start_unix_s
    return (math.inf if start is None else start, run.index)


ORDER_KEYS: dict[str, Callable[[RunScore], Any]] = {
    "run_start": _by_start,
    "index": lambda run: run.index,
}


def scored(
    folder: str, benchmark: str, order: str, runs: Sequence[RunScore], wanted: RunRule
) -> Score:
    """The statistic of ``runs``, which are in the order that decides which are the first."""
    converged = [run for run in runs if run.counts]
    official = len(runs) == wanted.runs and len(converged) >= wanted.counted
    counted = converged[: wanted.counted] if official else converged
    late = {run.index for run in converged[len(counted) :]}
    after = f"after the first {wanted.counted} that converged"
    runs = [replace(run, reason=after) if run.index in late else run for run in runs]
    by_time = sorted(counted, key=lambda run: (time_s(run), run.index))
    dropped = [by_time[0], by_time[-1]] if official else []
    all_times = np.array([time_s(run) for run in by_time])
    times = all_times[1:-1] if official else all_times
    return Score(
        folder=folder,
        rules="v0.5",
        benchmark=benchmark,
        order=order,
        official=official,
        runs=tuple(runs),
        converged=len(converged),
        counted=tuple(run.index for run in counted),
        dropped=tuple(run.index for run in dropped),
        mean_s=float(times.mean()) if times.size else None,
        standard_deviation_s=float(times.std(ddof=1)) if times.size > 1 else None,
        median_s=float(np.median(all_times)) if times.size else None,
        shortest_s=float(all_times[0]) if times.size else None,
        longest_s=float(all_times[-1]) if times.size else None,
        epochs=tuple(run.outcome.epochs for run in counted),
        interval=_bootstrap(runs, wanted, official=official),
        notes=tuple(_notes(runs, converged, wanted)),
    )


def time_s(run: RunScore) -> float:
    """The time of a run in seconds; infinite where it has none."""
    return math.inf if run.outcome.time_s is None else run.outcome.time_s


def _bootstrap(runs: Sequence[RunScore], wanted: RunRule, *, official: bool) -> Interval | None:
    """Resample the runs with replacement and take the mean of each sample as the score does."""
    times = np.array([time_s(run) if run.counts else np.inf for run in runs])
    if np.isfinite(times).sum() < 3:
        return None
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    samples = times[generator.integers(len(times), size=(BOOTSTRAP_SAMPLES, len(times)))]
    hits = np.isfinite(samples)
    complete = float((hits.sum(axis=1) >= wanted.counted).mean())
    if official:
        # Runs after the last one that counts are ignored.
        samples = np.where(hits.cumsum(axis=1) <= wanted.counted, samples, np.inf)
    # Runs that do not count are infinite and come last.
    samples = np.sort(samples, axis=1)
    number = np.isfinite(samples).sum(axis=1)
    samples, number = samples[number >= 3], number[number >= 3]
    totals = np.where(np.isfinite(samples), samples, 0).sum(axis=1)
    if official:
        totals -= samples[:, 0] + samples[np.arange(len(samples)), number - 1]
        number = number - 2
    low, high = np.percentile(totals / number, [2.5, 97.5])
    return Interval(float(low), float(high), complete)


def _notes(runs: Sequence[RunScore], converged: Sequence[RunScore], wanted: RunRule) -> list[str]:
    notes = []
    if len(runs) != wanted.runs or len(converged) < wanted.counted:
        notes.append(
            f"not the v0.5 statistic: {plural(len(runs), 'log')} and "
            f"{plural(len(converged), 'converged run')}, "
            f"wanted {wanted.runs} and {wanted.counted}"
        )
    contradicted = [
        run.index for run in runs if run.outcome.success not in (None, run.outcome.converged)
    ]
    if contradicted:
        notes.append(f"run_stop contradicts eval_accuracy in runs {listed(contradicted)}")
    return [*notes, *gaps(runs)]


def gaps(runs: Sequence[RunScore]) -> list[str]:
    """``no log for runs 1, 4 to 7``: numbers that are missing between 0 and the highest."""
    present = sorted({run.index for run in runs})
    missing = [
        f"{before + 1}" if after == before + 2 else f"{before + 1} to {after - 1}"
        for before, after in pairwise([-1, *present])
        if after > before + 1
    ]
    return [f"no log for runs {listed(missing)}"] if missing else []


def plural(number: int, noun: str) -> str:
    """``1 log``, ``2 logs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(items: Sequence[object]) -> str:
    """The first twenty, and how many more."""
    shown = ", ".join(map(str, items[:20]))
    return shown if len(items) <= 20 else f"{shown} and {len(items) - 20} more"
