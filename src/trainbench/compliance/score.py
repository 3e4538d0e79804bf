"""The v0.5 statistic of a folder of result logs, or the mean of the runs that converged.

Rules (training_rules.adoc@6e02163): run NCF 100 times, take the first 50 runs that converge, drop
the fastest and the slowest of them, and average the other 48. Of the other benchmarks there are
fewer runs, and all have to converge. The rules do not define "first"; the submission tool took the
runs by index in November 2018 and by ``run_start`` in January 2019.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainbench.benchmark import RunRule, registered
from trainbench.compliance.event import Event
from trainbench.compliance.outcome import Outcome, outcome
from trainbench.compliance.reading import NEWEST_CHECKER, result_logs, told_by
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import ConfigError, DataIntegrityError

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
    """One log: its file, its index (the number in its name) and its outcome."""

    file: str
    index: int
    outcome: Outcome

    @property
    def counts(self) -> bool:
        """Whether it can be among those that are averaged: converged, with a time."""
        return self.outcome.converged and self.outcome.time_s is not None


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of a resampled mean, and the share of the samples that had enough hits."""

    low: float
    high: float
    complete: float


@dataclass(frozen=True)
class Score:
    """The statistic and everything needed to recompute it. Runs are named by index; times in s.

    ``official`` says whether this is the v0.5 statistic: exactly as many logs as are ``WANTED`` of
    the benchmark (of NCF 100, 50 of them converged). Otherwise ``mean_s`` is the mean of all runs
    that converged, and ``notes`` says what is missing.
    """

    folder: str
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


def score(
    folder: Path,
    *,
    order: str = "run_start",
    benchmark: str | None = None,
    checker: str = NEWEST_CHECKER,
) -> Score:
    """The statistic of the ``result_<i>.txt`` in ``folder``, plain or as ``.gz``, in any dialect.

    Args:
        order: what makes a run one of the first.
        benchmark: the logs' benchmark, one of ``WANTED``; by default the one that they name.
        checker: whose reading of the logs counts.

    Raises:
        ConfigError: an unknown order.
        DataIntegrityError: no result log in the folder, one that cannot be read, or, where no
            ``benchmark`` is given, logs of several or of an unknown one.
    """
    if order not in ORDERS:
        raise ConfigError(f"unknown order {order!r} (known: {', '.join(ORDERS)})")
    logs = _logs(folder, checker)
    benchmark = benchmark or _named_benchmark(folder, [events for *_, events in logs])
    runs = [RunScore(name, index, outcome(events)) for index, name, events in logs]
    return _scored(folder.as_posix(), benchmark, order, sorted(runs, key=_ORDER[order]))


def _by_start(run: RunScore) -> tuple[float, int]:
    start = run.outcome.run_start_unix_s
    return (math.inf if start is None else start, run.index)


_ORDER: dict[str, Callable[[RunScore], Any]] = {
    "run_start": _by_start,
    "index": lambda run: run.index,
}


def _logs(folder: Path, checker: str) -> list[tuple[int, str, Sequence[Event]]]:
    """Number, name and events of every log."""
    found = result_logs(folder)
    if not found:
        raise DataIntegrityError(f"{folder}: no result_<i>.txt; wanted a folder of result logs")
    try:
        return [(index, path.name, told_by(path, checker)) for index, path in found.items()]
    except OSError as error:
        raise DataIntegrityError(f"{error.filename}: cannot be read ({error.strerror})") from None


def _named_benchmark(folder: Path, logs: Iterable[Sequence[Event]]) -> str:
    named = {_benchmark(events) for events in logs}
    if len(named) > 1 or not all(map(run_rule, named)):
        raise DataIntegrityError(
            f"{folder}: logs of {', '.join(sorted(named))}; wanted logs of one of "
            f"{', '.join(WANTED)}"
        )
    return named.pop()


def _benchmark(events: Sequence[Event]) -> str:
    """The benchmark that a log names: v0.5 in every line, ResNet's later dialect in one."""
    named = next((event.value for event in events if event.key == "submission_benchmark"), None)
    if isinstance(named, str):
        return named
    return events[0].benchmark if events else tags.BENCHMARK


