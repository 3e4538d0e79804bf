"""Every user's candidates, drawn again from a trial's seed as docs/input.md describes the draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from trainbench.movielens.cache import RatingsCache

# Users are drawn for in chunks of at most so many cells of the table of users and items, and so
# many training pairs; each chunk has a generator of its own, named by purpose, epoch and chunk.
CELLS, PAIRS = 1 << 22, 20_000
# So many users may be in a chunk whatever their cells are; with stream_format=1 one.
USERS = 32
PURPOSE, EPOCH = 1, 0
ROUNDS = 16


def drawn(
    cache: RatingsCache, seed: int, negatives: int, *, stream_format: int = 2
) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """The candidates of some users after others: the first user's number, int32 [users, width].

    A row holds ``negatives`` items that the user has not rated in training, uniformly and with
    replacement, and the held-out item as the last.
    """
    for chunk, (first, end) in enumerate(_chunks(cache, 1 if stream_format == 1 else USERS)):
        key = np.random.SeedSequence(seed, spawn_key=(PURPOSE, EPOCH, chunk))
        generator = np.random.Generator(np.random.PCG64DXSM(key))
        pairs = slice(cache.row_starts[first], cache.row_starts[end])
        rated = np.zeros((end - first, cache.num_items), dtype=bool)
        rated[cache.users[pairs] - first, cache.items[pairs]] = True
        rows = np.repeat(np.arange(end - first), negatives)
        items = _unrated(generator, rated, rows).reshape(end - first, negatives)
        yield first, np.column_stack([items, cache.test_items[first:end]])


def _chunks(cache: RatingsCache, anyway: int) -> Iterator[tuple[int, int]]:
    """First and last user (exclusive) of each chunk; one user at least."""
    starts, first = cache.row_starts, 0
    while first < cache.num_users:
        end = first + 1
        while (
            end < cache.num_users
            and starts[end + 1] - starts[first] <= PAIRS
            and end + 1 - first <= max(anyway, CELLS // cache.num_items)
        ):
            end += 1
        yield first, end
        first = end


def _unrated(
    generator: np.random.Generator, rated: npt.NDArray[Any], rows: npt.NDArray[Any]
) -> npt.NDArray[np.int32]:
    """One item for each of ``rows``; those that hit a rated item are drawn again."""
    items = generator.integers(0, rated.shape[1], len(rows), dtype=np.int32)
    wrong = np.flatnonzero(rated[rows, items])
    for _ in range(ROUNDS):
        if not wrong.size:
            return items
        items[wrong] = generator.integers(0, rated.shape[1], wrong.size, dtype=np.int32)
        wrong = wrong[rated[rows[wrong], items[wrong]]]
    # Users who rated nearly everything: from here on their few other items are drawn from.
    for row in np.unique(rows[wrong]):
        places, left = wrong[rows[wrong] == row], np.flatnonzero(~rated[row])
        items[places] = left[generator.integers(0, len(left), places.size)]
    return items
