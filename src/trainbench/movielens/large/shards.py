"""Pairs in shards, as MLPerf's fractal expansion of MovieLens is published: a tar of npz files.

``trainxAxB_K.npz`` and ``testxAxB_K.npz`` for K from 0 below A, each with one array ``arr_0`` of
[user, item] pairs. The tar is read as it is: in blocks, never a whole shard in memory, and nothing
is unpacked.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from trainbench.errors import DataIntegrityError
from trainbench.files import foreign
from trainbench.progress import Progress

BLOCK_ROWS = 1 << 21
KINDS = ("train", "test")
ARRAY = "arr_0.npy"
LARGEST_ID = 2**31 - 2
# Numbers up to here cost 128 MiB at most, whatever the pairs.
_ANY_SET = 1 << 24
_NAME = re.compile(r"(train|test)x([0-9]{1,4})x([0-9]{1,4})_([0-9]{1,4})\.npz")
_ADVICE = "delete it and run download again"
_OF_A_SOURCE = "use another copy of it"
_TESTED_BYTES = 1 << 20

Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shard:
    """One member of the tar: its ``name`` there, ``train`` or ``test``, and its number."""

    name: str
    kind: str
    number: int


def shards_of(path: Path, *, shown: str | None = None) -> list[Shard]:
    """The shards in the tar at ``path``: those of training in order, then those of the test set.

    Raises:
        DataIntegrityError: no tar, cut off, or a shard is missing or there twice; the message calls
            the archive ``shown``.
    """
    name, advice = _called(path, shown)
    with _tar(path, name, advice) as tar:
        members = [member.name for member in tar.getmembers() if member.isfile()]
    named = [(m, _NAME.fullmatch(PurePosixPath(m).name)) for m in members]
    parts = [(m, match.groups()) for m, match in named if match]
    if not parts:
        raise DataIntegrityError(
            f"{name}: found {len(members)} files, none called trainxAxB_K.npz; check that the "
            "archive is of the dataset asked for"
        )
    users, items = parts[0][1][1:3]
    every = {
        f"{kind}x{users}x{items}_{n}.npz": (kind, n) for kind in KINDS for n in range(int(users))
    }
    found = {PurePosixPath(member).name: member for member, _ in parts}
    missing = [wanted for wanted in every if wanted not in found]
    if missing or len(parts) != len(every):
        what = f"{missing[0]} is missing" if missing else "there are others"
        raise DataIntegrityError(
            f"{name}: {what}: found {len(parts)} shards, wanted {len(every)}, train and test x"
            f"{users}x{items}_0 to _{int(users) - 1}; {advice}"
        )
    return [Shard(found[wanted], *of) for wanted, of in every.items()]


def require_whole(path: Path, *, shown: str | None = None) -> None:
    """Read every shard in the tar at ``path`` to its end, where its zip's sum is compared.

    Raises:
        DataIntegrityError: one is missing, damaged, or of another type or shape; the message calls
            the archive ``shown``.
    """
    shards, (archive, advice) = shards_of(path, shown=shown), _called(path, shown)
    with Progress(len(shards), unit="shards", label=f"test {path.name}") as progress:
        for shard in shards:
            name = f"{archive}, {shard.name}"
            with _tar(path, name, advice) as tar, _array(tar, shard, name, advice) as (file, *_):
                while file.read(_TESTED_BYTES):
                    pass
            progress.advance(1)


def rows_of(path: Path, shards: Iterable[Shard]) -> int:
    """How many pairs ``shards`` have by their headers.

    Raises:
        DataIntegrityError: a damaged shard, another type or shape.
    """
    total = 0
    for shard in shards:
        name = f"{path}, {shard.name}"
        with _tar(path, name) as tar, _array(tar, shard, name) as (_, rows, _kind):
            total += rows
    return total


def largest_id(pairs: int) -> int:
    """The largest number of a user or an item that makes sense among so many pairs.

    Memory and tables grow with it, so one wrong number would take all memory.
    """
    return min(LARGEST_ID, max(_ANY_SET, pairs // 2))


def read_shard(path: Path, shard: Shard, *, largest: int = LARGEST_ID) -> Iterator[Pairs]:
    """The pairs of one shard in blocks, int64[rows, 2], with numbers up to ``largest``.

    Raises:
        DataIntegrityError: a damaged shard, another type or shape, a number out of range.
    """
    name = f"{path}, {shard.name}"
    first = 0
    with _tar(path, name) as tar, _array(tar, shard, name) as (file, rows, kind):
        while first < rows:
            count = min(BLOCK_ROWS, rows - first)
            data = file.read(count * 2 * kind.itemsize)
            if len(data) != count * 2 * kind.itemsize:
                raise DataIntegrityError(f"{name}: cut off in row {first + 1:,}; download it again")
            pairs = np.frombuffer(data, kind).reshape(count, 2).astype(np.int64, copy=False)
            _require_ids(name, pairs, first, largest)
            yield pairs
            first += count
        # Compares the sum that the zip has of the whole.
        if file.read(1):
            raise DataIntegrityError(
                f"{name}: more bytes than {rows:,} rows have; download it again"
            )


def _called(path: Path, shown: str | None) -> tuple[str, str]:
    """What messages call the archive at ``path``, and what to do about it."""
    return (shown, _OF_A_SOURCE) if shown else (str(path), _ADVICE)


@contextmanager
def _tar(path: Path, name: str, advice: str = _ADVICE) -> Iterator[tarfile.TarFile]:
    with foreign(name, "a whole tar of npz shards", advice), tarfile.open(path, "r:") as tar:
        yield tar


@contextmanager
def _array(
    tar: tarfile.TarFile, shard: Shard, name: str, advice: str = _ADVICE
) -> Iterator[tuple[IO[bytes], int, np.dtype[Any]]]:
    """The file of a shard's array behind its header, its rows and its type."""
    # By name alone, a link that is called so would be followed.
    found = next(m for m in tar.getmembers() if m.isfile() and m.name == shard.name)
    member = tar.extractfile(found)
    assert member is not None, "a regular file"
    with member, zipfile.ZipFile(member) as archive:
        names = ", ".join(archive.namelist())[:80]
        if names != ARRAY:
            raise DataIntegrityError(
                f"{name}: found {names or 'nothing'}, wanted the array arr_0 alone; {advice}"
            )
        with archive.open(ARRAY) as file:
            version = np.lib.format.read_magic(file)
            read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, fortran, kind = read[version[0]](file)
            if kind.kind not in "iu" or len(shape) != 2 or shape[1] != 2 or shape[0] < 0 or fortran:
                raise DataIntegrityError(
                    f"{name}: arr_0 is {kind} {list(shape)}, wanted whole numbers [pairs, 2]; "
                    f"{advice}"
                )
            yield file, int(shape[0]), kind


