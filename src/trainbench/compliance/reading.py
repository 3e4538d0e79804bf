"""What each of the two published v0.5 checkers reads in a log, for everything that judges logs.

``2018-11`` (505cc91) takes the lines that begin with its token, in the order of the file, and skips
every other line in silence. ``2019-04`` (1178b3d) takes every line that has the token, from its
last one on, as a set sorted as text: equal lines count once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainbench.compliance.dialects import mllog, v05
from trainbench.compliance.event import Event, Finding, Line
from trainbench.compliance.parse import read_lines, sort_out
from trainbench.files import is_own_file

CHECKERS = ("2018-11", "2019-04")
NEWEST_CHECKER = "2019-04"
# The v0.5 submission tool is of January 2019 and comes with this one: the later was not there yet.
TOOLS_CHECKER = "2018-11"

_RESULT = re.compile(r"result_(0|[1-9]\d{0,17})\.txt(\.gz)?", re.ASCII)


@dataclass(frozen=True)
class Reading:
    """A log as a checker reads it: its events in the checker's order, and what it cannot parse.

    ``told`` is what the log says of its run: the same events in the order of the file; of a log
    without any v0.5 line, those of the later dialects.
    """

    events: tuple[Event, ...]
    findings: tuple[Finding, ...]
    told: tuple[Event, ...]


def read(lines: Iterable[Line | Finding], checker: str = NEWEST_CHECKER) -> Reading:
    """What ``checker`` reads in the lines of a file (``parse.read_lines``)."""
    known = list(lines)
    damage = (item for item in known if isinstance(item, Finding))
    text = [item for item in known if isinstance(item, Line)]
    v05_lines = [line for line in text if v05.TOKEN in line.text]
    order = _sorted_as_text if checker == NEWEST_CHECKER else _at_line_start
    parsed = (v05.parse_line(line.text, line.number) for line in order(v05_lines))
    log = sort_out((*damage, *parsed))
    in_file_order = tuple(sorted(log.events, key=lambda event: event.source.number))
    return Reading(log.events, log.findings, in_file_order or tuple(_later(text)))


def read_file(path: Path, checker: str = NEWEST_CHECKER) -> Reading:
    """What ``checker`` reads in the log at ``path``.

    Raises:
        OSError: the file cannot be read.
    """
    return read(read_lines(path), checker)


def _at_line_start(lines: list[Line]) -> Iterator[Line]:
    return (line for line in lines if line.text.strip().startswith(v05.TOKEN))


def _sorted_as_text(lines: list[Line]) -> list[Line]:
    """The first of equal lines each; a line end is part of a line."""
    unique: dict[str, Line] = {}
    for line in lines:
        text = line.text[line.text.rindex(v05.TOKEN) :]
        unique.setdefault(text + "\n" * line.ended, Line(line.number, text))
    return [unique[text] for text in sorted(unique)]


def _later(lines: list[Line]) -> Iterator[Event]:
    for line in lines:
        if mllog.TOKEN in line.text:
            event = mllog.parse_line(line.text, line.number)
            if isinstance(event, Event):
                yield event


def result_logs(folder: Path) -> dict[int, Path]:
    """The ``result_<i>.txt`` of a folder by number; ``result_<i>.txt.gz`` where only that is.

    Links, pipes and devices are not read.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("result_*.txt*")):
        match = _RESULT.fullmatch(path.name)
        if match and is_own_file(path, folder):
            found.setdefault(int(match[1]), path)
    return dict(sorted(found.items()))
