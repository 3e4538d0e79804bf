"""What a claim is, and the list of all; it imports nothing, so that ``--list`` runs anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


class Skipped(Exception):
    """The machine lacks what the claim is about."""


@dataclass(frozen=True)
class Case:
    """Where a claim is checked.

    Attributes:
        devices: ``gpu``; or ``cpu``, which shows that the check itself works.
        folder: is removed afterwards.
        kept: what a reader may want to look at; made by who writes to it.
    """

    devices: str
    folder: Path
    kept: Path

    @property
    def on_gpu(self) -> bool:
        """Whether the claim itself is checked, and not only its check."""
        return self.devices == "gpu"


@dataclass(frozen=True)
class Found:
    """What a check that passed found: in words, and figures by names that end in their units."""

    text: str
    figures: dict[str, float] = field(default_factory=dict)


Check = Callable[[Case], Found]
CLAIMS: dict[str, tuple[str, Check]] = {}


def claim(name: str, text: str) -> Callable[[Check], Check]:
    """Register a check, which says what it found or fails an assertion that says it."""

    def register(check: Check) -> Check:
        CLAIMS[name] = (text, check)
        return check

    return register
