"""What one flag is: its type, its bounds and what it means under TensorFlow 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KEEP = "KEEP"
"""The same meaning as in the TensorFlow 1 program."""
MAP = "MAP"
"""The same purpose, reached by another mechanism."""
NOTE = "NOTE"
"""Accepted; one warning says that it has no effect, and why."""
DROP = "DROP"
"""Refused, with the replacement named."""
OURS = "OURS"
"""Not in tf_cnn_benchmarks."""

VERDICTS = (KEEP, MAP, NOTE, DROP, OURS)


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        kind: boolean, integer, float, string, enum or list.
        remark: for MAP what does the work now, for NOTE why there is no effect, for DROP what to
            use instead.
        low, high: inclusive bounds of a number.
        values: what an enum may be.
        refused: for DROP, the values that are refused; none given means every value but the
            default.
    """

    name: str
    kind: str
    default: Any
    verdict: str
    help: str
    remark: str = ""
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    refused: tuple[Any, ...] = ()

    def is_refused(self, value: Any) -> bool:
        """Whether ``value`` is one that no longer exists."""
        if self.refused:
            return value in self.refused
        return self.verdict == DROP and value != self.default

    def is_noted(self, value: Any) -> bool:
        """Whether ``value`` was set although nothing depends on it."""
        return self.verdict == NOTE and value != self.default


@dataclass(frozen=True)
class Group:
    """Flags of one concern, in the order in which ``--help`` lists them."""

    title: str
    flags: tuple[Flag, ...]
