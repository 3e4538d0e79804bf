"""Read and write compliance lines; what cannot be read becomes a finding with its line number.

A line is looked for by its token, ``:::MLPv0.5.0`` or ``:::MLLOG``. Whatever stands before it (a
progress bar, the raw prefix of a log that is still to be stitched) is not part of it. Lines without
a token are not compliance lines.

Memory and time are bounded for any input: a line may have ``MAX_LINE`` characters, and a file
``MAX_LINES`` compliance lines of ``MAX_LOG`` characters together; what goes beyond is a finding.
The longest public v0.5 logs have some thousand lines.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from trainbench.compliance.tags import ncf as tags

TOKEN = ":::ML"
V05_TOKEN = ":::MLP"
MLLOG_TOKEN = ":::MLLOG "

MAX_LINE = 2**16
MAX_LINES = 2**16
MAX_LOG = 2**22
MAX_DEPTH = 32
MAX_FINDINGS = 100
EXCERPT = 200

# The grammar of the v0.5 checker, spelling for spelling: one digit for the minor and the patch
# version, lower-case benchmark, no space or colon in the file name, an optional space before the
# colon, white space after it.
_V05_LINE = re.compile(
    r"^:::MLPv(?P<version>\d+\.[\d+]\.[\d+]) (?P<benchmark>[a-z]+) (?P<timestamp>[\d.]+) "
    r"\((?P<file>[^: ]+):(?P<line>\d+)\) (?P<key>[A-Za-z0-9_]+) ?(?::\s+(?P<value>.+))?$"
)
_TIMESTAMP = re.compile(r"\d{1,15}(\.\d{0,30})?|\.\d{1,30}")
_UNDECODABLE = re.compile("[\udc80-\udcff]")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\udc80-\udcff]")


@dataclass(frozen=True)
class Finding:
    """One breach of one rule, with the line that breaks it when there is one."""

    rule: str
    found: str
    wanted: str
    line_number: int | None = None
    line: str | None = None

    def __str__(self) -> str:
        where = "" if self.line_number is None else f"line {self.line_number}: "
        return f"{where}{self.rule}: found {self.found}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file that holds a token: its number from 1 and its text without line end."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """What a compliance line says. ``timestamp`` keeps its digits: seconds since 1970.

    Two events are equal when they say the same, wherever they were read.
    """

    key: str
    value: Any = None
    timestamp: str = "0.000000000"
    file: str = "unknown"
    line: int = 0
    benchmark: str = tags.BENCHMARK
    version: str = tags.VERSION
    source: Line = field(default=Line(0, ""), compare=False, repr=False)

    @property
    def time(self) -> Decimal:
        """``timestamp``, exactly."""
        return Decimal(self.timestamp)

    @property
    def scalar(self) -> Any:
        """The value, or what it holds under "value" when it is given per epoch."""
        return (
            self.value["value"]
            if isinstance(self.value, dict) and "value" in self.value
            else (self.value)
        )

    @property
    def epoch(self) -> Any:
        """The epoch it names: its value's "epoch", or the value itself."""
        return self.value.get("epoch") if isinstance(self.value, dict) else self.value


def parse_line(text: str, number: int = 0) -> Event | Finding | None:
    """What ``text`` says in any spelling; None when it is not a compliance line at all.

    Understood are ``tag``, ``tag: json`` and ``tag : json`` of v0.5, behind any prefix, and the
    ``:::MLLOG {...}`` lines of 0.7 and later.
    """
    if TOKEN not in text:
        return None
    if MLLOG_TOKEN in text:
        # Here and not above: the dialect is written in terms of this module.
        from trainbench.compliance.dialects import mllog

        return mllog.parse_line(text, number)
    if text.count(V05_TOKEN) > 1:
        return unreadable(text, number, "two compliance lines in one", "one compliance line")
    return parse_v05_line(text[max(text.find(V05_TOKEN), 0) :], number)


def parse_v05_line(text: str, number: int = 0) -> Event | Finding:
    """What the v0.5 grammar makes of a line that starts with its token."""
    match = _V05_LINE.match(text.strip())
    if match is None:
        return unreadable(
            text, number, "another form", "':::MLPv0.5.0 ncf TIME (FILE:N) TAG: JSON'"
        )
    if not _TIMESTAMP.fullmatch(match["timestamp"]):
        return unreadable(text, number, f"timestamp {match['timestamp'][:40]}", "seconds")
    if len(match["line"]) > 9 or _UNPRINTABLE.search(match["file"]):
        return unreadable(text, number, "no call site", "the name of a file and a line number")
    try:
        value = parse_json(match["value"]) if match["value"] is not None else None
    except ValueError as error:
        return unreadable(text, number, f"value {match['value'][:40]} ({error})", "JSON")
    return Event(
        key=match["key"],
        value=value,
        timestamp=match["timestamp"],
        file=match["file"],
        line=int(match["line"]),
        benchmark=match["benchmark"],
        version=match["version"],
        source=Line(number, text),
    )