def _scored(folder: str, benchmark: str, order: str, runs: Sequence[RunScore]) -> Score:
    wanted = run_rule(benchmark)
    assert wanted is not None, "score() asks for a benchmark with a rule"
    converged = [run for run in runs if run.counts]
    official = len(runs) == wanted.runs and len(converged) >= wanted.counted
    counted = converged[: wanted.counted] if official else converged
    by_time = sorted(counted, key=lambda run: (_time_s(run), run.index))
    dropped = [by_time[0], by_time[-1]] if official else []
    all_times = np.array([_time_s(run) for run in by_time])
    times = all_times[1:-1] if official else all_times
    return Score(
        folder=folder,
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


def _time_s(run: RunScore) -> float:
    return math.inf if run.outcome.time_s is None else run.outcome.time_s


def _bootstrap(runs: Sequence[RunScore], wanted: RunRule, *, official: bool) -> Interval | None:
    """Resample the runs with replacement and take the mean of each sample as the score does."""
    times = np.array([_time_s(run) if run.counts else np.inf for run in runs])
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
            f"not the v0.5 statistic: {_plural(len(runs), 'log')} and "
            f"{_plural(len(converged), 'converged run')}, "
            f"wanted {wanted.runs} and {wanted.counted}"
        )
    contradicted = [
        run.index for run in runs if run.outcome.success not in (None, run.outcome.converged)
    ]
    if contradicted:
        notes.append(f"run_stop contradicts eval_accuracy in runs {_list(contradicted)}")
    gaps = sorted(set(range(max(run.index for run in runs) + 1)) - {run.index for run in runs})
    if gaps:
        notes.append(f"no log for runs {_list(gaps)}")
    return notes


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _list(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:20])
    return shown if len(numbers) <= 20 else f"{shown} and {len(numbers) - 20} more"


def to_json(result: Score, *, reference: Reference | None = None) -> str:
    """The text of ``score --json``, the same for the same logs."""
    content = {
        "schema": 1,
        **asdict(result),
        "convergence_rate": result.convergence_rate,
        "statement": UNVERIFIED,
    }
    if reference is not None:
        content["comparison"] = {
            "denominator": asdict(reference),
            "reference_over_result": result.speed_up(reference),
        }
    return json.dumps(content, indent=2) + "\n"


def to_text(result: Score, *, reference: Reference | None = None) -> str:
    """What ``score`` prints."""
    lines = [
        f"{result.folder}: {len(result.runs)} runs, {result.converged} converged "
        f"({100 * result.convergence_rate:.0f} %), first by {result.order}"
    ]
    lines += [f"NOTE {note}" for note in result.notes]
    if result.mean_s is not None:
        lines += _statistic_lines(result)
    else:
        lines.append("no run converged: there is no time to train")
    if reference is not None and result.mean_s is not None:
        lines.append(
            f"{reference.time_s:.0f} s / {result.mean_s:.2f} s = {result.speed_up(reference):.2f} "
            f"(denominator: {reference.name})"
        )
    return "\n".join([*lines, UNVERIFIED]) + "\n"


def _statistic_lines(result: Score) -> list[str]:
    kept = len(result.counted) - len(result.dropped)
    if result.official:
        first = f"v0.5 statistic: {result.mean_s:.2f} s, mean of {_plural(kept, 'run')}; dropped "
        lines = [first + f"the fastest and the slowest, runs {_list(result.dropped)}"]
    else:
        lines = [f"time to train: {result.mean_s:.2f} s, mean of all {kept} converged runs"]
    lines.append(f"counted runs: {', '.join(str(index) for index in result.counted)}")
    spread = f"{result.shortest_s:.2f} to {result.longest_s:.2f} s, median {result.median_s:.2f} s"
    if result.standard_deviation_s is not None and result.mean_s:
        share = 100 * result.standard_deviation_s / result.mean_s
        spread += f"; sd of the averaged {result.standard_deviation_s:.2f} s ({share:.1f} %)"
    lines.append(f"spread: {spread}")
    own = registered().get(result.benchmark)
    every = own.quality.every if own else "evaluation"
    lines.append(
        f"{every}s to target: {min(result.epochs)} to {max(result.epochs)}, "
        f"mean {sum(result.epochs) / len(result.epochs):.2f}"
    )
    if result.interval is not None:
        rule = run_rule(result.benchmark)
        hits = rule.counted if rule else 0
        lines.append(
            f"95 % bootstrap: {result.interval.low:.2f} to {result.interval.high:.2f} s; "
            f"{hits} hits in {100 * result.interval.complete:.0f} % of the samples"
        )
    return lines
