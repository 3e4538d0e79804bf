"""The outcome of a run by its log: times, best quality, target and convergence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trainbench.compliance.event import Event
from trainbench.compliance.event_index import is_number
from trainbench.compliance.tags import ncf as tags


@dataclass(frozen=True)
class Outcome:
    """A run by its log. Times in seconds; None where the log does not say.

    ``seed`` is text: 62 bits are not exact in every reader of the JSON that this is written to.
    """

    run_start_unix_s: float | None
    run_stop_unix_s: float | None
    time_s: float | None
    best: float | None
    target: float | None
    converged: bool
    success: bool | None
    epochs: int
    seed: str | None


def outcome(events: Iterable[Event]) -> Outcome:
    """The outcome by the v0.5 submission tool's definitions.

    ``events`` are those that a checker reads (``Reading.told``). ``time_s`` is ``run_stop -
    run_start`` when there is exactly one of each. A run has converged when its best
    ``eval_accuracy`` reaches the one ``eval_target`` of the same log; with two different targets,
    or one of 0, it has not. ``success`` is what the log claims.
    """
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.key, []).append(event)
    rates = _numbers(found, tags.EVAL_ACCURACY)
    target = _target(found.get(tags.EVAL_TARGET, ()))
    best = max(rates, default=None)
    seeds = found.get(tags.SEED, ())
    return Outcome(
        run_start_unix_s=_only_time(found, tags.RUN_START),
        run_stop_unix_s=_only_time(found, tags.RUN_STOP),
        time_s=_run_time(found),
        best=best,
        target=target,
        converged=bool(best and target and best >= target),
        success=_success(found),
        epochs=len(rates),
        seed=_text(seeds[0].value) if seeds else None,
    )


def _numbers(found: dict[str, list[Event]], key: str) -> list[float]:
    return [event.scalar for event in found.get(key, ()) if is_number(event.scalar)]


def _text(value: Any) -> str | None:
    return value if value is None else json.dumps(value)


def _target(events: Sequence[Event]) -> float | None:
    values = [e.value.get("value") if isinstance(e.value, dict) else e.value for e in events]
    first = values[0] if values else None
    return first if is_number(first) and all(value == first for value in values) else None


def _only(found: dict[str, list[Event]], key: str) -> Event | None:
    events = found.get(key, [])
    return events[0] if len(events) == 1 else None


def _only_time(found: dict[str, list[Event]], key: str) -> float | None:
    event = _only(found, key)
    return None if event is None else _finite(float(event.time))


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def _run_time(found: dict[str, list[Event]]) -> float | None:
    start, stop = _only(found, tags.RUN_START), _only(found, tags.RUN_STOP)
    return None if start is None or stop is None else _finite(float(stop.time - start.time))


def _success(found: dict[str, list[Event]]) -> bool | None:
    stop = _only(found, tags.RUN_STOP)
    value = stop.value.get("success") if stop and isinstance(stop.value, dict) else None
    return value if isinstance(value, bool) else None
