"""Real processes of a test: those that are left, and waiting for what they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil


def wait_until(condition: Callable[[], bool], *, seconds: float = 90) -> None:
    """Return once ``condition`` holds; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def processes_in(data: Path) -> list[int]:
    """The processes whose command line names ``data``."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(data) in word for word in process.info["cmdline"] or ()):
            found.append(process.pid)
    return found
