"""The rank of a held-out item among a user's candidates, and what rounding could make of it.

Source: ncf.py of the MLPerf v0.5 reference puts item and score into a dictionary and takes the ten
largest with ``heapq.nlargest``. So an item that was drawn more than once counts once, and of equal
scores the item that stands first is ahead; the held-out item stands last, unless it was also drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

TOP = 10

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Place:
    """Where a held-out item stands, from 0.

    Attributes:
        lowest, highest: ranks that scores within their errors could have.
        margin: its score above that of its tenth best rival; a hit above 0. Infinite where it has
            fewer rivals.
        bound: the error of that difference; infinite where a score or an error is not finite, so
            that every rank could be.
    """

    rank: int
    lowest: int
    highest: int
    margin: float
    bound: float

    @property
    def hit(self) -> bool:
        """Whether it is among the ten best."""
        return self.rank < TOP

    def can_be(self, rank: int) -> bool:
        """Whether rounding explains ``rank``."""
        return self.lowest <= rank <= self.highest


def place(items: Array, scores: Array, errors: Array) -> Place:
    """The place of the last of ``items`` [n] by their ``scores`` [n], each wrong by ``errors``."""
    distinct, first = np.unique(items, return_index=True)
    own = distinct == items[-1]
    rivals, stands = first[~own], first[own][0]
    if not (np.isfinite(scores).all() and np.isfinite(errors).all()):
        return Place(rank=len(rivals), lowest=0, highest=len(rivals), margin=-np.inf, bound=np.inf)
    ahead_by, bound = scores[rivals] - scores[-1], errors[rivals] + errors[-1]
    ahead = (ahead_by > 0) | ((ahead_by == 0) & (rivals < stands))
    if len(rivals) < TOP:
        margin, of_margin = np.inf, 0.0
    else:
        tenth = np.argsort(-ahead_by, kind="stable")[TOP - 1]
        margin, of_margin = float(-ahead_by[tenth]), float(bound[tenth])
    return Place(
        rank=int(ahead.sum()),
        lowest=int((ahead_by > bound).sum()),
        highest=int((ahead_by >= -bound).sum()),
        margin=margin,
        bound=of_margin,
    )
