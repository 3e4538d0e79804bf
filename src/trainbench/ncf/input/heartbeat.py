"""Signs of life between trainer and producer: a file that one touches and the other looks at."""

from __future__ import annotations

import os
import time
from pathlib import Path

BEAT_S = 1.0
# A longer gap between two looks tells nothing about the other process: we were stopped too.
_LONGEST_GAP_S = 5.0


class Heartbeat:
    """Touches a file at most once a second, when told of progress."""

    def __init__(self, path: Path) -> None:
        self._path, self._last = path, 0.0
        path.touch()

    def __call__(self) -> None:
        """Work went on."""
        now = time.monotonic()
        if now - self._last >= BEAT_S:
            self._last = now
            os.utime(self._path)


class Pulse:
    """Looks at a file that another process touches; ``heard``: it was touched since the start.

    Only changes count, not the times themselves: the other process may be on another machine.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.heard = path, False
        self._beat, self._silent_s, self._looked = self._touched(), 0.0, time.monotonic()

    def silent_s(self) -> float:
        """Seconds without a sign of life, of those in which this process could have seen one."""
        now = time.monotonic()
        self._silent_s += min(now - self._looked, _LONGEST_GAP_S)
        self._looked, beat = now, self._touched()
        if beat not in (None, self._beat):
            self._beat, self._silent_s, self.heard = beat, 0.0, True
        return self._silent_s

    def _touched(self) -> int | None:
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
