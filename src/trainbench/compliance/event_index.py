"""The events of a log as the strict rules look at them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from trainbench.compliance.event import Event
from trainbench.compliance.tags import ncf as tags

if TYPE_CHECKING:
    from trainbench.compliance.two_clocks import Clocks

# What was found, with the event that shows it.
Breach = tuple[str, Event | None]


class EventIndex:
    """The events of a log in the order of the file, and by tag; ``clocks`` if they are known."""

    def __init__(self, events: Iterable[Event], clocks: Clocks | None = None) -> None:
        self.events, self.clocks = tuple(events), clocks
        self._by_key: dict[str, list[tuple[int, Event]]] = {}
        for position, event in enumerate(self.events):
            self._by_key.setdefault(event.key, []).append((position, event))

    def all(self, key: str) -> list[Event]:
        """Every event of a tag."""
        return [event for _, event in self._by_key.get(key, ())]

    def position(self, key: str) -> int | None:
        """Where the tag stands first, counted in events from 0."""
        return self._by_key[key][0][0] if key in self._by_key else None

    def between(self, first: str | None, last: str | None) -> tuple[Event, ...]:
        """The events after the first ``first`` and before the first ``last``, if they are there."""
        start = self.position(first) if first else None
        stop = self.position(last) if last else None
        return self.events[0 if start is None else start + 1 : stop]


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number that a float can hold; a boolean is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def hit_rates(index: EventIndex) -> list[tuple[float, Event]]:
    """The numeric evaluation results in order."""
    return [(e.scalar, e) for e in index.all(tags.EVAL_ACCURACY) if is_number(e.scalar)]


def target(index: EventIndex) -> float | None:
    """The last quality target that the log states."""
    stated = [e.scalar for e in index.all(tags.EVAL_TARGET) if is_number(e.scalar)]
    return stated[-1] if stated else None


def users(index: EventIndex) -> int | None:
    """The last number of users that the log states."""
    stated = [e.scalar for e in index.all(tags.EVAL_HP_NUM_USERS) if is_number(e.scalar)]
    return int(stated[-1]) if stated else None
