"""Who computes which samples of a call's steps, and which rows it asks of whom: NumPy alone.

Row r of a table lives at replica r mod n, where it is row r // n. A sample is computed where its
user's row lives, so users' rows never travel; an item's row is asked of its owner once per step,
however many samples read it. Arrays have one constant shape, so slots are left over: there a
sample weighs nothing, and a request names the spare row, which no sample reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]

_NO_SAMPLE = 3
_LABELS = 4
# From here on, sorting a step's items costs less than a pass over a table's marks.
_SPARSE = 16


def rows_of(total: int, owners: int) -> int:
    """Rows that each owner has room for, the spare one, its last, among them."""
    return -(-total // owners) + 1


def with_room(table: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """``table`` with ``rows`` rows; the new ones are 0. Itself where it has them all."""
    if len(table) == rows:
        return table
    room = np.zeros((rows, *table.shape[1:]), table.dtype)
    room[: len(table)] = table
    return room


def from_owners(shards: npt.NDArray[Any], total: int) -> npt.NDArray[Any]:
    """The table of ``total`` rows whose parts are ``shards`` [owners, rows, width]."""
    owners, rows, *width = shards.shape
    return shards.swapaxes(0, 1).reshape(rows * owners, *width)[:total]


@dataclass
class Room:
    """How many slots something has: as many as were ever needed, and some more.

    What it is for has compiled shapes, so it grows seldom: a random number that was once ``needed``
    is exceeded by some roots of it.
    """

    size: int = 0

    def fit(self, needed: int) -> int:
        """The slots for ``needed`` ones; never fewer than before."""
        if needed > self.size:
            spare = math.isqrt(needed) // 2 if self.size == 0 else math.isqrt(needed)
            self.size = -(-max(1, needed + spare) // 8) * 8
        return self.size


@dataclass(frozen=True)
class Routed:
    """The samples of some steps by the owner of their user.

    samples: int32 [steps * batch, 2], the user's row at its owner, and item and label in one
    number; sorted by step and owner. counts: [steps, owners].
    """

    samples: Ints
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, users: Ints, items: Ints, labels: npt.NDArray[Any], owners: int) -> Routed:
        """The samples of [steps, batch] arrays."""
        steps = len(users)
        key = users % owners + owners * np.arange(steps, dtype=np.int32)[:, None]
        small = steps * owners < 2**15
        order = key.astype(np.int16 if small else np.int32).ravel().argsort(kind="stable")
        coded = items.ravel() * _LABELS + labels.ravel()
        counts = np.bincount(key.ravel(), minlength=steps * owners)
        samples = np.stack([(users // owners).ravel()[order], coded[order]], axis=1)
        return cls(samples.astype(np.int32), counts.reshape(steps, owners))

    @property
    def most(self) -> int:
        """The most samples of one step that one owner has."""
        return int(self.counts.max(initial=0))

    def packed(self, room: int) -> Ints:
        """int32 [owners, steps, room, 2]: the samples of each owner and step from the front."""
        steps, owners = self.counts.shape
        out = np.full((owners, steps, room, 2), _NO_SAMPLE, np.int32)
        filled = np.arange(room) < self.counts[..., None]
        # In the order in which the samples are sorted: by step, then by owner.
        out.swapaxes(0, 1)[filled] = self.samples
        return out


@dataclass(frozen=True)
class Samples:
    """What one owner computes: [steps, slots] each.

    rows: of the users, at this owner; the spare row in a slot without a sample. valid: whether
    there is one.
    """

    rows: Ints
    items: Ints
    labels: npt.NDArray[np.int32]
    valid: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, blocks: Ints, *, room: Room, spare: int) -> Samples:
        """The samples in ``blocks`` [sources, steps, slots, 2], which ``packed`` made."""
        found = blocks.swapaxes(0, 1).reshape(blocks.shape[1], -1, 2)
        there = found[..., 1] % _LABELS != _NO_SAMPLE
        counts = there.sum(axis=1)
        slots = np.arange(room.fit(int(counts.max(initial=0))))
        valid = slots < counts[:, None]
        rows, coded = np.full(valid.shape, spare, np.int32), np.zeros(valid.shape, np.int32)
        rows[valid], coded[valid] = found[there].T
        return cls(rows, coded // _LABELS, coded % _LABELS, valid)


@dataclass(frozen=True)
class Requests:
    """The distinct items of each step by their owner.

    keys: of each step, ascending: owner * rows + row. indices: [steps, slots], which of its step's
    keys a sample reads; 0 where there is no sample. counts: [steps, owners].
    """

    keys: list[npt.NDArray[np.int64]]
    indices: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    rows: int = field(repr=False)

    @classmethod
    def of(cls, samples: Samples, *, num_items: int, owners: int) -> Requests:
        """What ``samples`` ask for."""
        rows = rows_of(num_items, owners)
        wanted = samples.items.astype(np.int64) % owners * rows + samples.items // owners
        indices, keys = np.zeros(wanted.shape, np.int64), []
        for step, valid in enumerate(samples.valid):
            found, places = _distinct(wanted[step][valid], owners * rows)
            keys.append(found)
            indices[step][valid] = places
        counts = [np.bincount(found // rows, minlength=owners) for found in keys]
        return cls(keys, indices, np.array(counts).reshape(len(keys), owners), rows)

    @property
    def most(self) -> int:
        """The most rows of one owner in one step."""
        return int(self.counts.max(initial=0))

    def laid_out(self, room: int) -> tuple[Ints, Ints]:
        """Rows asked for, int32 [owners, steps, room], and where a sample finds its own.

        Places, int32 [steps, slots], are among the owners' rows in turn: owners * room.
        """
        steps, owners = self.counts.shape
        asked = np.full((owners, steps, room), self.rows - 1, np.int32)
        places = np.zeros(self.indices.shape, np.int32)
        for step, found in enumerate(self.keys):
            if not len(found):
                continue
            owner = found // self.rows
            starts = self.counts[step].cumsum() - self.counts[step]
            slot = np.arange(len(found)) - starts[owner]
            asked[owner, step, slot] = found % self.rows
            places[step] = (owner * room + slot)[self.indices[step]]
        return asked, places


def _distinct(
    values: npt.NDArray[np.int64], limit: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Distinct values below ``limit``, ascending, and where among them each value is."""
    if limit > _SPARSE * len(values):
        return np.unique(values, return_inverse=True)
    marks = np.zeros(limit, np.bool_)
    marks[values] = True
    return np.flatnonzero(marks), marks.cumsum()[values] - 1
