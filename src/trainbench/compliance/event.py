"""What a compliance line says, and what is wrong with it: shared by all dialects and rules."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from trainbench.compliance.tags import ncf as tags

EXCERPT = 200

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\udc80-\udcff]")


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
    """A line of a file that holds a token: its number from 1 and its text without line end.

    ``ended`` is false for a last line that has no line end.
    """

    number: int
    text: str
    ended: bool = True


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
        return self.value.get("value", self.value) if isinstance(self.value, dict) else self.value

    @property
    def epoch(self) -> Any:
        """The epoch it names: its value's "epoch", or the value itself."""
        return self.value.get("epoch") if isinstance(self.value, dict) else self.value


def unreadable(text: str, number: int, found: str, wanted: str) -> Finding:
    """The finding for a line that has a token and cannot be read."""
    return Finding("parse/line", excerpt(found), wanted, number, excerpt(text))


def excerpt(text: str) -> str:
    """``text`` cut to what a report can show, without control characters and broken encoding."""
    start = UNPRINTABLE.sub("\ufffd", text[:EXCERPT])
    return start if len(text) <= EXCERPT else start + " ..."


def shown(value: Any) -> str:
    """A value as a finding shows it: its JSON, cut; ``no value`` for a bare tag."""
    return "no value" if value is None else excerpt(json.dumps(value))
