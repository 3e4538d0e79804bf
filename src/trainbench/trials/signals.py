"""A request to stop, by SIGINT or SIGTERM, that cannot get lost.

The exception that a signal raises can: Python ignores it in a finaliser, and C code that it passes
through makes another error of it. So the request is also remembered, and long loops check for it.
"""

from __future__ import annotations

import signal
from types import FrameType

from trainbench.errors import Interrupted

_asked = False


def listen() -> None:
    """Raise ``KeyboardInterrupt`` at SIGINT and SIGTERM, and remember that one came."""
    signal.signal(signal.SIGTERM, _remember)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # ignored behind a shell's "&"
        signal.signal(signal.SIGINT, _remember)


def caused(error: BaseException) -> bool:
    """Whether ``error`` is a request to stop, here or in a run that this one waits for.

    Any error is, once this process was asked to: that is what became of the exception.
    """
    return _asked or isinstance(error, (KeyboardInterrupt, Interrupted))


def raise_if_requested() -> None:
    """Raise ``KeyboardInterrupt`` if this process was asked to stop."""
    if _asked:
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")
