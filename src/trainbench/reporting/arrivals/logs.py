"""One file as a log: whether it is one, what it says of its run, and which rules it breaks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from trainbench.benchmark import registered
from trainbench.compliance.dialects import later_rounds
from trainbench.compliance.event import Event, Finding, Line, excerpt
from trainbench.compliance.outcome import outcome
from trainbench.compliance.parse import TOKEN, damage, read_lines
from trainbench.compliance.rules.levels import LEVELS
from trainbench.compliance.tags import ncf as tags
from trainbench.display.first_bytes import LENGTH, unread_format
from trainbench.reporting.arrivals.facts import Fact, Printed, facts
from trainbench.reporting.arrivals.unpack import Arrived
from trainbench.reporting.evidence import check_lines, level_of, logged_epochs
from trainbench.reporting.records import LogCheck, LoggedEpoch

V05 = "v0.5"
_LOG_ENDS = (".txt", ".log", ".out", ".err", ".stdout", ".gz", ".xz", ".bz2", "")
# A text about logs, or a program that writes them, may hold lines of one.
_NO_LOG = frozenset(
    {
        *(".adoc", ".c", ".cc", ".cpp", ".csv", ".h", ".html", ".ipynb", ".java", ".js", ".json"),
        *(".jsonl", ".md", ".patch", ".pdf", ".py", ".rst", ".scala", ".sh", ".svg", ".tex"),
        *(".xml", ".yaml", ".yml"),
    }
)
# What macOS puts beside a file of the same name, in archives and on foreign disks.
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_RESULT = re.compile(r"(?:^|[-_. ])(?:result|run|trial)[-_. ]?\d+")


@dataclass(frozen=True)
class ArrivedLog:
    """A log: the judgement of it, its facts, and what it is worth to each v0.5 checker.

    ``round`` is v0.5, or that of a later round's form; no v0.5 rule judges such a log. ``levels``
    has the highest level that it passes by checker, ``0`` for none. ``damage`` says why its file
    ends early. ``content_sha256`` is that of the file unpacked.
    """

    file: str
    round: str
    check: LogCheck
    levels: Mapping[str, str]
    facts: Mapping[str, Fact]
    epochs: tuple[LoggedEpoch, ...]
    events: tuple[Event, ...]
    damage: str
    content_sha256: str

    @property
    def strict(self) -> int | None:
        """Findings of the level strict; ``None`` where it has no rules for the benchmark."""
        judged = self.round == V05 and self.benchmark in registered()
        return len(self.check.findings) if judged else None

    @property
    def benchmark(self) -> str:
        """What its lines name."""
        return self.check.benchmark or "unknown"


def as_log(item: Arrived) -> ArrivedLog | str:
    """The log that a file is, or why it is none; empty for a file that nobody takes for one."""
    if item.content is None:
        return item.reason
    printed = Printed()
    lines: list[Line | Finding] = list(read_lines(item.content, printed))
    if item.reason:
        lines.append(Finding("parse/packed", item.reason, "a whole file"))
    sha256 = hashlib.sha256(item.content).hexdigest()
    later = later_rounds.later_log(lines)
    told = later_rounds.told(lines) if later is not None else ()
    if later is not None and told and _is_one(item, told):
        return _of_later_round(item, later, told, facts(told, printed.found), damage(lines))
    checked = check_lines(lines, item.name, sha256, prefixed=True)
    if not checked.events or not _is_one(item, checked.events):
        return _why_not(item, lines)
    check = checked.log
    if check.benchmark not in registered():
        # The strict rules are of the benchmarks here, and would be NCF's for this log.
        own = tuple(f for f in check.findings if f.level != LEVELS[-1])
        check = replace(check, findings=own)
    levels = {checker: _passed(found) for checker, found in checked.by_checker.items()}
    return ArrivedLog(
        file=item.name,
        round=V05,
        check=check,
        levels=levels,
        facts=facts(checked.events, printed.found),
        epochs=tuple(logged_epochs(checked.events)),
        events=tuple(checked.events),
        damage=damage(lines),
        content_sha256=sha256,
    )


def _passed(findings: Sequence[Finding]) -> str:
    """The highest of levels 1 and 2 that these findings leave passed, or 0."""
    broken = {level_of(finding.rule) for finding in findings}
    return "0" if LEVELS[0] in broken else "1" if LEVELS[1] in broken else "2"


def _of_later_round(
    item: Arrived,
    later: later_rounds.LaterLog,
    events: tuple[Event, ...],
    found: Mapping[str, Fact],
    damaged: str,
) -> ArrivedLog:
    """Its outcome is what it claims: the rules of its round are those of ``mlperf_logging``."""
    run, sha256 = outcome(events), hashlib.sha256(item.content or b"").hexdigest()
    empty = check_lines((), item.name, sha256).log
    # NCF left the suite, so that its logs in a later form have no line for the benchmark.
    of_ncf = any(event.key == tags.EVAL_HP_NUM_USERS for event in events)
    log = replace(
        empty,
        benchmark=later.benchmark or (tags.BENCHMARK if of_ncf else None),
        time_s=run.time_s,
        run_start_unix_s=run.run_start_unix_s,
        run_stop_unix_s=run.run_stop_unix_s,
        best=run.best,
        target=run.target,
        converged=bool(run.success),
        success=run.success,
        seed=found["seed"].value if "seed" in found else None,
        findings=(),
    )
    return ArrivedLog(
        file=item.name,
        round=f"later ({later.rules})" if later.rules else "later",
        check=log,
        levels={},
        facts=found,
        epochs=tuple(logged_epochs(events)),
        events=events,
        damage=damaged,
        content_sha256=sha256,
    )


def _is_one(item: Arrived, events: Sequence[Event]) -> bool:
    """Whether a file with such lines is a log: by its name, or because a run starts in it."""
    if _looks_like_one(item):
        return True
    kind = PurePosixPath(item.name).suffix.lower()
    return kind not in _NO_LOG and any(event.key == tags.RUN_START for event in events)


def _looks_like_one(item: Arrived) -> bool:
    name = PurePosixPath(item.name).name.lower()
    return item.named or PurePosixPath(name).suffix in _LOG_ENDS


def _why_not(item: Arrived, lines: Sequence[Line | Finding]) -> str:
    """Why a file is no log; empty for one of which nobody expects it, as a program."""
    path, content = PurePosixPath(item.name), item.content or b""
    if content.startswith(_APPLE_DOUBLE):
        return ""
    unread = "" if path.suffix.lower() in _NO_LOG else unread_format(content[:LENGTH])
    if unread:
        return unread
    damaged = damage(lines)
    expected = item.named or bool(_RESULT.search(path.name.lower()))
    if damaged and (expected or _looks_like_one(item)):
        return damaged
    text: Any = next((line.text for line in lines if isinstance(line, Line)), None)
    if text is not None and _looks_like_one(item):
        return f"no line that can be read; the first: {excerpt(text[text.find(TOKEN) :])[:60]!r}"
    if not expected:
        return ""
    return "no compliance line" if content else "empty"
