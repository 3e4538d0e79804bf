"""How long work reports: a bar on a terminal, otherwise one line every ten seconds.

Lines go to stderr with the time in front; stdout is left to results. Container engines pass lines
on whole, so a carriage return is written only to a terminal.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO

from trainbench.display.visible import presentable, steer

LINE_INTERVAL_S = 10.0


def log_line(text: str, *, stream: TextIO | None = None) -> None:
    """Write one human line, with the time of day (UTC) in front, to stderr."""
    out = stream or sys.stderr
    out.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {presentable(text)}\n")
    out.flush()


def scaled(value: float, unit: str) -> str:
    """``value`` with a decimal prefix: ``1_234_567, "B"`` gives ``1.23 MB``."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.2f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def duration(seconds: float) -> str:
    """``seconds`` as people say it: ``41.2 s``, ``5m18s``, ``2h05m``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


class Progress:
    """Counts work done towards a total and reports value, rate and ETA.

    Args:
        total: the amount to do, or ``None`` when it is unknown.
        unit: what is counted, in the singular (``B``, ``samples``).
        label: what is being done.
        done: the amount that was there before (a resumed download); not part of the rate.
    """

    def __init__(
        self,
        total: float | None,
        *,
        unit: str = "B",
        label: str = "",
        done: float = 0,
        stream: TextIO | None = None,
    ) -> None:
        self.total, self.unit, self.label, self.done = total, unit, label, done
        self._before = done
        self._out = stream or sys.stderr
        self._terminal = self._out.isatty()
        self._started = self._shown = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal:
            steer(self._out, "\r\x1b[K")
        seconds = time.monotonic() - self._started
        amount = scaled(self.done, self.unit)
        rate = scaled(self._rate(), f"{self.unit}/s")
        ending = "done" if kind is None else "stopped"
        log_line(
            f"{self.label}: {ending}, {amount} in {duration(seconds)} ({rate})", stream=self._out
        )

    def advance(self, amount: float) -> None:
        """Count ``amount`` more as done and report if it is time to."""
        self.done += amount
        now = time.monotonic()
        if now - self._shown < (0.2 if self._terminal else LINE_INTERVAL_S):
            return
        self._shown = now
        if self._terminal:
            steer(self._out, f"\r\x1b[K{presentable(self.line())}")
            self._out.flush()
        else:
            log_line(self.line(), stream=self._out)

    def line(self) -> str:
        """The present state: label, amount, share, rate and ETA."""
        rate = self._rate()
        amount = scaled(self.done, self.unit)
        if not self.total:
            return f"{self.label}: {amount}  {scaled(rate, f'{self.unit}/s')}"
        left = (self.total - self.done) / rate if rate else None
        eta = "" if left is None else f"  ETA {duration(left)}"
        return (
            f"{self.label}: {amount} of {scaled(self.total, self.unit)} "
            f"({100 * self.done / self.total:.0f} %)  {scaled(rate, f'{self.unit}/s')}{eta}"
        )

    def _rate(self) -> float:
        return (self.done - self._before) / max(time.monotonic() - self._started, 1e-9)


@contextlib.contextmanager
def heartbeat(label: str, *, interval_s: float = 20.0) -> Iterator[None]:
    """Say ``still <label> (43.0 s)`` at intervals while the body runs; silence then means death."""
    finished = threading.Event()
    started = time.monotonic()

    def beat() -> None:
        while not finished.wait(interval_s):
            log_line(f"still {label} ({duration(time.monotonic() - started)})")

    thread = threading.Thread(target=beat, daemon=True, name=f"heartbeat {label}")
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
