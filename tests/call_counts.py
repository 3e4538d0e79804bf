"""How much work something is, in calls: the same on every machine, however busy."""

from __future__ import annotations

import cProfile
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def count_calls(work: Callable[[], Result]) -> tuple[Result, int]:
    """What ``work`` returns, and how many functions of Python and of C it called."""
    profile = cProfile.Profile()
    result = profile.runcall(work)
    return result, sum(entry.callcount for entry in profile.getstats())
