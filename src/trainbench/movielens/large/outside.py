"""Splits that are made on disk, in ranges of users, into the cache that memory would have made.

``of_pairs`` takes pairs that are split already, ``of_ratings`` ratings that are too many for
memory. Resident are numbers of users and items and one range.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainbench.errors import DataIntegrityError
from trainbench.movielens.cache import CacheFiles
from trainbench.movielens.large.buckets import USERS_PER_BUCKET, Buckets
from trainbench.movielens.large.shards import (
    KINDS,
    LARGEST_ID,
    Pairs,
    Shard,
    largest_id,
    read_shard,
    rows_of,
    shards_of,
)
from trainbench.progress import Progress

PAIR = np.dtype([("user", "<i4"), ("item", "<i4")])
RATING = np.dtype([("user", "<i4"), ("item", "<i4"), ("time", "<i8")])

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What a split is beside its pairs, for checks and cache.json; the arrays are the cache's."""

    ratings_read: int
    user_ids: Ints
    item_ids: Ints
    row_starts: Ints
    test_items: npt.NDArray[np.int32]
    dropped_users: int
    tied_users: int


def of_pairs(
    path: Path,
    out: CacheFiles,
    scratch: Path,
    *,
    expected: int | None = None,
    expanded: bool = False,
    users_per_bucket: int = USERS_PER_BUCKET,
) -> Outcome:
    """Write the pairs of the shards in the tar at ``path``; users by their ids, items as they are.

    Within a user, pairs stay in the order of the shards. ``scratch`` is a folder to make and use,
    ``expected`` the number of pairs, held-out ones included, where it is known. What was
    ``expanded`` here may have larger numbers than make sense in an archive.

    Raises:
        DataIntegrityError: damage, a pair that is there twice, a user with another number of
            held-out items than one, or with no pair to train on.
    """
    buckets = Buckets(scratch, PAIR, users_per_bucket)
    with Progress(expected, unit="pairs", label=f"read {path.name}") as progress:
        shards = shards_of(path)
        largest = LARGEST_ID if expanded else largest_id(rows_of(path, shards))
        blocks = ((s, block) for s in shards for block in read_shard(path, s, largest=largest))
        counts, test, items = _gathered(blocks, buckets, progress.advance)
    user_ids = np.flatnonzero(counts)
    test = test[np.argsort(test[:, 0], kind="stable")]
    _require_one_each(path, user_ids, test[:, 0])
    starts = np.concatenate(([0], np.cumsum(counts[user_ids])))
    test_items = test[:, 1].astype(np.int32)
    with _arrays(out, int(starts[-1])) as (put_users, put_items):
        for rows in _told(buckets.sorted(), int(starts[-1])):
            users = np.searchsorted(user_ids, rows["user"])
            _require_new(path, rows, users, test_items, items)
            put_users(users)
            put_items(rows["item"])
    outcome = Outcome(
        ratings_read=int(starts[-1]) + len(test),
        user_ids=user_ids,
        item_ids=np.arange(items),
        row_starts=starts,
        test_items=test_items,
        dropped_users=0,
        tied_users=0,
    )
    _save(out, outcome)
    return outcome


def _gathered(
    blocks: Iterable[tuple[Shard, Pairs]], buckets: Buckets, on_pairs: Callable[[float], object]
) -> tuple[Ints, Ints, int]:
    """Put the training pairs into ``buckets``; pairs by user id, the test set, how many items."""
    counts, tests, items = np.zeros(0, dtype=np.int64), [np.empty((0, 2), dtype=np.int64)], 0
    for shard, block in blocks:
        on_pairs(len(block))
        if not len(block):
            continue
        items = max(items, int(block[:, 1].max()) + 1)
        if shard.kind == KINDS[1]:
            tests.append(block)
            continue
        counts = _added(counts, np.bincount(block[:, 0]))
        buckets.add(_rows(PAIR, block[:, 0], block[:, 1]))
    return counts, np.concatenate(tests), items


def _told(ranges: Iterator[npt.NDArray[Any]], total: int) -> Iterator[npt.NDArray[Any]]:
    """The ``ranges`` of rows, with a progress that counts those that are worked up."""
    with Progress(total, unit="pairs", label="sort and write the cache") as progress:
        for rows in ranges:
            yield rows
            progress.advance(len(rows))


def _added(counts: Ints, more: Ints) -> Ints:
    counts = np.pad(counts, (0, max(0, len(more) - len(counts))))
    counts[: len(more)] += more
    return counts


