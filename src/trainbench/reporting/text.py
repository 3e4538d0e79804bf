"""Numbers as text: with units, rounded once, "n/a" where there is none."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

NA = "n/a"


def count(value: float | None) -> str:
    """``12345`` as ``12,345``."""
    if isinstance(value, int):
        return f"{value:,d}"
    return NA if value is None else f"{value:,.0f}"


def fixed(value: float | None, digits: int = 4) -> str:
    """``value`` with that many decimals."""
    return NA if value is None else f"{value:,.{digits}f}"


def of_target(value: float | None, target: float | None, digits: int = 4) -> str:
    """``value`` with that many decimals, or with more where it else would seem to reach ``target``.

    0.63496 of 0.635 is not 0.6350.
    """
    if value is not None and target is not None and value < target:
        while round(value, digits) >= target and digits < 12:
            digits += 1
    return fixed(value, digits)


def number(value: float | None) -> str:
    """``value`` with the decimals that it has, at most four."""
    return NA if value is None else f"{round(value, 4):g}"


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal."""
    return NA if value is None else f"{100 * value:.1f} %"


def seconds(value: float | None) -> str:
    """A duration with two decimals, from 100 s on with one."""
    return NA if value is None else f"{value:,.{2 if abs(value) < 100 else 1}f} s"


def long_seconds(value: float | None) -> str:
    """A duration for a headline: seconds, and the same as h, min, s where that reads better."""
    if value is None or value < 120:
        return seconds(value)
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
    return f"{seconds(value)} ({clock})"


def scaled(value: float | None) -> str:
    """A number in millions or thousands: ``1.28 M``, ``129.4 k``."""
    if value is None:
        return NA
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:,.{2 if value < 10 * size else 1}f} {unit}"
    return f"{value:,.0f}"


def gib(value: float | None) -> str:
    """Bytes as GiB, or as MiB below one GiB."""
    if value is None:
        return NA
    return f"{value / 2**30:,.1f} GiB" if value >= 2**30 else f"{value / 2**20:,.1f} MiB"


def moment(unix_s: float | None) -> str:
    """A point in time in UTC, to the second."""
    if unix_s is None or not 0 <= unix_s < 4e9:
        return NA
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def yes(value: bool | None) -> str:
    """``yes``, ``no`` or n/a."""
    return NA if value is None else ("yes" if value else "no")


def shown(value: Any) -> str:
    """Any value of a JSON file as text."""
    if value is None or value == "":
        return NA
    if isinstance(value, bool):
        return yes(value)
    if isinstance(value, int):
        return count(value)
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value) or NA
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(item)}" for key, item in sorted(value.items())) or NA
    return str(value)


def plural(number: int, noun: str) -> str:
    """``1 finding``, ``2 findings``, ``no findings``."""
    amount = "no" if number == 0 else f"{number:,}"
    return f"{amount} {noun}" if number == 1 else f"{amount} {noun}s"
