"""What each held-out item is ranked against: the candidates without those that count twice.

The reference puts an item -> score dictionary (a repeated item keeps its first place) through
``heapq.nlargest(10)``, which is stable: among equal scores the earlier item wins, so the
held-out item, appended last, loses ties, unless it was also drawn as a negative and holds that
earlier place. Its rank is therefore a count and nothing is sorted by score.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from trainbench.files import forget_pages
from trainbench.ncf.config import TOP

IGNORED, HIGHER_ONLY, HIGHER_OR_EQUAL = 0, 1, 2

_USERS_AT_ONCE = 256
# Of ml-20m's size there are 138 million.
_HELD_CANDIDATES = 2**29


@dataclass(frozen=True)
class Rivals:
    """What each user's held-out item is ranked against, duplicates gone.

    items: int32 [users, width], ascending; code: uint8 [users, width], whether the item counts
    against the held-out one never, with a higher score only, or with an equal one too; count: int32
    [users], how many there are.
    """

    items: np.ndarray
    code: np.ndarray
    count: np.ndarray

    def of(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items and code of some ``users``, by number."""
        return self.items[users], self.code[users]

    @property
    def guessed_hit_rate(self) -> float:
        """HR@10 to be expected of an order that has nothing to do with the items."""
        return float(np.minimum(1, TOP / (self.count + 1)).mean())

    @property
    def sure_hits(self) -> int:
        """Users with so few candidates that their held-out item is a hit in any order."""
        return int((self.count < TOP).sum())


@dataclass(frozen=True)
class MappedRivals(Rivals):
    """Rivals that are made anew for each batch of users, from candidates that stay on disk."""

    candidates: np.ndarray
    width: int

    def of(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items and code of some ``users``, by number."""
        found = _block_rivals(np.asarray(self.candidates[users]))
        forget_pages(self.candidates)
        room = ((0, 0), (0, self.width - found.items.shape[1]))
        return np.pad(found.items, room), np.pad(found.code, room, constant_values=IGNORED)


def rivals(candidates: np.ndarray, *, held: int = _HELD_CANDIDATES) -> Rivals:
    """The distinct items of each row other than its last, the held-out one.

    Args:
        candidates: int32 [users, negatives + 1].
        held: most candidates whose rivals are kept in memory (5 bytes each).
    """
    starts = range(0, len(candidates), _USERS_AT_ONCE)
    blocks = (candidates[start : start + _USERS_AT_ONCE] for start in starts)
    if candidates.size > held:
        count = np.concatenate([_counted(block, candidates) for block in blocks])
        none = np.empty((0, 0))
        return MappedRivals(none, none, count, candidates, max(1, int(count.max())))
    items = np.zeros(candidates.shape, np.int32)
    code = np.full(candidates.shape, IGNORED, np.uint8)
    count = np.zeros(len(candidates), np.int32)
    with ThreadPoolExecutor() as pool:  # NumPy sorts without the interpreter lock
        for start, part in zip(starts, pool.map(_block_rivals, blocks), strict=True):
            rows, width = slice(start, start + len(part.items)), part.items.shape[1]
            items[rows, :width], code[rows, :width] = part.items, part.code
            count[rows] = part.count
    forget_pages(candidates)
    width = max(1, int(count.max()))
    return Rivals(items[:, :width], code[:, :width], count)


def last_column(candidates: np.ndarray) -> np.ndarray:
    """The held-out item of each user: int32 [users], read in blocks of what may be on disk."""
    found = np.empty(len(candidates), candidates.dtype)
    for start in range(0, len(candidates), _USERS_AT_ONCE):
        rows = slice(start, start + _USERS_AT_ONCE)
        found[rows] = candidates[rows, -1]
        forget_pages(candidates)
    return found


def _counted(block: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    in_order = np.sort(block, axis=1)
    # The held-out item is one of the distinct ones.
    count: np.ndarray = (in_order[:, 1:] != in_order[:, :-1]).sum(axis=1, dtype=np.int32)
    forget_pages(candidates)
    return count


def _block_rivals(block: np.ndarray) -> Rivals:
    # One integer holds item and place, so that a plain sort puts an item's first place first.
    shift = block.shape[1].bit_length()
    small = (int(block.max()) + 1) << shift < 2**31
    keys = block.astype(np.int32 if small else np.int64) << shift
    keys |= np.arange(block.shape[1], dtype=keys.dtype)
    keys.sort(axis=1)
    items, none = keys >> shift, np.iinfo(keys.dtype).max
    dropped = items == block[:, -1:]
    dropped[:, 1:] |= items[:, 1:] == items[:, :-1]
    keys[dropped] = none
    count = (~dropped).sum(axis=1, dtype=np.int32)
    keys.sort(axis=1)
    keys = keys[:, : max(1, int(count.max()))]
    held_out_place = (block == block[:, -1:]).argmax(axis=1)[:, None]
    earlier = (keys & ((1 << shift) - 1)) < held_out_place
    code = np.where(keys == none, IGNORED, np.where(earlier, HIGHER_OR_EQUAL, HIGHER_ONLY))
    rows = np.where(keys == none, 0, keys >> shift).astype(np.int32)
    return Rivals(rows, code.astype(np.uint8), count)
