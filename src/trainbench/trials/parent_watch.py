"""End with the parent process, however it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time

_PR_SET_PDEATHSIG = 1
_POLL_S = 1.0
_GRACE_S = 20.0


def die_with_parent(parent: int | None = None, *, number: signal.Signals = signal.SIGTERM) -> None:
    """Get a signal when the parent ends, even by SIGKILL, and SIGKILL if that has no effect.

    Linux signals the moment the parent's thread that started this process ends; everywhere else,
    and as a second line, a thread looks once a second whether the parent is still the same.

    Args:
        parent: the process that is the parent while it lives; by default the present parent.
        number: the signal.
    """
    parent = parent or os.getppid()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    threading.Thread(target=_watch, args=(parent, number), daemon=True, name="lifeline").start()


def _watch(parent: int, number: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os.kill(os.getpid(), number)
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
