"""The stitched logs of a run, checked again: what an earlier step found is not believed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from trainbench.compliance import score as scoring
from trainbench.compliance.check import check_reading
from trainbench.compliance.event import Event, Finding, Line, excerpt
from trainbench.compliance.hyperparameters import hyperparameters
from trainbench.compliance.outcome import outcome
from trainbench.compliance.parse import read_lines
from trainbench.compliance.reading import (
    CHECKERS,
    NEWEST_CHECKER,
    TOOLS_CHECKER,
    read,
    result_logs,
)
from trainbench.compliance.rules.cross_log import SET_RULES, check_set
from trainbench.compliance.rules.levels import LEVELS, described, ruleset
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.tags import resnet as resnet_tags
from trainbench.compliance.two_clocks import Clocks, of_log, times
from trainbench.files import fill, is_own_file, is_own_folder, sha256_of
from trainbench.reporting.records import LogCheck, LogFinding, LoggedEpoch, Rule, Score
from trainbench.trials.paths import RunDir

CONTEXT_LINES = 2
_Record = TypeVar("_Record", LogCheck, LogFinding, Score)


@dataclass(frozen=True)
class Evidence:
    """All stitched logs of a run: each alone by trial, all as a set, and their statistic.

    ``epochs`` holds what the logs say of each epoch, ``logged`` what they say of the
    hyperparameters, by tag.
    """

    logs: Mapping[int, LogCheck]
    epochs: Mapping[int, tuple[LoggedEpoch, ...]]
    logged: Mapping[str, tuple[Any, ...]]
    set_findings: tuple[LogFinding, ...]
    score: Score | None


def evidence(run: RunDir, system: str | None, missing: list[str], benchmark: str) -> Evidence:
    """The judgement of every ``result_<i>.txt``; a trial without one goes to ``missing``."""
    folder = results_folder(run, system, benchmark)
    logs: dict[int, LogCheck] = {}
    events: dict[int, Sequence[Event]] = {}
    stitched = result_logs(folder)
    for index in sorted({trial.index for trial in run.trials} | set(stitched)):
        path = stitched.get(index, folder / f"result_{index}.txt")
        name = path.relative_to(run.root).as_posix()
        if is_own_file(path, run.root):
            logs[index], events[index] = check_log(path, name)
        else:
            missing.append(f"{name}: file not there (run the stitch step)")
    of_set = check_set({f"result_{index}.txt": log for index, log in events.items()})
    return Evidence(
        logs=logs,
        epochs={index: tuple(logged_epochs(log)) for index, log in events.items()},
        logged=hyperparameters(events.values()),
        set_findings=tuple(with_context(finding, []) for finding in of_set),
        score=_score(folder, benchmark) if logs else None,
    )


def logged_epochs(events: Sequence[Event]) -> Iterable[LoggedEpoch]:
    """What a log says of each evaluation."""
    start = outcome(events).run_start_unix_s
    for event in _evaluations(events):
        unix_s = float(event.time)
        times = {"elapsed_s": None if start is None else unix_s - start, "unix_s": unix_s}
        yield fill(LoggedEpoch, {**event.value, **times}, set(), {"quality": "value"})


def _evaluations(events: Sequence[Event]) -> Iterable[Event]:
    return (e for e in events if e.key == tags.EVAL_ACCURACY and isinstance(e.value, dict))


def results_folder(run: RunDir, system: str | None, benchmark: str) -> Path:
    """``results/<system>/<benchmark>``; the only one there is where run.json names no system."""
    found = run.root.glob(f"results/*/{benchmark}")
    folders = sorted(folder for folder in found if is_own_folder(folder, run.root))
    named = [folder for folder in folders if folder.parent.name == system]
    return next(iter(named or folders), run.root / "results" / "unnamed" / benchmark)


def check_log(path: Path, name: str) -> tuple[LogCheck, Sequence[Event]]:
    """Which rules of any level and checker the log at ``path`` breaks, and what it contains."""
    checked = check_lines(list(read_lines(path)), name, sha256_of(path), of_log(path))
    return checked.log, checked.events


@dataclass(frozen=True)
class Checked:
    """A log checked, the events that tell its outcome, and the findings of each checker alone."""

    log: LogCheck
    events: Sequence[Event]
    by_checker: Mapping[str, Sequence[Finding]]


def check_lines(
    lines: Sequence[Line | Finding],
    name: str,
    sha256: str,
    clocks: Clocks | None = None,
    *,
    prefixed: bool = False,
) -> Checked:
    """The judgement of the lines of a log that is called ``name``.

    With ``prefixed``, what the later checker reads tells the outcome where the earlier one, which
    wants its token at the beginning of a line, reads nothing.
    """
    logs = {checker: read(lines, checker) for checker in CHECKERS}
    events = logs[TOOLS_CHECKER].told
    if prefixed and not events:
        events = logs[NEWEST_CHECKER].told
    known = [line for line in lines if isinstance(line, Line)]
    shown = times(events, clocks)
    run = outcome(events)
    by_checker = {
        checker: check_reading(log, ruleset(LEVELS[-1], checker=checker), clocks)
        for checker, log in logs.items()
    }
    found = dict.fromkeys(f for findings in by_checker.values() for f in findings)
    judged = _copied(
        LogCheck,
        run,
        file=name,
        sha256=sha256,
        monotonic_time_s=shown.monotonic_s,
        clocks_agree=shown.agree,
        benchmark=events[0].benchmark if events else None,
        seed=run.seed or _random_seed(events),
        degraded=tuple(dict.fromkeys(_degraded(events))),
        findings=tuple(with_context(finding, known) for finding in found),
    )
    return Checked(judged, events, by_checker)


def _random_seed(events: Sequence[Event]) -> str | None:
    """The seed where a log has it under v0.5's own tag, as ResNet's have."""
    found = (e.value for e in events if e.key == resnet_tags.RUN_SET_RANDOM_SEED)
    return next((json.dumps(value) for value in found if value is not None), None)


def _degraded(events: Sequence[Event]) -> Iterable[str]:
    found = (event.value for event in events if event.key == tags.DEGRADED)
    return (excerpt(value) for value in found if isinstance(value, str))


def rules(benchmark: str) -> tuple[Rule, ...]:
    """Every rule that is applied, each under the lowest level that has it."""
    named = {**dict(described(LEVELS[-1], benchmark=benchmark)), **dict(SET_RULES)}
    return tuple(Rule(level_of(rule), rule, wanted) for rule, wanted in named.items())


def level_of(rule: str) -> str:
    """The lowest level that a rule belongs to; an unreadable line fails all of them."""
    prefixes = {"level1": "1", "level2": "2", "parse": "1"}
    return prefixes.get(rule.split("/", 1)[0], "strict")


def lost_lines(recorded: Mapping[str, Any]) -> dict[int, tuple[LogFinding, ...]]:
    """By trial, the raw lines that findings.json says could not be stitched."""
    trials = recorded.get("trials")
    entries = [t for t in trials if isinstance(t, dict)] if isinstance(trials, list) else []
    return {
        entry["index"]: tuple(_recorded(entry.get("stitch")))
        for entry in entries
        if isinstance(entry.get("index"), int)
    }


# What stitch finds and is found here again.
_JUDGED_AGAIN = ("stitch/clock/", "stitch/chain/")


def _recorded(findings: Any) -> Iterable[LogFinding]:
    for record in findings if isinstance(findings, list) else ():
        if isinstance(record, dict) and not str(record.get("rule")).startswith(_JUDGED_AGAIN):
            rule, found, wanted = (str(record.get(key)) for key in ("rule", "found", "wanted"))
            yield LogFinding("strict", rule, None, found, wanted, ())


def _score(folder: Path, benchmark: str) -> Score:
    return score_record(scoring.score(folder, benchmark=benchmark, verifier=False))


def score_record(found: scoring.Score) -> Score:
    """A statistic as the report has it."""
    interval = (found.interval.low, found.interval.high) if found.interval else None
    return _copied(Score, found, runs=len(found.runs), interval_s=interval)


def with_context(finding: Finding, lines: Sequence[Line]) -> LogFinding:
    """A finding as the report has it, with the lines around it."""
    context = _context(finding, lines)
    return _copied(LogFinding, finding, level=level_of(finding.rule), excerpt=context)


def _copied(kind: type[_Record], source: Any, **own: Any) -> _Record:
    """A ``kind`` of the fields that ``source`` has under the same names, and of its ``own``."""
    shared = {f.name: getattr(source, f.name) for f in fields(kind) if f.name not in own}
    return kind(**shared, **own)


def _context(finding: Finding, lines: Sequence[Line]) -> tuple[tuple[int, str], ...]:
    """The line that was found with its neighbours, each with its number; empty for a whole log."""
    if finding.line_number is None:
        return ()
    places = [i for i, line in enumerate(lines) if line.number == finding.line_number]
    if not places:
        return ((finding.line_number, finding.line or ""),)
    first, last = max(0, places[0] - CONTEXT_LINES), places[0] + CONTEXT_LINES + 1
    return tuple((line.number, excerpt(line.text)) for line in lines[first:last])
