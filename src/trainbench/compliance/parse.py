"""Read compliance logs of any dialect; what cannot be read becomes a finding with its line number.

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
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainbench.compliance.dialects import mllog, v05
from trainbench.compliance.event import Event, Finding, Line, excerpt, unreadable

TOKEN = ":::ML"

MAX_LINE = 2**16
MAX_LINES = 2**16
MAX_LOG = 2**22
MAX_FINDINGS = 100

_UNDECODABLE = re.compile("[\udc80-\udcff]")


def parse_line(text: str, number: int = 0) -> Event | Finding | None:
    """What ``text`` says in any dialect; None when it is not a compliance line at all.

    Understood are ``tag``, ``tag: json`` and ``tag : json`` of v0.5, behind any prefix, and the
    ``:::MLLOG {...}`` lines of 0.7 and later.
    """
    if TOKEN not in text:
        return None
    if mllog.TOKEN in text:
        return mllog.parse_line(text, number)
    if text.count(v05.TOKEN) > 1:
        return unreadable(text, number, "two compliance lines in one", "one compliance line")
    return v05.parse_line(text[max(text.find(v05.TOKEN), 0) :], number)


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
    not_listed = 0
    for item in parsed:
        if isinstance(item, Event):
            events.append(item)
        elif item is not None and len(findings) < MAX_FINDINGS:
            findings.append(item)
        elif item is not None:
            not_listed += 1
    if not_listed:
        findings.append(Finding("parse/more", f"{not_listed:,} more findings", "none"))
    return Log(tuple(events), tuple(findings))


def read_log(path: Path) -> Log:
    """What the compliance log at ``path`` says, in any dialect.

    Raises:
        OSError: the file cannot be read.
    """
    return parse_lines(read_lines(path))
