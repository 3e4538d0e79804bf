"""The parts of the chaos test by name, and how a case is drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, cast

import archives
import bits
import faults
import folders
import fuzz
import servers
import signals
from undisturbed import Undisturbed


class Part(Protocol):
    """A module with cases of one kind."""

    COUNT: int
    """How many cases of it take their share of a CI run."""

    def drawn(self, chance: random.Random, index: int) -> Any:
        """A case; ``str`` of it says what it is."""

    def run(self, case: Any, wanted: Undisturbed) -> Iterable[str]:
        """How it ended, in a word or two for the table.

        Raises:
            AssertionError: something does not hold.
        """


# The longest first.
PARTS: Mapping[str, Part] = {
    name: cast(Part, module)
    for name, module in {
        "signals": signals,
        "faults": faults,
        "fuzz": fuzz,
        "bits": bits,
        "folders": folders,
        "servers": servers,
        "archives": archives,
    }.items()
}


def drawn(name: str, seed: int, index: int) -> Any:
    """Case ``index`` of a part: the same each time."""
    return PARTS[name].drawn(random.Random(f"{name} {seed} {index}"), index)


def missing(name: str) -> str:
    """Why a part cannot run here; empty where it can."""
    return str(getattr(PARTS[name], "missing", str)())
