"""Negatives by number: each is a function of its place in its chunk, so any can be drawn alone.

A worker, or a pass over an epoch that is too large for memory, draws the negatives it keeps and no
other. The random numbers are those of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable
pseudorandom number generators"), which computes its i-th number from i and a key. Numbers below a
bound are made of them without bias (Lemire 2019, "Fast random integer generation in an interval").
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainbench.errors import DataIntegrityError
from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.input.stream.sampling import Purpose, all_rated

Words = npt.NDArray[np.uint64]

_GAMMA, _MIX_1, _MIX_2 = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFF_FFFF)
# After so many rounds the leftovers belong to users who rated nearly everything; from there on
# their unrated items are listed and drawn from directly, which is the same distribution.
_ROUNDS = 16
# Users times items of a chunk up to which one byte for each is kept; beyond, a filter.
MAP_CELLS = 1 << 23
_FILTER_BITS = 20
_RATED, _ASKED = 1, 2


def key_of(seed: int, purpose: Purpose, epoch: int, part: int) -> np.uint64:
    """The key of one part's numbers, independent of all others."""
    sequence = np.random.SeedSequence(seed, spawn_key=(int(purpose), epoch, part))
    return np.uint64(sequence.generate_state(1, np.uint64)[0])


def words(key: np.uint64, places: Words, attempt: int = 0) -> Words:
    """The random number of each place, 64 bits, uniform; other ones for each ``attempt``.

    Places are below 2**32.
    """
    word = places + np.uint64(attempt << 32)
    word *= _GAMMA
    word += key
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        word ^= word >> np.uint64(shift)
        word *= factor
    word ^= word >> np.uint64(31)
    return word


def below(bound: int, word: Words) -> tuple[Words, npt.NDArray[np.bool_]]:
    """Numbers below ``bound`` (below 2**32) from the upper halves of ``word``, and which to reject.

    Those that are not rejected are uniform.
    """
    product = (word >> _HALF) * np.uint64(bound)
    rejected = (product & _LOW) < np.uint64((1 << 32) % bound)
    product >>= _HALF
    return product, rejected


class Rated:
    """The training pairs of one chunk of users at a time, to look items up in; one per thread.

    A chunk of more than ``MAP_CELLS`` users times items has a filter: a byte for each hash of a
    pair. It says "maybe" of all pairs and of a few others, which are then compared.
    """

    def __init__(self, cache: RatingsCache, bounds: npt.NDArray[np.int64]) -> None:
        self._cache, self._bounds = cache, bounds
        cells = int(np.diff(bounds).max(initial=0)) * cache.num_items
        self._map = np.zeros(min(cells, MAP_CELLS), dtype=np.uint8)
        self._cells: npt.NDArray[np.int64] | None = None
        self._filled: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def load(self, chunk: int) -> None:
        """Take the pairs of ``chunk`` instead of those of the chunk before."""
        # Unsetting what was set costs less than clearing the whole map.
        self._map[self._filled] = 0
        first, last = self._bounds[chunk], self._bounds[chunk + 1]
        pairs = slice(self._cache.row_starts[first], self._cache.row_starts[last])
        rows = self._cache.users[pairs].astype(np.int64) - first
        cells = rows * self._cache.num_items + self._cache.items[pairs]
        if (last - first) * self._cache.num_items <= MAP_CELLS:
            self._cells, self._filled = None, cells
        else:
            self._cells, self._filled = cells, _filtered(cells)
        self._map[self._filled] = _RATED

    def contain(self, rows: npt.NDArray[np.int64], items: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Whether the user of each row (counted from the chunk's first) has rated the item."""
        cells = rows * self._cache.num_items
        cells += items
        if self._cells is None:
            return self._map.take(cells).view(np.bool_)
        slots = _filtered(cells)
        found = self._map.take(slots).view(np.bool_)
        maybe = np.flatnonzero(found)
        # Only pairs with the same hash can be equal: so few that the others need no sorting.
        self._map[slots[maybe]] = _ASKED
        near = self._cells[self._map.take(self._filled) == _ASKED]
        self._map[slots[maybe]] = _RATED
        found[maybe] = np.isin(cells[maybe], near)
        return found

    def unrated(self, chunk: int, row: int) -> npt.NDArray[np.int64]:
        """All items that the user of ``row`` has not rated.

        Raises:
            DataIntegrityError: there is none.
        """
        items = np.arange(self._cache.num_items)
        free: npt.NDArray[np.int64] = items[~self.contain(np.full(len(items), row), items)]
        if not free.size:
            raise DataIntegrityError(all_rated(self._cache, int(self._bounds[chunk]) + row))
        return free


def negatives(
    rated: Rated,
    key: np.uint64,
    chunk: int,
    *,
    num_items: int,
    places: Words,
    rows: npt.NDArray[np.int64],
) -> Words:
    """The negative at each place of a chunk: uniform over the items its row's user did not rate.

    rated: loaded with ``chunk``; rows: the user of each place, counted from the chunk's first.

    Raises:
        DataIntegrityError: a user has rated every item.
    """
    items, again = _attempt(rated, key, num_items, places, rows, 0)
    for attempt in range(1, _ROUNDS):
        if not again.size:
            return items
        items[again], wrong = _attempt(rated, key, num_items, places[again], rows[again], attempt)
        again = again[wrong]
    for row in np.unique(rows[again]):
        of_row = again[rows[again] == row]
        items[of_row] = _listed(rated.unrated(chunk, int(row)), key, places[of_row])
    return items


def _attempt(
    rated: Rated,
    key: np.uint64,
    num_items: int,
    places: Words,
    rows: npt.NDArray[np.int64],
    attempt: int,
) -> tuple[Words, npt.NDArray[np.int64]]:
    items, wrong = below(num_items, words(key, places, attempt))
    wrong |= rated.contain(rows, items.view(np.int64))
    return items, np.flatnonzero(wrong)


def _listed(unrated: npt.NDArray[np.int64], key: np.uint64, places: Words) -> Words:
    chosen, rejected = below(len(unrated), words(key, places, _ROUNDS))
    attempt, again = _ROUNDS, np.flatnonzero(rejected)
    while again.size:
        attempt += 1
        chosen[again], rejected = below(len(unrated), words(key, places[again], attempt))
        again = again[rejected]
    return unrated[chosen.view(np.int64)].astype(np.uint64)


def _filtered(cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    spread = cells.view(np.uint64) * _GAMMA
    spread >>= np.uint64(64 - _FILTER_BITS)
    return spread.view(np.int64)
