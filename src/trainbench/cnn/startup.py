"""Where the time before the steps goes: the phases of a start, each second in one of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from trainbench.progress import duration, heartbeat, log_line

PHASES = {
    "import": "importing TensorFlow",
    "build": "building the network",
    "trace": "tracing the step",
    "freeze": "making the weights constants",
    "compile": "compiling the step",
}
"""Name and words of each, in order. To compile is the first step, less its tracing."""
BEAT_S = 5.0


class Startup:
    """Seconds of each phase that a run went through; what follows the first step is no start."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._inside = False
        self._done = False

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the body as ``name``, but for phases within it, and say so while it lasts."""
        if self._done:
            yield
            return
        outermost, self._inside = not self._inside, True
        before, started = sum(self._seconds.values()), time.perf_counter()
        beat = heartbeat(PHASES[name], interval_s=BEAT_S) if outermost else contextlib.nullcontext()
        try:
            with beat:
                yield
        finally:
            within = sum(self._seconds.values()) - before
            own = time.perf_counter() - started - within
            self._seconds[name] = self._seconds.get(name, 0.0) + own
            self._inside = not outermost

    def traced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, whose Python runs only when TensorFlow traces it, counted as tracing."""

        def trace(*args: Any) -> Any:
            with self.phase("trace"):
                return function(*args)

        return trace

    def finish(self) -> None:
        """Say once, after the first step, what the start took."""
        if self._done:
            return
        self._done = True
        parts = (f"{name} {duration(seconds)}" for name, seconds in self.seconds().items())
        log_line("start-up: " + ", ".join(parts))

    def seconds(self) -> dict[str, float]:
        """Seconds by phase, in order; a phase that did not happen is left out."""
        return {name: self._seconds[name] for name in PHASES if name in self._seconds}