def _rows(kind: np.dtype[Any], *columns: npt.NDArray[Any]) -> npt.NDArray[Any]:
    rows = np.empty(len(columns[0]), dtype=kind)
    for name, column in zip(kind.names or (), columns, strict=True):
        rows[name] = column
    return rows


@contextmanager
def _arrays(
    out: CacheFiles, length: int
) -> Iterator[tuple[Callable[[Any], object], Callable[[Any], object]]]:
    with out.growing("users", length) as put_users, out.growing("items", length) as put_items:
        yield put_users, put_items


def _save(out: CacheFiles, outcome: Outcome) -> None:
    for name in ("row_starts", "test_items", "user_ids", "item_ids"):
        out.save(name, getattr(outcome, name))


def _require_one_each(path: Path, user_ids: Ints, tested: Ints) -> None:
    """Raise unless each user has one held-out item; ``tested`` are the users of these, sorted."""
    twice = tested[1:][tested[1:] == tested[:-1]]
    if len(twice):
        raise DataIntegrityError(
            f"{path}: user {twice[0]} has several items in the test set, and {len(twice):,} items "
            "are too many in all; wanted one for each user; use another archive"
        )
    without = np.setdiff1d(user_ids, tested, assume_unique=True)
    if len(without):
        raise DataIntegrityError(
            f"{path}: user {without[0]} has no item in the test set, and {len(without):,} users "
            "have none in all; wanted one for each user; use another archive"
        )
    only = np.setdiff1d(tested, user_ids, assume_unique=True)
    if len(only):
        raise DataIntegrityError(
            f"{path}: user {only[0]} has an item in the test set and no pair to train on, and "
            f"{len(only):,} users have none in all; use another archive"
        )


def _require_new(
    path: Path,
    rows: npt.NDArray[Any],
    users: Ints,
    test_items: npt.NDArray[np.int32],
    num_items: int,
) -> None:
    """Raise if a pair is there twice, or also in the test set."""
    first, end = int(users[0]), int(users[-1]) + 1
    held_out = (np.arange(first, end) - first) * num_items + test_items[first:end]
    keys = np.concatenate([(users - first) * num_items + rows["item"], held_out])
    keys.sort()
    repeated = keys[1:][keys[1:] == keys[:-1]]
    if len(repeated):
        user, item = divmod(int(repeated[0]), num_items)
        user_id = rows["user"][np.searchsorted(users, first + user)]
        raise DataIntegrityError(
            f"{path}: user {user_id} and item {item} are a pair twice, in the training set or also "
            "in the test set; wanted each pair once; use another archive"
        )


class Numbering:
    """Numbers ids from 0 in the order of their first appearance, block after block."""

    def __init__(self) -> None:
        self._sorted: Ints = np.empty(0, dtype=np.int64)
        self._numbers: Ints = np.empty(0, dtype=np.int64)
        self._parts: list[Ints] = []

    def of(self, ids: Ints) -> Ints:
        """The numbers of ``ids``; those not seen before get the next ones."""
        some, first, back = np.unique(ids, return_index=True, return_inverse=True)
        place = np.searchsorted(self._sorted, some)
        place[place == len(self._sorted)] = 0
        known = self._sorted[place] == some if len(self._sorted) else np.zeros(len(some), bool)
        new = np.flatnonzero(~known)
        if len(new):
            new = new[np.argsort(first[new])]
            self._parts.append(some[new])
            numbers = np.arange(len(new)) + len(self._sorted)
            joined = np.concatenate([self._sorted, some[new]])
            order = np.argsort(joined, kind="stable")
            self._numbers = np.concatenate([self._numbers, numbers])[order]
            self._sorted = joined[order]
        found: Ints = self._numbers[np.searchsorted(self._sorted, some)][back]
        return found

    @property
    def ids(self) -> Ints:
        """All ids by number."""
        return np.concatenate(self._parts) if self._parts else self._sorted


Blocks = Callable[[], Iterable[tuple[Ints, ...]]]


