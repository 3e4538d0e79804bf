"""The fractal expansion of a set of ratings (Belletti et al. 2019, arXiv 1901.08910), by seed.

A small matrix of the shape of the factor has the largest singular values of the ratings' matrix,
with its singular vectors resized. Its absolute values, divided by the largest and kept from 0.01 to
0.95, are the rates. The expansion consists of one block for each rate: the ratings with their users
and their items in a random order of the block's own, each kept with that rate.

As in MLPerf's code (mlcommons/training, data_generation/fractal_graph_expansions): users need three
different times; a user's ratings of the last time are held out and all others are trained on; both
are expanded alike. An expanded user's held-out item is the lowest of those that were kept; a user
without one, or without a pair to train on, is left out, and the users of each row of blocks are
numbered without gaps. Unlike there, each singular value stands with its own vectors (there the
order of the values is reversed against that of the vectors), and a rating is kept by a draw of its
own and not as one of a fixed number.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainbench.errors import DataIntegrityError
from trainbench.movielens.datasets import Expansion
from trainbench.movielens.formats import Ratings

LEAST_RATE, MOST_RATE = 0.01, 0.95
_ROUNDS = 12
_MORE = 8  # Vectors beside those wanted, so that these converge.
_GATHERED = 1 << 15
_DIGITS = 9

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seeds:
    """The ratings that are expanded, as pairs of row (user) and column (item), by row.

    train_rows, train_columns, test_rows, test_columns: int32; rows, columns: how many there are.
    """

    train_rows: npt.NDArray[np.int32]
    train_columns: npt.NDArray[np.int32]
    test_rows: npt.NDArray[np.int32]
    test_columns: npt.NDArray[np.int32]
    rows: int
    columns: int

    @classmethod
    def of(cls, ratings: Ratings) -> Seeds:
        """Those of ``ratings``: of users with three different times, numbered by their ids.

        Raises:
            DataIntegrityError: there is no such user.
        """
        _, users = np.unique(ratings.users, return_inverse=True)
        order = np.lexsort((ratings.timestamps, users))
        users, times = users[order], ratings.timestamps[order]
        new = np.append(True, (users[1:] != users[:-1]) | (times[1:] != times[:-1]))
        kept = (np.bincount(users, weights=new) > 2)[users]
        if not kept.any():
            raise DataIntegrityError(
                f"none of {users.max() + 1:,} users has ratings of three different times, so none "
                "can be expanded; use other ratings"
            )
        users, times, items = users[kept], times[kept], ratings.items[order][kept]
        _, rows = np.unique(users, return_inverse=True)
        item_ids, columns = np.unique(items, return_inverse=True)
        last = np.zeros(int(rows.max()) + 1, dtype=np.int64)
        last[rows] = times  # By time, so the latest stays.
        held_out = times == last[rows]
        rows, columns = rows.astype(np.int32), columns.astype(np.int32)
        return cls(
            train_rows=rows[~held_out],
            train_columns=columns[~held_out],
            test_rows=rows[held_out],
            test_columns=columns[held_out],
            rows=len(last),
            columns=len(item_ids),
        )


def rates(seeds: Seeds, factor: Expansion) -> Floats:
    """With what probability a rating is kept in each block: float64[factor.users, factor.items]."""
    small = np.abs(reduced(seeds, factor))
    clipped: Floats = np.clip(small / small.max(), LEAST_RATE, MOST_RATE)
    # The last digits depend on the machine's linear algebra.
    return clipped.round(_DIGITS)


def reduced(seeds: Seeds, factor: Expansion) -> Floats:
    """The small matrix: its singular values are the largest of the ratings that are trained on."""
    left, values, right = _largest(seeds, min(factor.users, factor.items), factor.seed)
    small: Floats = _resized(left, factor.users) * values @ _resized(right, factor.items).T
    return small


def _resized(vectors: Floats, length: int) -> Floats:
    """Columns interpolated to ``length`` places, and the nearest that are orthonormal."""
    at = (np.arange(length) + 0.5) * len(vectors) / length - 0.5
    low = np.clip(np.floor(at).astype(np.int64), 0, len(vectors) - 1)
    share = np.clip(at - low, 0, 1)[:, None]
    high = np.minimum(low + 1, len(vectors) - 1)
    u, _, v = np.linalg.svd(vectors[low] * (1 - share) + vectors[high] * share, full_matrices=False)
    nearest: Floats = u @ v
    return nearest


def _largest(seeds: Seeds, wanted: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """The largest singular values with their vectors as columns, by subspace iteration."""
    by_row = _Sums(seeds.train_rows, seeds.train_columns, seeds.rows)
    by_column = _Sums(seeds.train_columns, seeds.train_rows, seeds.columns)
    size = min(wanted + _MORE, seeds.rows, seeds.columns)
    right = np.random.Generator(np.random.PCG64(seed)).standard_normal((seeds.columns, size))
    for _ in range(_ROUNDS):
        left = np.linalg.qr(by_row.of(right))[0]
        right = np.linalg.qr(by_column.of(left))[0]
    u, values, v = np.linalg.svd(by_row.of(right), full_matrices=False)
    some = slice(min(wanted, size))
    return u[:, some], values[some], (right @ v.T)[:, some]


class _Sums:
    """The product of a matrix of ones with others: row ``r`` sums what ``columns`` of it name."""

    def __init__(
        self, rows: npt.NDArray[np.int32], columns: npt.NDArray[np.int32], count: int
    ) -> None:
        self._columns = columns[np.argsort(rows, kind="stable")]
        self._starts = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=count))))

    def of(self, values: Floats) -> Floats:
        sums = np.zeros((len(self._starts) - 1, values.shape[1]))
        first = 0
        while first < len(sums):
            most = self._starts[first] + _GATHERED
            end = max(first + 1, int(np.searchsorted(self._starts, most, side="right")) - 1)
            starts = self._starts[first : end + 1]
            gathered = values[self._columns[starts[0] : starts[-1]]]
            filled = np.flatnonzero(np.diff(starts))
            if len(filled):
                sums[first + filled] = np.add.reduceat(gathered, starts[filled] - starts[0])
            first = end
        return sums


@dataclass(frozen=True)
class Row:
    """One row of blocks: training pairs and the held-out item of its users.

    keys: int64, user * width + item, ascending; users: the rows that are kept, ascending, which
    have the numbers from ``first`` on; items: their held-out items.
    """

    keys: Ints
    width: int
    first: int
    users: Ints
    items: Ints

    def pairs(self, rows: int) -> Iterator[npt.NDArray[np.int32]]:
        """The training pairs in blocks of ``rows``, int32[some, 2]."""
        for start in range(0, len(self.keys), rows):
            users, items = np.divmod(self.keys[start : start + rows], self.width)
            numbers = np.searchsorted(self.users, users) + self.first
            yield np.stack([numbers, items], axis=1).astype(np.int32)

    def held_out(self) -> npt.NDArray[np.int32]:
        """User and item of each, int32[users, 2]."""
        numbers = np.arange(self.first, self.first + len(self.users))
        return np.stack([numbers, self.items], axis=1).astype(np.int32)


def expanded(seeds: Seeds, factor: Expansion, kept: Floats, number: int, threads: int) -> Row:
    """Row ``number`` of the blocks; its memory is some 24 bytes a pair of the row."""
    width = seeds.columns * factor.items

    def block(column: int) -> tuple[Ints, Ints]:
        key = np.random.SeedSequence(factor.seed, spawn_key=(number, column))
        rng = np.random.Generator(np.random.PCG64(key))
        rows, columns = rng.permutation(seeds.rows), rng.permutation(seeds.columns)
        columns += column * seeds.columns
        found = []
        for some_rows, some_columns in (
            (seeds.train_rows, seeds.train_columns),
            (seeds.test_rows, seeds.test_columns),
        ):
            chosen = np.flatnonzero(
                rng.random(len(some_rows), dtype=np.float32) < kept[number, column]
            )
            found.append(rows[some_rows[chosen]] * width + columns[some_columns[chosen]])
        return found[0], found[1]

    with ThreadPoolExecutor(threads) as pool:
        blocks = list(pool.map(block, range(factor.items)))
    tests = np.sort(np.concatenate([test for _, test in blocks]))
    keys = np.concatenate([train for train, _ in blocks])
    del blocks
    keys.sort()
    has_train = np.zeros(seeds.rows, dtype=np.bool_)
    for start in range(0, len(keys), _GATHERED):
        has_train[keys[start : start + _GATHERED] // width] = True
    users, items = np.divmod(tests, width)
    users, first = np.unique(users, return_index=True)
    whole = has_train[users]
    users, items = users[whole], items[first][whole]
    if len(users) < np.count_nonzero(has_train):
        is_kept = np.zeros(seeds.rows, dtype=np.bool_)
        is_kept[users] = True
        keys = keys[is_kept[keys // width]]
    return Row(keys, width, number * seeds.rows, users, items)