def _require_ids(name: str, pairs: Pairs, first: int, largest: int) -> None:
    if not len(pairs) or (pairs.min() >= 0 and pairs.max() <= largest):
        return
    row = int(np.flatnonzero(((pairs < 0) | (pairs > largest)).any(axis=1))[0])
    raise DataIntegrityError(
        f"{name}, row {first + row + 1:,}: found user {pairs[row, 0]} and item {pairs[row, 1]}, "
        f"wanted numbers from 0 to {largest:,}; {_ADVICE}"
    )


class ShardWriter:
    """Writes such a tar, shard after shard; the arrays are int32 and not packed."""

    def __init__(self, path: Path, factor: str) -> None:
        self._path, self._factor = path, factor
        self._tar = tarfile.open(  # noqa: SIM115  closed by close()
            path, "w:", format=tarfile.GNU_FORMAT
        )

    def add(
        self, kind: str, number: int, blocks: Iterator[npt.NDArray[np.int32]], rows: int
    ) -> None:
        """Add a shard of ``rows`` pairs, which ``blocks`` have in order, int32[some, 2]."""
        part = self._path.with_name(f"{self._path.name}.shard")
        try:
            with zipfile.ZipFile(part, "w", allowZip64=True) as archive:
                info = zipfile.ZipInfo(ARRAY)  # With a time of its own, so that bytes repeat.
                with archive.open(info, "w", force_zip64=True) as file:
                    header = {"descr": "<i4", "fortran_order": False, "shape": (rows, 2)}
                    np.lib.format.write_array_header_1_0(file, header)
                    for block in blocks:
                        file.write(np.ascontiguousarray(block, "<i4").data)
            member = tarfile.TarInfo(f"{kind}x{self._factor}_{number}.npz")
            member.size = part.stat().st_size
            with part.open("rb") as packed:
                self._tar.addfile(member, packed)
        finally:
            part.unlink(missing_ok=True)

    def close(self) -> None:
        """Write the end of the tar."""
        self._tar.close()