def of_ratings(
    blocks: Blocks,
    out: CacheFiles,
    scratch: Path,
    *,
    min_ratings: int,
    none_left: Callable[[int, int, int], DataIntegrityError],
    repeated: Callable[[int, int, int], DataIntegrityError],
    users_per_bucket: int = USERS_PER_BUCKET,
) -> Outcome:
    """Write the split of ratings that ``blocks`` reads from their file: ``split`` with ``stable``.

    blocks: users, items and times of the file, block after block, each time it is called; the last
    time only if a user is left out. none_left, repeated: the errors that ``split`` and
    ``check_pairs`` would raise.

    Raises:
        DataIntegrityError: one of these.
    """
    user_of, item_of, per_user = Numbering(), Numbering(), np.zeros(0, dtype=np.int64)
    buckets, read = Buckets(scratch, RATING, users_per_bucket), 0
    for users, items, times in blocks():
        numbers, read = user_of.of(users), read + len(users)
        per_user = _added(per_user, np.bincount(numbers))
        buckets.add(_rows(RATING, numbers, item_of.of(items), times))
    kept, pairs = per_user >= min_ratings, _Pairs(len(item_of.ids))

    if not kept.any():
        # In memory, pairs are looked at first.
        deque(map(pairs.look, buckets.sorted()), maxlen=0)
        pairs.require_none_twice(user_of, item_of, repeated)
        raise none_left(len(kept), int(per_user.max(initial=0)), read)
    item_ids, new_item = item_of.ids, np.arange(len(item_of.ids))
    if not kept.all():
        item_ids, new_item = _of_kept(blocks, user_of, item_of, kept)
    starts = np.append(0, np.cumsum(per_user[kept] - 1))
    with _arrays(out, int(starts[-1])) as put:
        test_items, tied = _written(buckets, kept, new_item, pairs, put, read)
    pairs.require_none_twice(user_of, item_of, repeated)
    outcome = Outcome(
        ratings_read=read,
        user_ids=user_of.ids[kept],
        item_ids=item_ids,
        row_starts=starts,
        test_items=test_items,
        dropped_users=int(np.sum(~kept)),
        tied_users=tied,
    )
    _save(out, outcome)
    return outcome


def _written(
    buckets: Buckets,
    kept: npt.NDArray[np.bool_],
    new_item: Ints,
    pairs: _Pairs,
    put: tuple[Callable[[Any], object], Callable[[Any], object]],
    total: int,
) -> tuple[npt.NDArray[np.int32], int]:
    """Write the training pairs of the users that are kept; held-out items, and users with a tie."""
    test_items, tied = np.empty(int(kept.sum()), dtype=np.int32), 0
    number = np.cumsum(kept) - 1
    for rows in _told(buckets.sorted(), total):
        pairs.look(rows)
        rows = rows[kept[rows["user"]]]
        if not len(rows):
            continue
        rows = rows[np.lexsort((rows["time"], rows["user"]))]
        users = number[rows["user"]]
        last = np.append(users[1:] != users[:-1], True)
        test_items[users[last]] = new_item[rows["item"][last]]
        same = rows["time"][1:] == rows["time"][:-1]
        tied += int(np.sum(last[1:] & same & (users[1:] == users[:-1])))
        put[0](users[~last])
        put[1](new_item[rows["item"][~last]])
    return test_items, tied


def _of_kept(
    blocks: Blocks, user_of: Numbering, item_of: Numbering, kept: npt.NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """Ids of the items of users that are kept, and the new number of each item's number."""
    kept_items = Numbering()
    for users, items, _ in blocks():
        kept_items.of(items[kept[user_of.of(users)]])
    new_item = np.zeros(len(item_of.ids), dtype=np.int64)
    new_item[item_of.of(kept_items.ids)] = np.arange(len(kept_items.ids))
    return kept_items.ids, new_item


class _Pairs:
    """Counts ratings that repeat a pair and knows the first such pair, by number."""

    def __init__(self, num_items: int) -> None:
        self._num_items, self.repeated, self.first = num_items, 0, (0, 0)

    def look(self, rows: npt.NDArray[Any]) -> None:
        keys = rows["user"].astype(np.int64) * self._num_items + rows["item"]
        keys.sort()
        again = keys[1:][keys[1:] == keys[:-1]]
        if len(again) and not self.repeated:
            user, item = divmod(int(again[0]), self._num_items)
            self.first = user, item
        self.repeated += len(again)

    def require_none_twice(
        self,
        users: Numbering,
        items: Numbering,
        error: Callable[[int, int, int], DataIntegrityError],
    ) -> None:
        if self.repeated:
            user, item = self.first
            raise error(int(users.ids[user]), int(items.ids[item]), self.repeated)


def found_twice(blocks: Blocks, user: int, item: int) -> tuple[int, int]:
    """The places, from 1, of the first two ratings of a pair of ids."""
    places: list[int] = []
    before = 0
    for users, items, _ in blocks():
        places += (np.flatnonzero((users == user) & (items == item)) + before + 1).tolist()
        before += len(users)
    return places[0], places[1]
