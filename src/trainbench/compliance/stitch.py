"""Make one compliance log of what the processes of a trial wrote.

The trainer, the producer and the preprocessing each have a raw log. The stitched one holds every
line of all of them once, in the order of time, without the raw prefix, and with the values filled
in that one process announced and another one logged. What cannot be read becomes a finding, so that
nothing is lost.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainbench.compliance import two_clocks
from trainbench.compliance.check import judge
from trainbench.compliance.dialects import v05
from trainbench.compliance.dialects.mllog import format_lines
from trainbench.compliance.dialects.mllog_resnet import Submission
from trainbench.compliance.event import Event, Finding, Line, excerpt
from trainbench.compliance.outcome import Outcome, outcome
from trainbench.compliance.parse import other_lines, read_lines, read_log
from trainbench.compliance.reading import CHECKERS
from trainbench.compliance.rules.cross_log import check_set
from trainbench.compliance.rules.levels import LEVELS
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.two_clocks import NOT_TIMED, Clocks, Times, of_raw_logs, times
from trainbench.errors import ConfigError, DataIntegrityError
from trainbench.files import require_own_folder, write_atomically
from trainbench.trials import chain
from trainbench.trials.paths import RunDir, TrialDir

DEFERRED = "DEFERRED: "
DIALECTS = ("v05", "mllog")
UNLIKE_RAW = "records/stitched"


@dataclass(frozen=True)
class StitchResult:
    """A stitched log: its events, what the raw logs held that could not be stitched, its outcome.

    Line numbers of ``events`` are those of the stitched log, of ``findings`` those of a raw one.
    """

    events: tuple[Event, ...]
    findings: tuple[Finding, ...]
    outcome: Outcome
    clocks: Clocks | None = None

    @property
    def times(self) -> Times:
        """The run's time by either clock."""
        return times(self.events, self.clocks)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of the stitched log."""
        return tuple(event.source.text for event in self.events)

    @property
    def time_s(self) -> float | None:
        """``run_stop - run_start`` in seconds; None for a run that did not end."""
        return self.outcome.time_s

    @property
    def text(self) -> str:
        """The content of the stitched file."""
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def summary(self) -> str:
        """``MLPerf time: 210.4 sec.``, a line that scripts search for."""
        return _time(self.outcome, self.times)


def stitch_trial(trial: TrialDir, out: Path) -> StitchResult:
    """Stitch the raw logs of a trial into ``out``, whole or not at all.

    Raises:
        DataIntegrityError: the trial has no raw log.
    """
    if not trial.raw_logs:
        raise DataIntegrityError(
            f"{trial.root}: no raw compliance log; wanted {trial.compliance_raw.name} of a trial "
            "that has run"
        )
    return stitch_files(trial.raw_logs, out)


def stitch_files(raw_logs: Iterable[Path], out: Path | None = None) -> StitchResult:
    """Stitch any raw logs, into ``out`` (whole or not at all) when it is given.

    Raises:
        DataIntegrityError: a raw log cannot be read.
    """
    events: list[Event] = []
    findings: list[Finding] = []
    raw_logs = list(raw_logs)
    for path in raw_logs:
        try:
            log, others = read_log(path), list(other_lines(path))
        except OSError as error:
            raise DataIntegrityError(f"{path}: cannot be read ({error.strerror})") from None
        events += log.events
        findings += [_of_file(path, finding) for finding in (*log.findings, *others)]
    result = stitch(events, findings, of_raw_logs(raw_logs))
    if out is not None:
        _write(out, result.text)
    return result


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def stitch(
    events: Iterable[Event], findings: Iterable[Finding] = (), clocks: Clocks | None = None
) -> StitchResult:
    """Fill in, deduplicate and sort the events of the raw logs, given log after log.

    Events of the same instant keep the order in which they come. Where the wall clock that they
    were written by does not agree with ``clocks``, that is a finding.
    """
    resolved, unresolved = _resolved(list(events))
    unique = {v05.format_line(event): event for event in resolved}
    ordered = sorted(unique.items(), key=lambda item: item[1].time)
    stitched = tuple(
        replace(event, source=Line(number, line))
        for number, (line, event) in enumerate(ordered, start=1)
    )
    found = (*findings, *unresolved, *_of_clocks(stitched, clocks))
    return StitchResult(stitched, found, outcome(stitched), clocks)


def _of_clocks(events: tuple[Event, ...], clocks: Clocks | None) -> Iterator[Finding]:
    for rule, wanted, breaches in two_clocks.RULES:
        for found, event in breaches(events, clocks):
            place = (event.source.number, excerpt(event.source.text)) if event else ()
            yield Finding(f"stitch/{rule}", found, wanted, *place)


def _text(line: Line | Finding) -> str:
    return line.text if isinstance(line, Line) else str(line)


def _resolved(events: list[Event]) -> tuple[list[Event], list[Finding]]:
    """The events with announced values filled in, and findings for those that no process logged."""
    announced = {event.key for event in events if _is_deferred(event)}
    logged: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.key in announced and not _is_deferred(event):
            logged.setdefault(event.key, {})[json.dumps(event.scalar)] = event.scalar
    resolved, findings = [], []
    for event in events:
        values = list(logged.get(event.key, {}).values())[:2] if _is_deferred(event) else []
        if len(values) == 1:
            event = replace(event, value=values[0])
        elif _is_deferred(event):
            findings.append(
                Finding(
                    f"stitch/deferred/{event.key}",
                    "different values" if values else "no value",
                    "one value from the other processes",
                    event.source.number,
                    excerpt(event.source.text),
                )
            )
        resolved.append(event)
    return resolved, findings


def _is_deferred(event: Event) -> bool:
    return isinstance(event.value, str) and event.value.startswith(DEFERRED)


def _time(run: Outcome, times: Times) -> str:
    if run.time_s is None:
        return "MLPerf time: none, the log has no single run_start and run_stop."
    # Scripts search for the time; which clock it is from is said where two clocks were read.
    clock = "" if times.agree is None else f" ({times.sentence})"
    return f"MLPerf time: {run.time_s:.1f} sec.{clock}"


def _of_file(path: Path, finding: Finding) -> Finding:
    """``finding`` with the raw log's name: its line number is that of the raw log."""
    return replace(finding, found=f"{finding.found} ({path.name})")