def parse_json(text: str) -> Any:
    """The value of a JSON text; NaN and infinity are read as the v0.5 checker reads them.

    Raises:
        ValueError: not JSON, or nested deeper than ``MAX_DEPTH``.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH}") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        # What is empty or no container counts with its holder, so it need not be looked into.
        held = (inner for outer in level for inner in _children(outer))
        level = [inner for inner in held if inner and isinstance(inner, (dict, list))]
    return depth


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def format_line(event: Event, *, prefix: str = "") -> str:
    """The v0.5 line of ``event``; ``parse_line`` gives the event back."""
    value = "" if event.value is None else f": {json.dumps(event.value)}"
    return (
        f"{prefix}{V05_TOKEN}v{event.version} {event.benchmark} {event.timestamp} "
        f"({event.file}:{event.line}) {event.key}{value}"
    )


def unreadable(text: str, number: int, found: str, wanted: str) -> Finding:
    """The finding for a line with a token that says nothing readable."""
    return Finding("parse/line", excerpt(found), wanted, number, excerpt(text))


def excerpt(text: str) -> str:
    """``text`` cut to what a report can show, without control characters and broken encoding."""
    start = _UNPRINTABLE.sub("\ufffd", text[:EXCERPT])
    return start if len(text) <= EXCERPT else start + " ..."


def shown(value: Any) -> str:
    """A value as a finding shows it: its JSON, cut; ``no value`` for a bare tag."""
    return "no value" if value is None else excerpt(json.dumps(value))


def read_lines(path: Path) -> Iterator[Line | Finding]:
    """The lines of ``path`` that hold a token, and findings for what cannot be one.

    Line ends are those of Python's text files: LF, CRLF and a lone CR, as a progress bar leaves it.

    Raises:
        OSError: the file cannot be read.
    """
    lines, characters, damaged = 0, 0, False
    for number, text, whole in _physical_lines(path):
        if not damaged and _UNDECODABLE.search(text):
            damaged = True
            yield Finding("parse/encoding", "bytes that are not UTF-8", "UTF-8", number)
        if TOKEN not in text:
            continue
        if not whole:
            yield Finding(
                "parse/length",
                f"more than {MAX_LINE:,} characters",
                "a shorter line",
                number,
                excerpt(text),
            )
            continue
        lines, characters = lines + 1, characters + len(text)
        if lines > MAX_LINES or characters > MAX_LOG:
            found = f"more than {MAX_LINES:,} compliance lines or {MAX_LOG:,} characters"
            yield Finding("parse/size", found, "the log of one run; the rest was not read", number)
            return
        yield Line(number, text)


def other_lines(path: Path) -> Iterator[Finding]:
    """Findings for the first lines that are neither empty nor compliance lines.

    Raises:
        OSError: the file cannot be read.
    """
    others = (
        Finding("parse/other", "no compliance line", "only those", number, excerpt(text))
        for number, text, _ in _physical_lines(path)
        if TOKEN not in text and text.strip()
    )
    return itertools.islice(others, MAX_FINDINGS)


def _physical_lines(path: Path) -> Iterator[tuple[int, str, bool]]:
    """(number, text, whole) of every line; an overlong one is given once, cut, if a token is in it.

    Undecodable bytes come as surrogates, so that they can be reported.
    """
    number, held = 0, ""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for piece in iter(functools.partial(file.readline, MAX_LINE), ""):
            ended = piece.endswith("\n")
            if not held:
                number += 1
                if ended or len(piece) < MAX_LINE:
                    yield number, piece.rstrip("\n"), True
                else:
                    held = piece
            else:
                # The token may straddle two pieces; one of them is kept until it was seen.
                if TOKEN not in held:
                    held = held[-len(TOKEN) :] + piece
                if ended:
                    yield number, held, False
                    held = ""
    if held:
        yield number, held, False


@dataclass(frozen=True)
class Log:
    """A log in the order of the file: what it says, and what could not be read."""

    events: tuple[Event, ...]
    findings: tuple[Finding, ...] = ()


def parse_lines(lines: Iterable[Line | Finding]) -> Log:
    """What the lines say, in any dialect; of the unreadable ones ``MAX_FINDINGS`` are described."""
    return sort_out(
        parse_line(line.text, line.number) if isinstance(line, Line) else line for line in lines
    )


def sort_out(parsed: Iterable[Event | Finding | None]) -> Log:
    """Events and findings apart, in order; findings beyond ``MAX_FINDINGS`` are only counted."""
    events: list[Event] = []
    findings: list[Finding] = []
    untold = 0
    for item in parsed:
        if isinstance(item, Event):
            events.append(item)
        elif item is not None and len(findings) < MAX_FINDINGS:
            findings.append(item)
        elif item is not None:
            untold += 1
    if untold:
        findings.append(Finding("parse/more", f"{untold:,} more findings", "none"))
    return Log(tuple(events), tuple(findings))


def read_log(path: Path) -> Log:
    """What the compliance log at ``path`` says, in any dialect.

    Raises:
        OSError: the file cannot be read.
    """
    return parse_lines(read_lines(path))
