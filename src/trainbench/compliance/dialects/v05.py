"""The dialect of MLPerf v0.5: ``:::MLPv0.5.0 ncf TIME (FILE:N) TAG: JSON``."""

from __future__ import annotations

import json
import re
from typing import Any

from trainbench.compliance.event import UNPRINTABLE, Event, Finding, Line, unreadable

TOKEN = ":::MLP"

# The grammar of the v0.5 checker, spelling for spelling: one digit for the minor and the patch
# version, lower-case benchmark, no space or colon in the file name, an optional space before the
# colon, white space after it.
_LINE = re.compile(
    r"^:::MLPv(?P<version>\d+\.[\d+]\.[\d+]) (?P<benchmark>[a-z]+) (?P<timestamp>[\d.]+) "
    r"\((?P<file>[^: ]+):(?P<line>\d+)\) (?P<key>[A-Za-z0-9_]+) ?(?::\s+(?P<value>.+))?$"
)
# What a run of ours writes: a time of this century, a file's name, a line number.
_PLAIN_TIME = re.compile(r"\d{1,15}(\.\d{0,30})?|\.\d{1,30}", re.ASCII)
_LONGEST_LINE_NUMBER = 10**9
# Deeper containers are left out of a value: no rule looks there, and they would take the stack.
_KEPT_DEPTH = 32


def parse_line(text: str, number: int = 0) -> Event | Finding:
    """What the v0.5 checker makes of a line that starts with its token.

    Every number that Python reads is a time to it, in any script and of any length, and NaN and
    infinity are JSON.
    """
    match = _LINE.match(text.strip())
    if match is None:
        return unreadable(
            text, number, "another form", "':::MLPv0.5.0 ncf TIME (FILE:N) TAG: JSON'"
        )
    try:
        float(match["timestamp"])
        line = int(match["line"])
    except ValueError:
        found = f"timestamp {match['timestamp'][:40]}, line {match['line'][:40]}"
        return unreadable(text, number, found, "seconds and a line number")
    try:
        value = _value(match["value"])
    except ValueError as error:
        return unreadable(text, number, f"value {match['value'][:40]} ({error})", "JSON")
    return Event(
        key=match["key"],
        value=value,
        timestamp=match["timestamp"],
        file=match["file"],
        line=line,
        benchmark=match["benchmark"],
        version=match["version"],
        source=Line(number, text),
    )


def _value(text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except RecursionError:
        # It stops the checker as well.
        raise ValueError("nested too deep") from None
    return _cut(value, _KEPT_DEPTH) if containers(text) > _KEPT_DEPTH else value


def _cut(value: Any, depth: int) -> Any:
    if isinstance(value, list):
        return [_cut(item, depth - 1) for item in value] if depth else []
    if isinstance(value, dict):
        return {key: _cut(item, depth - 1) for key, item in value.items()} if depth else {}
    return value


def unusual(event: Event) -> str | None:
    """What in an event no run of ours can have written, though the v0.5 checker reads it."""
    if not _PLAIN_TIME.fullmatch(event.timestamp):
        return f"timestamp {event.timestamp[:40]}"
    if event.line >= _LONGEST_LINE_NUMBER or UNPRINTABLE.search(event.file):
        return "no call site"
    if containers(event.source.text) > containers(format_line(event)):
        return f"containers deeper than {_KEPT_DEPTH}, or two of one name"
    return None


def containers(text: str) -> int:
    """How many JSON containers a text can have at most."""
    return text.count("[") + text.count("{")


def format_line(event: Event) -> str:
    """The v0.5 line of ``event``; ``parse_line`` gives the event back."""
    value = "" if event.value is None else f": {json.dumps(event.value)}"
    return (
        f"{TOKEN}v{event.version} {event.benchmark} {event.timestamp} "
        f"({event.file}:{event.line}) {event.key}{value}"
    )