@dataclass(frozen=True)
class TrialFindings:
    """One trial's stitched log judged. ``file`` is relative to the run directory.

    ``levels`` holds the findings of levels 1, 2 and strict, each with those of the levels before
    it; ``stitch`` what the raw logs held that could not be stitched.
    """

    index: int
    file: str | None
    sha256: str | None
    outcome: Outcome | None
    stitch: tuple[Finding, ...]
    levels: Mapping[str, tuple[Finding, ...]]
    times: Times = NOT_TIMED

    @property
    def summary(self) -> str:
        """One line for a terminal."""
        if self.outcome is None:
            return f"trial {self.index}: {self.stitch[0]}"
        end = "Converged" if self.outcome.converged else "Not converged"
        counts = ", ".join(f"{name}: {len(self.levels[name])}" for name in LEVELS)
        time = _time(self.outcome, self.times)
        return f"trial {self.index}: {time} {end}; findings at level {counts}"

    def to_json(self) -> dict[str, Any]:
        """The trial's entry in findings.json."""
        return {
            "index": self.index,
            "file": self.file,
            "sha256": self.sha256,
            **(asdict(self.outcome) if self.outcome else {}),
            "monotonic_time_s": self.times.monotonic_s,
            "clocks_agree": self.times.agree,
            "stitch": [asdict(finding) for finding in self.stitch],
            "levels": {name: [asdict(f) for f in found] for name, found in self.levels.items()},
        }


@dataclass(frozen=True)
class RunFindings:
    """All trials of a run judged, each alone and as a set."""

    system: str
    trials: tuple[TrialFindings, ...]
    set_findings: tuple[Finding, ...]

    def to_json(self) -> str:
        """The text of findings.json, the same for the same logs."""
        content = {
            "schema": 1,
            "system": self.system,
            "checkers": list(CHECKERS),
            "trials": [trial.to_json() for trial in self.trials],
            "set": [asdict(finding) for finding in self.set_findings],
        }
        return json.dumps(content, indent=2) + "\n"


