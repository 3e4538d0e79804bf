"""Read compliance logs of any dialect; what cannot be read becomes a finding with its line number.

A line is looked for by its token, ``:::MLPv0.5.0`` or ``:::MLLOG``. Lines without a token are not
compliance lines. ``read_lines`` is the only reader of log files: plain or compressed with gzip,
told by their first bytes, and read once, so a pipe will do. What the lines mean to each of the two
published checkers is in ``reading``; ``read_log`` here is for the raw logs that our own processes
write, in which whatever stands before a token (a progress bar, the raw prefix) is no part of it.

Memory and time are bounded for any input: a line may have ``MAX_LINE`` characters, a file
``MAX_FILE`` unpacked, of which ``MAX_LINES`` compliance lines of ``MAX_LOG`` characters together;
what goes beyond is a finding. That is 4,096 lines of each of 256 devices. The longest public v0.5
logs have some thousand lines.
"""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from trainbench.compliance.dialects import mllog, v05
from trainbench.compliance.event import Event, Finding, Line, excerpt, unreadable

TOKEN = ":::ML"

MAX_LINE = 2**19
MAX_LINES = 2**20
MAX_LOG = 2**27
MAX_FILE = 2**30
MAX_FINDINGS = 100

# What a JSON container takes beyond its text, so that a line of brackets does not fill the memory.
_CONTAINER = 16
_GZIP = b"\x1f\x8b"
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
    parsed = v05.parse_line(text[max(text.find(v05.TOKEN), 0) :], number)
    unusual = v05.unusual(parsed) if isinstance(parsed, Event) else None
    return unreadable(text, number, unusual, "what a run writes") if unusual else parsed


def read_lines(
    source: Path | bytes, aside: Callable[[int, str], None] | None = None
) -> Iterator[Line | Finding]:
    """The lines of ``source`` that hold a token, and findings for what cannot be one.

    Line ends are those of Python's text files: LF, CRLF and a lone CR, as a progress bar leaves it.
    ``source`` is a file or the bytes of one; ``aside`` is called with number and text of each
    other line.

    Raises:
        OSError: the file cannot be read.
    """
    lines, size = 0, 0
    for item in _physical_lines(source):
        if isinstance(item, Finding):
            yield item
        elif TOKEN not in item[1]:
            if aside:
                aside(*item)
        else:
            number, text = item
            lines, size = lines + 1, size + len(text) + _CONTAINER * v05.containers(text)
            if lines > MAX_LINES or size > MAX_LOG:
                found = f"more than {MAX_LINES:,} compliance lines or {MAX_LOG:,} characters"
                yield _too_much(found, number)
                return
            yield Line(number, text.removesuffix("\n"), text.endswith("\n"))


DAMAGE = ("parse/gzip", "parse/packed", "parse/size")
"""The findings that say that a file was not read to its end."""


def damage(lines: Iterable[Line | Finding]) -> str:
    """Why a file was not read to its end, by what ``read_lines`` gave; empty if it was."""
    found = (i.found for i in lines if isinstance(i, Finding) and i.rule in DAMAGE)
    return next(found, "")


def other_lines(path: Path) -> Iterator[Finding]:
    """Findings for the first lines that are neither empty nor compliance lines.

    Raises:
        OSError: the file cannot be read.
    """
    others = (
        Finding("parse/other", "no compliance line", "only those", item[0], excerpt(item[1]))
        for item in _physical_lines(path)
        if not isinstance(item, Finding) and TOKEN not in item[1] and item[1].strip()
    )
    return itertools.islice(others, MAX_FINDINGS)


def _physical_lines(source: Path | bytes) -> Iterator[tuple[int, str] | Finding]:
    """Number and text, with its line end, of every line; findings for what is none.

    Undecodable bytes come as surrogates and are found once.
    """
    number, held, damaged = 0, "", False
    for piece in _pieces(source):
        number += not held
        if isinstance(piece, Finding):
            yield replace(piece, line_number=number)
            return
        if not damaged and _UNDECODABLE.search(piece):
            damaged = True
            yield Finding("parse/encoding", "bytes that are not UTF-8", "UTF-8", number)
        ended = piece.endswith("\n") or len(piece) < MAX_LINE
        if ended and not held:
            yield number, piece
            continue
        # The token may straddle two pieces; one of them is kept until it was seen.
        held = held if TOKEN in held else held[-len(TOKEN) :] + piece
        if ended:
            yield from _overlong(held, number)
            held = ""
    yield from _overlong(held, number)


def _overlong(held: str, number: int) -> Iterator[Finding]:
    if TOKEN in held:
        found = f"more than {MAX_LINE:,} characters"
        yield Finding("parse/length", found, "a shorter line", number, excerpt(held))


def _pieces(source: Path | bytes) -> Iterator[str | Finding]:
    """The file line by line, a long one in pieces of ``MAX_LINE``; why the rest was not read."""
    characters = 0
    try:
        with _opened(source) as file:
            for piece in iter(functools.partial(file.readline, MAX_LINE), ""):
                characters += len(piece)
                if characters > MAX_FILE:
                    yield _too_much(f"more than {MAX_FILE:,} characters")
                    return
                yield piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield Finding("parse/gzip", f"damaged gzip ({error})", "a whole file")


def _too_much(found: str, number: int | None = None) -> Finding:
    return Finding("parse/size", found, "the log of one run; the rest was not read", number)


@contextmanager
def _opened(source: Path | bytes) -> Iterator[TextIO]:
    """The text of a file, unpacked where its first bytes are those of gzip."""
    with (
        open(source, "rb")
        if isinstance(source, Path)
        else io.BufferedReader(io.BytesIO(source)) as file
    ):
        packed = file.peek(len(_GZIP)).startswith(_GZIP)
        binary = gzip.GzipFile(fileobj=file) if packed else file
        with io.TextIOWrapper(binary, encoding="utf-8", errors="surrogateescape") as text:
            yield text


@dataclass(frozen=True)
class Log:
    """What a log says, in the order in which it was read, and what could not be read."""

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
    """What the raw compliance log at ``path`` says, in any dialect.

    Raises:
        OSError: the file cannot be read, or is damaged gzip.
    """
    return parse_lines(read_lines(path))
