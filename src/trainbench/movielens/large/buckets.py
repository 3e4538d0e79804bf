"""Rows on disk by ranges of users, so that each range can be sorted in memory by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Of 20 to 600 pairs each, a range of so many users has 5 to 160 MB.
USERS_PER_BUCKET = 1 << 14

Rows = npt.NDArray[Any]


class Buckets:
    """Takes rows in any order and gives them back range after range of users, in that order.

    ``kind`` is the type of a row, with the field ``user``, a number from 0.
    """

    def __init__(self, folder: Path, kind: np.dtype[Any], users: int = USERS_PER_BUCKET) -> None:
        self._folder, self._kind, self._users = folder, kind, users
        self._known: set[int] = set()
        folder.mkdir(parents=True)

    def add(self, rows: Rows) -> None:
        """Add rows; those of one user come back in the order in which they were added."""
        buckets = rows["user"] // self._users
        if (buckets[1:] < buckets[:-1]).any():
            order = np.argsort(buckets, kind="stable")
            rows, buckets = rows[order], buckets[order]
        starts = np.flatnonzero(np.append(True, buckets[1:] != buckets[:-1]))
        for start, end in zip(starts, np.append(starts[1:], len(rows)), strict=True):
            if end > start:
                bucket = int(buckets[start])
                self._known.add(bucket)
                with self._path(bucket).open("ab") as file:
                    file.write(np.ascontiguousarray(rows[start:end]).view(np.uint8).data)

    def sorted(self) -> Iterator[Rows]:
        """The rows of each range by user, in ascending order; each range is removed from disk."""
        for bucket in sorted(self._known):
            path = self._path(bucket)
            rows = np.fromfile(path, self._kind)
            path.unlink()
            users = rows["user"]
            if (users[1:] < users[:-1]).any():
                rows = rows[np.argsort(users, kind="stable")]
            yield rows
        self._known = set()

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:06d}"
