"""The dialect of MLPerf v0.5: ``:::MLPv0.5.0 ncf TIME (FILE:N) TAG: JSON``."""

from __future__ import annotations

import json
import re

from trainbench.compliance.event import UNPRINTABLE, Event, Finding, Line, unreadable
from trainbench.files import parse_json

TOKEN = ":::MLP"

# The grammar of the v0.5 checker, spelling for spelling: one digit for the minor and the patch
# version, lower-case benchmark, no space or colon in the file name, an optional space before the
# colon, white space after it.
_LINE = re.compile(
    r"^:::MLPv(?P<version>\d+\.[\d+]\.[\d+]) (?P<benchmark>[a-z]+) (?P<timestamp>[\d.]+) "
    r"\((?P<file>[^: ]+):(?P<line>\d+)\) (?P<key>[A-Za-z0-9_]+) ?(?::\s+(?P<value>.+))?$"
)
_TIMESTAMP = re.compile(r"\d{1,15}(\.\d{0,30})?|\.\d{1,30}")


def parse_line(text: str, number: int = 0) -> Event | Finding:
    """What the v0.5 grammar makes of a line that starts with its token."""
    match = _LINE.match(text.strip())
    if match is None:
        return unreadable(
            text, number, "another form", "':::MLPv0.5.0 ncf TIME (FILE:N) TAG: JSON'"
        )
    if not _TIMESTAMP.fullmatch(match["timestamp"]):
        return unreadable(text, number, f"timestamp {match['timestamp'][:40]}", "seconds")
    if len(match["line"]) > 9 or UNPRINTABLE.search(match["file"]):
        return unreadable(text, number, "no call site", "the name of a file and a line number")
    try:
        # NaN and infinity are read as the v0.5 checker reads them.
        value = parse_json(match["value"], float) if match["value"] is not None else None
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


def format_line(event: Event) -> str:
    """The v0.5 line of ``event``; ``parse_line`` gives the event back."""
    value = "" if event.value is None else f": {json.dumps(event.value)}"
    return (
        f"{TOKEN}v{event.version} {event.benchmark} {event.timestamp} "
        f"({event.file}:{event.line}) {event.key}{value}"
    )
