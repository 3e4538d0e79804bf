"""A request to stop, by SIGINT, SIGTERM or SIGHUP, that cannot get lost.

The exception that a signal raises can: Python ignores it in a finaliser, and C code that it passes
through makes another error of it. So the request is also remembered, and long loops check for it.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from trainbench.errors import Interrupted

_asked: str | None = None
_waits = False


def listen() -> None:
    """Raise ``KeyboardInterrupt`` at SIGINT, SIGTERM and SIGHUP, and remember that one came.

    One that came before, while SIGINT was kept from this process, raises here.
    """
    _set(_remember)
    _mask("SIG_UNBLOCK")


def rest() -> None:
    """End at once at any of them: the work is done, and nothing is left to be told or saved.

    An exception in the last moments of the interpreter would only print a traceback.
    """
    _set(signal.SIG_DFL)
    # If a KeyboardInterrupt left code that is given as text, as that of dataclasses is, ``python
    # -m`` ends by SIGINT, caught or not (CPython's ``unhandled_keyboard_interrupt``), until other
    # such code has run.
    exec("")


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Inside, start a process that hears of SIGINT when it listens, and not while it still imports.

    Ctrl-C reaches all processes of a terminal, and one that imports prints a traceback at it.
    """
    _mask("SIG_BLOCK")
    try:
        yield
    finally:
        _mask("SIG_UNBLOCK")


def caused(error: BaseException) -> bool:
    """Whether ``error`` is a request to stop, here or in a run that this one waits for.

    Any error is, once this process was asked to: that is what became of the exception. So is a
    broken pipe: whoever read what this process prints is gone.
    """
    return bool(_asked) or isinstance(error, (KeyboardInterrupt, Interrupted, BrokenPipeError))


def raise_if_requested() -> None:
    """Raise ``KeyboardInterrupt`` if this process was asked to stop."""
    if _asked:
        raise KeyboardInterrupt


def requested() -> str | None:
    """The name of the signal that asked this process to stop, if one did."""
    return _asked or None


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP are remembered and raise nothing: the body looks for them.

    Ctrl-C raises there too.
    """
    global _waits
    _waits = True
    try:
        yield
    finally:
        _waits = False


def _set(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    signal.signal(signal.SIGTERM, handler)
    # Behind a shell's "&" SIGINT is ignored, under nohup SIGHUP: that is for the user to say.
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no terminal that hangs up.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _mask(how: str) -> None:
    if hasattr(signal, "pthread_sigmask"):  # Windows has no masks.
        signal.pthread_sigmask(getattr(signal, how), {signal.SIGINT})


def _remember(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = signal.Signals(number).name
    if not (_waits and number != signal.SIGINT):
        raise KeyboardInterrupt(f"stopped by {_asked}")