def stitch_run(
    run: RunDir, *, system: str, dialect: str = "v05", benchmark: str = tags.BENCHMARK
) -> RunFindings:
    """Stitch and judge every trial: ``results/<system>/ncf/result_<i>.txt`` and findings.json.

    ``dialect="mllog"`` writes the same events once more for the tools of today, as
    ``results/<system>/ncf_mllog/result_<i>.txt``. ``benchmark`` (ncf, resnet) names the folders. A
    trial without a readable raw log is a finding, not the end of the others.

    Raises:
        ConfigError: ``system`` cannot name a folder, or an unknown dialect.
        DataIntegrityError: the run has no trial.
    """
    if not _FOLDER_NAME.fullmatch(system):
        raise ConfigError(f"system name {system!r}: wanted letters, digits, '.', '_' and '-'")
    if dialect not in DIALECTS:
        raise ConfigError(f"unknown dialect {dialect!r} (known: {', '.join(DIALECTS)})")
    if not run.trials:
        raise DataIntegrityError(f"{run.root}: no trial_<i> folder; wanted a run that was trained")
    require_own_folder(run.results(system, benchmark), run.root)
    breaks = chain.of_run(run).breaks
    # Written again at the end: what is cut off in between has no list, and is not believed.
    run.chain.unlink(missing_ok=True)
    logs: dict[str, tuple[Event, ...]] = {}
    trials = []
    for trial in run.trials:
        out = run.results(system, benchmark) / f"result_{trial.index}.txt"
        try:
            result = stitch_trial(trial, out)
        except DataIntegrityError as error:
            trials.append(_without_log(trial.index, str(error)))
            continue
        if dialect == "mllog":
            modern = out.parent.with_name(f"{benchmark}_mllog") / out.name
            lines = format_lines(result.events, Submission(platform=system))
            _write(modern, "".join(f"{line}\n" for line in lines))
        logs[out.name] = result.events
        trials.append(_judged(run, trial.index, out, result))
    trials = [_with_breaks(trial, breaks) for trial in trials]
    of_run = [b for b in breaks if not b.file.startswith(("trial_", "results/"))]
    of_set = (*map(_finding, of_run), *check_set(logs))
    findings = RunFindings(system, tuple(trials), of_set)
    _write(run.findings, findings.to_json())
    chain.seal_results(run)
    return findings


def _with_breaks(trial: TrialFindings, breaks: Iterable[chain.Break]) -> TrialFindings:
    """``trial`` with what of its files was changed after it had ended."""
    own = (b for b in breaks if b.file.startswith(f"trial_{trial.index}/"))
    return replace(trial, stitch=(*trial.stitch, *map(_finding, own)))


def _finding(broken: chain.Break) -> Finding:
    return Finding(f"stitch/{broken.rule}", f"{broken.file}: {broken.found}", broken.wanted)


def unlike_raw(trial: TrialDir, log: Path) -> Finding | None:
    """Where the stitched ``log`` is not what the trial's raw logs give; None for no raw log."""
    if not trial.raw_logs:
        return None
    try:
        wanted = stitch_files(trial.raw_logs).lines
        found = [_text(line) for line in (*read_lines(log), *other_lines(log))]
    except (DataIntegrityError, OSError) as error:
        return Finding(UNLIKE_RAW, str(error), "raw logs to compare with")
    for number, (one, other) in enumerate(itertools.zip_longest(found, wanted), start=1):
        if one != other:
            found_line, wanted_line = ("no line" if s is None else excerpt(s) for s in (one, other))
            return Finding(UNLIKE_RAW, found_line, wanted_line, number, excerpt(one or ""))
    return None


_FOLDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{,199}")


def _judged(run: RunDir, index: int, out: Path, result: StitchResult) -> TrialFindings:
    return TrialFindings(
        index=index,
        file=out.relative_to(run.root).as_posix(),
        sha256=hashlib.sha256(result.text.encode()).hexdigest(),
        outcome=result.outcome,
        stitch=result.findings,
        levels=judge((f"{line}\n" for line in result.lines), result.clocks),
        times=result.times,
    )


def _without_log(index: int, message: str) -> TrialFindings:
    finding = Finding("stitch/no-log", message, "a raw compliance log")
    return TrialFindings(index, None, None, None, (finding,), dict.fromkeys(LEVELS, ()))
