"""The statistic of a folder of result logs by the rules of their round.

What the rules of v0.5 are stands in ``statistic``. Logs of later rounds are scored by
``mlperf_logging``, whose rules are other ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainbench.compliance.check import check_reading
from trainbench.compliance.dialects import later_rounds
from trainbench.compliance.dialects.later_rounds import LaterLog, LaterScore
from trainbench.compliance.event import Event, Finding, Line, excerpt
from trainbench.compliance.event_index import is_number
from trainbench.compliance.outcome import Outcome, outcome
from trainbench.compliance.parse import TOKEN, damage, read_lines
from trainbench.compliance.reading import (
    NEWEST_CHECKER,
    TOOLS_CHECKER,
    Reading,
    read,
    result_logs,
)
from trainbench.compliance.rules.levels import ruleset
from trainbench.compliance.statistic import (
    LEGACY_REFERENCE,
    ORDER_KEYS,
    ORDERS,
    UNVERIFIED,
    WANTED,
    Reference,
    RunScore,
    Score,
    gaps,
    plural,
    run_rule,
    scored,
    time_s,
)
from trainbench.compliance.submission.verifier import Judged, printed
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import ConfigError, DataIntegrityError

__all__ = ["LEGACY_REFERENCE", "UNVERIFIED", "Reference", "Score", "run_rule", "score"]


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
    runs = [_run(log, benchmark) for log in logs]
    wanted = run_rule(benchmark)
    assert wanted is not None, "a benchmark is asked for, or named, that has a rule"
    runs.sort(key=ORDER_KEYS[order])
    found = scored(folder.as_posix(), benchmark, order, runs, wanted)
    if not verifier or benchmark not in WANTED:
        return found
    levels = {log.index: _level(log, checker) for log in logs}
    judged = [
        Judged(run.index, levels[run.index], run.outcome.time_s if run.counts else None)
        for run in runs
    ]
    return replace(found, verifier=printed(benchmark, wanted, judged))


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


def _run(log: _Log, benchmark: str) -> RunScore:
    run, damaged = outcome(log.events), damage(log.lines)
    reason = _reason(log, run, benchmark)
    return RunScore(log.name, log.index, run, reason, damaged, _of_own_data(log))


def _reason(log: _Log, run: Outcome, benchmark: str) -> str:
    """Why a log of v0.5 does not count; empty where it does."""
    if not log.events:
        return _unread(log)
    named, damaged = log.events[0].benchmark, damage(log.lines)
    return "; ".join(
        ([damaged] if damaged else [])
        + ([] if named == benchmark else [f"a log of {named}"])
        + (["own ratings, not the data of the rules"] if _of_own_data(log) else [])
        + [reason for tag in (tags.RUN_START, tags.RUN_STOP) if (reason := _single(log, tag))]
        + ([] if run.converged else [_missed(log, run)])
    )


def _of_own_data(log: _Log) -> bool:
    return any(e.key == tags.DEGRADED and e.value == tags.OWN_DATA for e in log.events)


def _unread(log: _Log) -> str:
    """What stands in a log of which nothing can be read."""
    damaged = damage(log.lines)
    if damaged:
        return damaged
    first = next((line.text for line in log.lines if isinstance(line, Line)), None)
    if first is not None and read(log.lines, NEWEST_CHECKER).events:
        reader = "trainbench score --checker 2019-04 reads those with text before it"
        return f"no line begins with :::MLP; {reader}"
    if first is not None:
        return f"unreadable dialect: {excerpt(first[first.find(TOKEN) :])[:60]!r}"
    found = next((line.found for line in log.lines if isinstance(line, Finding)), None)
    return "no compliance line" + (f" ({found})" if found else "")


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
    runs.sort(key=ORDER_KEYS[order])
    counted = sorted((run for run in runs if run.counts), key=lambda run: (time_s(run), run.index))
    slow = max(found.dropped - (len(runs) - len(counted)), 0)
    kept = counted[found.dropped : len(counted) - slow] if found.mean_s is not None else []
    times = np.array([time_s(run) for run in counted])
    kept_times = np.array([time_s(run) for run in kept])
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
    damaged, reason = damage(log.lines), found.reasons.get(log.name, "")
    reason = "; ".join(filter(None, (damaged, reason)))
    return RunScore(log.name, log.index, run, reason, damaged)


def _later_notes(runs: Sequence[RunScore], found: LaterScore) -> list[str]:
    notes = [f"scored by {found.package}, rules of MLPerf Training {found.rules}"]
    if found.failure:
        notes.append(f"no score: {found.failure}")
    if len(runs) != found.wanted:
        notes.append(f"not a whole result: {plural(len(runs), 'log')}, wanted {found.wanted}")
    if found.scaling != 1.0:
        notes.append(f"multiplied by {found.scaling} of scaling.json")
    return [*notes, *gaps(runs)]
