"""Negatives, drawn exactly: uniform, with replacement, over the items a user has not rated.

Rated means rated in training: a held-out item can be drawn, as in the reference.

Users are cut into chunks that are a property of the data alone, and every chunk of every epoch has
a random stream of its own, so the result does not depend on who draws which chunk, when or where.
What a chunk's users have rated is held as one byte per user and item, small enough for the
processor's cache; a draw that hits a rated item is drawn again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from trainbench.errors import DataIntegrityError
from trainbench.movielens.cache import RatingsCache

# One chunk's map (cells) and samples should stay in a core's second-level cache and its share of
# the third. Both numbers decide the random streams: changing them changes every epoch's bytes.
CHUNK_CELLS = 1 << 22
CHUNK_PAIRS = 20_000
# Users that a chunk of candidates may have in any case; 32 or fewer fit up to 131,072 items.
CHUNK_USERS = 32
# After so many rounds the leftovers belong to users who rated nearly everything; from there on
# their unrated items are listed and drawn from directly, which is the same distribution.
_ROUNDS = 16


class Purpose(enum.IntEnum):
    """The purpose of a random stream; the first word of its key."""

    EVAL_NEGATIVES = 1
    TRAIN_NEGATIVES = 2
    BUCKETS = 3
    SHUFFLE = 4
    PADDING = 5
    # Of stream format 2
    DEALING = 6
    CHUNK_ORDER = 7
    CELL_ORDER = 8
    NEGATIVES_BY_PLACE = 9
    REPEATS = 10


def stream(seed: int, purpose: Purpose, epoch: int = 0, part: int = 0) -> np.random.Generator:
    """The random generator of one part of one epoch, independent of all others."""
    key = np.random.SeedSequence(seed, spawn_key=(int(purpose), epoch, part))
    return np.random.Generator(np.random.PCG64DXSM(key))


def chunk_bounds(
    row_starts: npt.NDArray[np.int64],
    num_items: int,
    *,
    cells: int = CHUNK_CELLS,
    pairs: int = CHUNK_PAIRS,
    users_anyway: int = 1,
) -> npt.NDArray[np.int64]:
    """First users of all chunks and, at the end, the number of users: int64[chunks + 1].

    A chunk holds at least one user, otherwise at most ``pairs`` ratings and ``cells`` user-item
    cells, or ``users_anyway`` users if these have more cells.
    """
    users = len(row_starts) - 1
    at_most = max(users_anyway, cells // num_items)
    bounds = [0]
    while bounds[-1] < users:
        first = bounds[-1]
        by_pairs = int(np.searchsorted(row_starts, row_starts[first] + pairs, side="right")) - 1
        bounds.append(min(max(by_pairs, first + 1), first + at_most, users))
    return np.array(bounds, dtype=np.int64)


class Sampler:
    """Draws for one chunk after the other; each thread needs a sampler of its own."""

    def __init__(self, cache: RatingsCache, seed: int, bounds: npt.NDArray[np.int64]) -> None:
        self._cache, self._seed, self._bounds = cache, seed, bounds
        widest = int(np.diff(bounds).max(initial=0))
        self._rated = np.zeros(widest * cache.num_items, dtype=np.bool_)

    def train_negatives(self, epoch: int, chunk: int, per_positive: int) -> npt.NDArray[np.int32]:
        """Negatives of all positives of a chunk, in the positives' order: int32[n * per_positive].

        The held-out item counts as unrated (reference dataset.py tests the training matrix only).

        Raises:
            DataIntegrityError: a user has rated every item.
        """
        rng = stream(self._seed, Purpose.TRAIN_NEGATIVES, epoch, chunk)
        rows = np.repeat(self._pairs(chunk)[0], per_positive)
        return self._with_map(chunk, lambda: self._draw(rng, rows, chunk))

    def eval_candidates(self, chunk: int, negatives: int) -> npt.NDArray[np.int32]:
        """Evaluation rows of a chunk's users: int32[users, negatives + 1], held-out item last.

        The held-out item itself can be among the negatives (reference convert.py draws from all
        items without a training rating).

        Raises:
            DataIntegrityError: a user has rated every item.
        """
        rng = stream(self._seed, Purpose.EVAL_NEGATIVES, 0, chunk)
        first, last = self._users(chunk)
        rows = np.repeat(np.arange(last - first), negatives)
        candidates = np.empty((last - first, negatives + 1), dtype=np.int32)
        drawn = self._with_map(chunk, lambda: self._draw(rng, rows, chunk))
        candidates[:, :negatives] = drawn.reshape(last - first, negatives)
        candidates[:, negatives] = self._cache.test_items[first:last]
        return candidates

    def _users(self, chunk: int) -> tuple[int, int]:
        return int(self._bounds[chunk]), int(self._bounds[chunk + 1])

    def _pairs(self, chunk: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Row (user counted from the chunk's first) and item of each training pair."""
        first, last = self._users(chunk)
        start, end = self._cache.row_starts[first], self._cache.row_starts[last]
        return self._cache.users[start:end].astype(np.int64) - first, self._cache.items[start:end]

    def _with_map(
        self, chunk: int, draw: Callable[[], npt.NDArray[np.int32]]
    ) -> npt.NDArray[np.int32]:
        rows, items = self._pairs(chunk)
        cells = rows * self._cache.num_items + items
        self._rated[cells] = True
        try:
            return draw()
        finally:
            # Unsetting what was set costs less than clearing or allocating the whole map.
            self._rated[cells] = False

    def _draw(
        self, rng: np.random.Generator, rows: npt.NDArray[np.int64], chunk: int
    ) -> npt.NDArray[np.int32]:
        num_items = self._cache.num_items
        row_cells = rows * num_items
        items = rng.integers(0, num_items, len(rows), dtype=np.int32)
        again = np.flatnonzero(self._rated.take(row_cells + items))
        for _ in range(_ROUNDS):
            if not again.size:
                return items
            items[again] = rng.integers(0, num_items, again.size, dtype=np.int32)
            again = again[self._rated.take(row_cells[again] + items[again])]
        for row in np.unique(rows[again]):
            places = again[rows[again] == row]
            unrated = self._unrated(int(row), chunk)
            items[places] = unrated[rng.integers(0, len(unrated), places.size)]
        return items

    def _unrated(self, row: int, chunk: int) -> npt.NDArray[np.int32]:
        num_items = self._cache.num_items
        unrated = np.flatnonzero(~self._rated[row * num_items : (row + 1) * num_items])
        if not unrated.size:
            raise DataIntegrityError(all_rated(self._cache, int(self._bounds[chunk]) + row))
        return unrated.astype(np.int32)


def all_rated(cache: RatingsCache, user: int) -> str:
    """The message for a user, by number, who has rated every item."""
    return (
        f"{cache.folder}: user {int(cache.user_ids[user])} (number {user}) has rated all "
        f"{cache.num_items} items, so no negative is left to draw; remove the user from the "
        "ratings or add items, then run preprocess again"
    )
