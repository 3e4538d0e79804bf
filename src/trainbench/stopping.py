"""A request to stop, by SIGINT or SIGTERM, that cannot get lost.

The exception that a signal raises can: Python ignores it in a finaliser, and C code that it passes
through makes another error of it. So the request is remembered too, and long loops heed it.
"""

from __future__ import annotations

import signal
from types import FrameType

_asked = False


def listen() -> None:
    """Raise ``KeyboardInterrupt`` at SIGINT and SIGTERM, and remember that one came."""
    signal.signal(signal.SIGTERM, _remember)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # ignored behind a shell's "&"
        signal.signal(signal.SIGINT, _remember)


def asked() -> bool:
    """Whether this process was asked to stop."""
    return _asked


def heed() -> None:
    """Raise ``KeyboardInterrupt`` if this process was asked to stop."""
    if _asked:
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")
