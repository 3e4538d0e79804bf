"""The clock of one trial: phases by name, on or off it.

A phase is timed when the clock runs, and the clock runs from ``start`` to ``stop`` without a pause
(training_rules.adoc@6e02163, "Run Results"), so a phase cannot be moved off it by mistake.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainbench.files import append_line, fill, is_own_file, parse_object, read_file


@dataclass(frozen=True)
class _Phase:
    timed: bool | None
    start_unix_s: float | None
    duration_s: float | None


def timed_span(phases: Path) -> tuple[float, float] | None:
    """Unix times at which the first phase on the clock began and the last one ended.

    None where ``phases`` is no file, or no line of it says so.
    """
    spans = []
    for phase in _phases(phases):
        start, duration = phase.start_unix_s, phase.duration_s
        if phase.timed and start is not None and duration is not None:
            spans.append((start, start + duration))
    if not spans:
        return None
    return min(start for start, _ in spans), max(stop for _, stop in spans)


def _phases(path: Path) -> Iterator[_Phase]:
    """The lines that can be read."""
    if not is_own_file(path, path.parent):
        return
    with contextlib.suppress(ValueError):
        for line in read_file(path).decode(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                yield fill(_Phase, parse_object(line))


class TrialClock:
    """Records phases to ``phases.jsonl`` and measures the time since ``start``.

    Durations come from the monotonic clock; one wall-clock anchor dates them.
    """

    def __init__(self, phases: Path) -> None:
        self._phases = phases
        self._anchor = time.time() - time.perf_counter()
        self._started: float | None = None
        self._stopped: float | None = None

    @property
    def running(self) -> bool:
        """Whether time counts now."""
        return self._started is not None and self._stopped is None

    def start(self) -> None:
        """Start the clock; once per trial."""
        assert self._started is None, "the clock of a trial starts once"
        self._started = time.perf_counter()

    def stop(self) -> float:
        """Stop the clock for good and return the time to train in seconds."""
        assert self.running, "only a running clock stops"
        self._stopped = time.perf_counter()
        return self.elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Seconds on the clock so far."""
        if self._started is None:
            return 0.0
        return (self._stopped or time.perf_counter()) - self._started

    @contextlib.contextmanager
    def phase(
        self, name: str, *, epoch: int | None = None, beside_s: float | None = None
    ) -> Iterator[None]:
        """Record the body as the phase ``name``, on the clock if it runs when the body begins.

        Phases follow each other. Of one that waits for work which ran beside those before it,
        ``beside_s`` says how long it did.
        """
        timed, started = self.running, time.perf_counter()
        try:
            yield
        finally:
            line = {
                "name": name,
                "epoch": epoch,
                "start_unix_s": round(self._anchor + started, 6),
                "duration_s": round(time.perf_counter() - started, 6),
                "timed": timed,
            }
            if beside_s is not None:
                line["beside_s"] = round(beside_s, 6)
            append_line(self._phases, json.dumps(line))
