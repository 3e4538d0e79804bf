"""The v0.5 statistic of a folder of result logs, or the mean of the runs that converged.

Rules (training_rules.adoc@6e02163): run NCF 100 times, take the first 50 runs that converge, drop
the fastest and the slowest of them, and average the other 48. Of the other benchmarks there are
fewer runs, and all have to converge. The rules do not define "first"; the submission tool took the
runs by index in November 2018 and by ``run_start`` in January 2019.

Logs of later rounds are scored by ``mlperf_logging``, whose rules are other ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from trainbench.benchmark import RunRule, registered
from trainbench.compliance.check import check_reading
from trainbench.compliance.dialects import later_rounds
from trainbench.compliance.dialects.later_rounds import LaterLog, LaterScore
from trainbench.compliance.event import Event, Finding, Line, excerpt
from trainbench.compliance.event_index import is_number
from trainbench.compliance.outcome import Outcome, outcome
from trainbench.compliance.parse import TOKEN, read_lines
from trainbench.compliance.reading import (
    NEWEST_CHECKER,
    TOOLS_CHECKER,
    Reading,
    read,
    result_logs,
)
from trainbench.compliance.rules.levels import ruleset
from trainbench.compliance.submission.verifier import Judged, Printed, printed
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
    """One log: its file, its index (the number in its name), its outcome, and why it is left out.

    ``reason`` is empty for a run that counts.
    """

    file: str
    index: int
    outcome: Outcome
    reason: str = ""

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


def score(
    folder: Path,
    *,
    order: str = "run_start",
    benchmark: str | None = None,
    checker: str = TOOLS_CHECKER,
    rules: str | None = None,
    verifier: bool = True,
) -> Score:
    """The statistic of the ``result_<i>.txt``, plain or as ``.gz``, by the rules of their round.

    Args:
        order: what makes a run one of the first.
        benchmark: the logs' benchmark, one of ``WANTED``, whose v0.5 statistic is asked for; by
            default it is the one that they name.
        checker: whose reading of v0.5 logs counts; by default that of the v0.5 submission tool.
        rules: of a later round (``1.0.0``); by default those of the logs' time.
        verifier: whether to tell what the v0.5 submission tool prints, which checks every log.

    Raises:
        ConfigError: an unknown order, or rules of a later round for v0.5 logs.
        DataIntegrityError: no result log in the folder, one that cannot be read, or, where no
            ``benchmark`` is given, logs of several, of several rounds or of an unknown one.
        MachineError: logs of a later round, and ``mlperf_logging`` is not installed.
    """
    if order not in ORDERS:
        raise ConfigError(f"unknown order {order!r} (known: {', '.join(ORDERS)})")
    logs = _logs(folder, checker)
    later = {} if benchmark else _later(folder, logs)
    if later:
        return _scored_later(folder, logs, later, order, rules)
    if rules is not None:
        raise ConfigError(f"{folder}: no logs of a later round, to which rules {rules} could apply")
    benchmark = benchmark or _named_benchmark(folder, logs)
    runs = [
        RunScore(log.name, log.index, run, _reason(log, run, benchmark))
        for log, run in ((log, outcome(log.events)) for log in logs)
    ]
    wanted = run_rule(benchmark)
    assert wanted is not None, "a benchmark is asked for, or named, that has a rule"
    runs.sort(key=_ORDER[order])
    found = _scored(folder.as_posix(), benchmark, order, runs, wanted)
    if not verifier or benchmark not in WANTED:
        return found
    levels = {log.index: _level(log, checker) for log in logs}
    times = [(run.index, run.outcome.time_s if run.counts else None) for run in runs]
    judged = [Judged(index, levels[index], time_s) for index, time_s in times]
    return replace(found, verifier=printed(benchmark, wanted, judged))


def _by_start(run: RunScore) -> tuple[float, int]:
    start = run.outcome.run_start_unix_s
    return (math.inf if start is None else start, run.index)


_ORDER: dict[str, Callable[[RunScore], Any]] = {
    "run_start": _by_start,
    "index": lambda run: run.index,
}


@dataclass(frozen=True)
class _Log:
    """A result log: the lines that have a token, and what a checker reads in them."""

    index: int
    name: str
    lines: tuple[Line | Finding, ...]
    reading: Reading

    @property
    def events(self) -> Sequence[Event]:
        """What the log says of its run."""
        return self.reading.told


def _logs(folder: Path, checker: str) -> list[_Log]:
    found = result_logs(folder)
    if not found:
        raise DataIntegrityError(f"{folder}: no result_<i>.txt; wanted a folder of result logs")
    try:
        logs = [(index, path.name, tuple(read_lines(path))) for index, path in found.items()]
    except OSError as error:
        raise DataIntegrityError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return [_Log(index, name, lines, read(lines, checker)) for index, name, lines in logs]


def _level(log: _Log, checker: str) -> int:
    """The highest level that a log passes, or 0."""
    levels = (2, 1)
    passed = (n for n in levels if not check_reading(log.reading, ruleset(n, checker=checker)))
    return next(passed, 0)


def _named_benchmark(folder: Path, logs: Sequence[_Log]) -> str:
    named = {log.events[0].benchmark for log in logs if log.events}
    if not named:
        raise DataIntegrityError(
            f"{folder}: none of {plural(len(logs), 'log')} has a line that can be read; "
            f"{logs[0].name}: {_unread(logs[0])}"
        )
    if len(named) > 1 or not all(map(run_rule, named)):
        raise DataIntegrityError(
            f"{folder}: logs of {', '.join(sorted(named))}; wanted logs of one of "
            f"{', '.join(WANTED)}"
        )
    return named.pop()


def _reason(log: _Log, run: Outcome, benchmark: str) -> str:
    """Why a log of v0.5 does not count; empty where it does."""
    if not log.events:
        return _unread(log)
    named = log.events[0].benchmark
    return "; ".join(
        ([] if named == benchmark else [f"a log of {named}"])
        + [reason for tag in (tags.RUN_START, tags.RUN_STOP) if (reason := _single(log, tag))]
        + ([] if run.converged else [_missed(log, run)])
    )


def _unread(log: _Log) -> str:
    """What stands in a log of which nothing can be read."""
    first = next((line.text for line in log.lines if isinstance(line, Line)), None)
    if first is not None and read(log.lines, NEWEST_CHECKER).events:
        return "no line begins with :::MLP; --checker 2019-04 reads those with text before it"
    if first is not None:
        return f"unreadable dialect: {excerpt(first[first.find(TOKEN) :])[:60]!r}"
    damage = next((line.found for line in log.lines if isinstance(line, Finding)), None)
    return "no compliance line" + (f" ({damage})" if damage else "")


def _single(log: _Log, tag: str) -> str:
    times = sum(event.key == tag for event in log.events)
    return "" if times == 1 else f"no single {tag} ({times} found)"


def _missed(log: _Log, run: Outcome) -> str:
    """``21.799999 of 21.8``, or what is not there to be compared."""
    if run.best is None:
        return "no eval_accuracy with a number"
    if run.target is not None:
        return f"{run.best} of {run.target}"
    found = [event.scalar for event in log.events if event.key == tags.EVAL_TARGET]
    values = list(dict.fromkeys(str(v) if is_number(v) else "no number" for v in found))
    return f"no single eval_target ({', '.join(values[:5]) or 'none found'})"


def _later(folder: Path, logs: Sequence[_Log]) -> dict[str, LaterLog]:
    """The logs by name if they are of a later round: those that name a benchmark as it has them."""
    found = {log.name: later_rounds.later_log(log.lines) for log in logs}
    if not any(log and log.benchmark for log in found.values()):
        return {}
    of_v05 = [log.name for log in logs if found[log.name] is None and log.events]
    if of_v05:
        raise DataIntegrityError(
            f"{folder}: {of_v05[0]} is a log of v0.5 and others are of later rounds; wanted logs "
            "of one round"
        )
    return {name: log for name, log in found.items() if log}


def _scored_later(
    folder: Path,
    logs: Sequence[_Log],
    later: Mapping[str, LaterLog],
    order: str,
    rules: str | None,
) -> Score:
    named = {log.benchmark for log in later.values() if log.benchmark}
    if len(named) > 1:
        raise DataIntegrityError(f"{folder}: logs of {', '.join(sorted(named))}; wanted one")
    benchmark = named.pop()
    rules = later_rounds.rules_of(later.values(), benchmark, asked=rules)
    lines = {log.name: log.lines for log in logs}
    found = later_rounds.score_later(folder, lines, benchmark, rules)
    runs = [_run_of_later(log, later.get(log.name), found) for log in logs]
    runs.sort(key=_ORDER[order])
    counted = sorted((run for run in runs if run.counts), key=lambda run: (_time_s(run), run.index))
    slow = max(found.dropped - (len(runs) - len(counted)), 0)
    kept = counted[found.dropped : len(counted) - slow] if found.mean_s is not None else []
    times = np.array([_time_s(run) for run in counted])
    kept_times = np.array([_time_s(run) for run in kept])
    return Score(
        folder=folder.as_posix(),
        rules=rules,
        benchmark=benchmark,
        order=order,
        official=found.mean_s is not None and len(runs) == found.wanted,
        runs=tuple(runs),
        converged=len(counted),
        counted=tuple(run.index for run in counted),
        dropped=tuple(run.index for run in counted if run not in kept) if kept else (),
        mean_s=found.mean_s,
        standard_deviation_s=float(kept_times.std(ddof=1)) if kept_times.size > 1 else None,
        median_s=float(np.median(times)) if times.size else None,
        shortest_s=float(times[0]) if times.size else None,
        longest_s=float(times[-1]) if times.size else None,
        epochs=(),
        interval=None,
        notes=tuple(_later_notes(runs, found)),
    )


def _run_of_later(log: _Log, said: LaterLog | None, found: LaterScore) -> RunScore:
    """Whether a run converged, and its time, are those of ``mlperf_logging``."""
    run = replace(
        outcome(log.events),
        time_s=found.times_s.get(log.name),
        converged=log.name in found.times_s,
        run_start_unix_s=said.start_unix_s if said else None,
    )
    return RunScore(log.name, log.index, run, found.reasons.get(log.name, ""))


def _later_notes(runs: Sequence[RunScore], found: LaterScore) -> list[str]:
    notes = [f"scored by {found.package}, rules of MLPerf Training {found.rules}"]
    if found.failure:
        notes.append(f"no score: {found.failure}")
    if len(runs) != found.wanted:
        notes.append(f"not a whole result: {plural(len(runs), 'log')}, wanted {found.wanted}")
    if found.scaling != 1.0:
        notes.append(f"multiplied by {found.scaling} of scaling.json")
    return [*notes, *_gaps(runs)]


def _scored(
    folder: str, benchmark: str, order: str, runs: Sequence[RunScore], wanted: RunRule
) -> Score:
    converged = [run for run in runs if run.counts]
    official = len(runs) == wanted.runs and len(converged) >= wanted.counted
    counted = converged[: wanted.counted] if official else converged
    late = {run.index for run in converged[len(counted) :]}
    after = f"after the first {wanted.counted} that converged"
    runs = [replace(run, reason=after) if run.index in late else run for run in runs]
    by_time = sorted(counted, key=lambda run: (_time_s(run), run.index))
    dropped = [by_time[0], by_time[-1]] if official else []
    all_times = np.array([_time_s(run) for run in by_time])
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
            f"not the v0.5 statistic: {plural(len(runs), 'log')} and "
            f"{plural(len(converged), 'converged run')}, "
            f"wanted {wanted.runs} and {wanted.counted}"
        )
    contradicted = [
        run.index for run in runs if run.outcome.success not in (None, run.outcome.converged)
    ]
    if contradicted:
        notes.append(f"run_stop contradicts eval_accuracy in runs {listed(contradicted)}")
    return [*notes, *_gaps(runs)]


def _gaps(runs: Sequence[RunScore]) -> list[str]:
    """``no log for runs 1, 4 to 7``: numbers that are missing between 0 and the highest."""
    present = sorted({run.index for run in runs})
    gaps = [
        f"{before + 1}" if after == before + 2 else f"{before + 1} to {after - 1}"
        for before, after in pairwise([-1, *present])
        if after > before + 1
    ]
    return [f"no log for runs {listed(gaps)}"] if gaps else []


def plural(number: int, noun: str) -> str:
    """``1 log``, ``2 logs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(items: Sequence[object]) -> str:
    """The first twenty, and how many more."""
    shown = ", ".join(map(str, items[:20]))
    return shown if len(items) <= 20 else f"{shown} and {len(items) - 20} more"
