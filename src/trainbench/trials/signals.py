"""A request to stop, by SIGINT, SIGTERM or SIGHUP, that cannot get lost.

The exception that a signal raises can: Python ignores it in a finaliser, and C code that it passes
through makes another error of it. So the request is also remembered, and long loops check for it.
"""

from __future__ import annotations

import signal
from types import FrameType

from trainbench.errors import Interrupted

_asked = False


def listen() -> None:
    """Raise ``KeyboardInterrupt`` at SIGINT, SIGTERM and SIGHUP, and remember that one came."""
    signal.signal(signal.SIGTERM, _remember)
    # Behind a shell's "&" SIGINT is ignored, under nohup SIGHUP: that is for the user to say.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _remember)


def caused(error: BaseException) -> bool:
    """Whether ``error`` is a request to stop, here or in a run that this one waits for.

    Any error is, once this process was asked to: that is what became of the exception. So is a
    broken pipe: whoever read what this process prints is gone.
    """
    return _asked or isinstance(error, (KeyboardInterrupt, Interrupted, BrokenPipeError))


def raise_if_requested() -> None:
    """Raise ``KeyboardInterrupt`` if this process was asked to stop."""
    if _asked:
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")
