"""An epoch's batches as files: written piece after piece, hashed, and opened again.

A sample is one unsigned 64-bit number until it is written: user, item, label from the top. An epoch
that is too large for memory comes in several pieces, each a range of its batches.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trainbench import configuration
from trainbench.files import read_object
from trainbench.ncf.input.stream.slices import SLICES, slice_bounds

Samples = npt.NDArray[np.uint64]
Batches = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
"""users, items and labels."""

# Array of an epoch -> type of its elements; the order is the order in which a batch is hashed.
ARRAYS = {"users": "<i4", "items": "<i4", "labels": "|u1"}
BYTES_PER_SAMPLE = sum(np.dtype(kind).itemsize for kind in ARRAYS.values())
RECORD = "epoch.json"
EVAL_SHA256 = "sha256"
_WRITTEN_BYTES = 1 << 26


@dataclass(frozen=True)
class Pieces:
    """In what pieces each epoch comes: how many, and the most batches that one of them has."""

    count: int
    most_steps: int


@dataclass(frozen=True)
class EpochRecord:
    """What epoch.json says of a piece of an epoch; the numbers are the whole epoch's.

    ``num_samples`` includes the repeated and the carried ones. ``num_repeated`` fill a batch; with
    ``mask`` they do not train. ``epoch_sha256`` is of all batches up to the end of this ``piece``
    (from 0) of ``pieces``, which begins with batch ``first_step``. ``slice_sha256`` are the hashes
    of the slices from ``first_slice`` on that this producer made, where they are not all: then
    ``epoch_sha256`` and ``first_batch_sha256`` are of these alone.
    """

    epoch: int
    steps: int
    batch_size: int
    num_samples: int
    num_repeated: int
    num_carried: int
    epoch_sha256: str
    first_batch_sha256: str
    piece: int = 0
    pieces: int = 1
    first_step: int = 0
    first_slice: int = 0
    slice_sha256: tuple[str, ...] = ()

    def written(self, folder: Path) -> EpochRecord:
        """The record itself, after it was written into ``folder``."""
        text = json.dumps(asdict(self)) + "\n"
        (folder / RECORD).write_text(text, encoding="utf-8", newline="\n")
        return self


@dataclass(frozen=True)
class EpochData:
    """One piece of an epoch: its batches as read-only memory maps of shape [steps, batch].

    users, items: int32; labels: uint8, 1 for a rated item, ``MASKED`` for one that does not train.
    record: what is known of its epoch. ``wait_s`` is how long the trainer waited for the epoch up
    to this piece.
    """

    record: EpochRecord
    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    labels: npt.NDArray[np.uint8]
    wait_s: float

    @property
    def epoch(self) -> int:
        """Number of the epoch, from 0."""
        return self.record.epoch

    @property
    def slices(self) -> range:
        """The slices of each batch that are here."""
        first, made = self.record.first_slice, len(self.record.slice_sha256) or SLICES
        return range(first, first + made)

    @property
    def is_last(self) -> bool:
        """Whether the epoch ends with this piece."""
        return self.record.piece + 1 == self.record.pieces

    @property
    def arrays(self) -> Batches:
        """users, items and labels."""
        return self.users, self.items, self.labels


class PieceFiles:
    """Writes whole batches to the three files of a piece.

    ``on_progress`` is called after every block, as a slow disk needs minutes for a large piece.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        columns: int,
        *,
        on_progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._files, self._on_progress = contextlib.ExitStack(), on_progress
        self._out: list[BinaryIO] = []
        for name, kind in ARRAYS.items():
            file = open(folder / f"{name}.npy", "wb")  # noqa: SIM115  closed by __exit__
            self._out.append(self._files.enter_context(file))
            write_header(file, kind, (int(steps), int(columns)))

    def __enter__(self) -> PieceFiles:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def write(self, batches: Batches) -> None:
        """Append ``batches``, each array contiguous and a whole number of batches."""
        for file, array in zip(self._out, batches, strict=True):
            view = array.reshape(-1).view(np.uint8).data
            for start in range(0, len(view), _WRITTEN_BYTES):
                file.write(view[start : start + _WRITTEN_BYTES])
                self._on_progress()


def fields_of(samples: Samples) -> Batches:
    """users, items and labels of samples."""
    return (
        (samples >> np.uint64(32)).astype("<i4"),
        (samples >> np.uint64(1) & np.uint64(0x7FFF_FFFF)).astype("<i4"),
        (samples & np.uint64(1)).astype("|u1"),
    )


def write_header(file: BinaryIO, kind: str, shape: tuple[int, int]) -> None:
    """Write the header of a .npy file."""
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


class SliceHashes:
    """SHA-256 of an epoch in stream format 2, of some slices or of all.

    Of each slice: users, items and labels are hashed each, and then the three hashes. The epoch's
    is the hash of its slices' hashes. So slices are hashed independently of each other, and it
    does not matter in how many pieces they come.
    """

    def __init__(self, batch: int, slices: range = range(SLICES)) -> None:
        self._bounds, self._slices = slice_bounds(batch), slices
        self._digests = {part: [hashlib.sha256() for _ in ARRAYS] for part in slices}
        self.first_batch_sha256 = ""

    def update(self, part: int, batches: Batches) -> None:
        """Take what follows in slice ``part``."""
        for digest, array in zip(self._digests[part], batches, strict=True):
            digest.update(np.ascontiguousarray(array).data)

    def saw(self, batches: Batches) -> None:
        """Take the columns of all slices, [steps, columns], for the hash of the first batch."""
        if not self.first_batch_sha256 and len(batches[0]):
            first = b"".join(array[0].tobytes() for array in batches)
            self.first_batch_sha256 = hashlib.sha256(first).hexdigest()

    def take(self, batches: Batches) -> None:
        """Take batches, [steps, columns of the slices]."""
        first = self._bounds[self._slices.start]
        for part in self._slices:
            columns = slice(self._bounds[part] - first, self._bounds[part + 1] - first)
            users, items, labels = batches
            self.update(part, (users[:, columns], items[:, columns], labels[:, columns]))
        self.saw(batches)

    def each(self) -> list[bytes]:
        """The hash of each slice so far."""
        threes = (self._digests[part] for part in self._slices)
        return [
            hashlib.sha256(b"".join(digest.digest() for digest in three)).digest()
            for three in threes
        ]

    def hexdigest(self) -> str:
        """The hash of everything so far."""
        return hash_of_slices(self.each())


def hash_of_slices(each: Iterable[bytes]) -> str:
    """The hash of an epoch from those of its slices, in order."""
    return hashlib.sha256(b"".join(each)).hexdigest()


class BatchHashes:
    """SHA-256 of an epoch in stream format 1: over the batches in order, all columns of each."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.first_batch_sha256 = ""

    def take(self, batches: Batches) -> None:
        """Take whole batches, [steps, batch]."""
        for step in range(len(batches[0])):
            for array in batches:
                self._digest.update(np.ascontiguousarray(array[step]).data)
            self.first_batch_sha256 = self.first_batch_sha256 or self._digest.hexdigest()

    def hexdigest(self) -> str:
        """The hash of everything so far."""
        return self._digest.hexdigest()


def epoch_hashes(
    stream_format: int, batch: int, slices: range = range(SLICES)
) -> SliceHashes | BatchHashes:
    """What takes the batches of an epoch of a format, or their ``slices``, and says its hashes."""
    return BatchHashes() if stream_format == 1 else SliceHashes(batch, slices)


def hash_batches(stream_format: int, pieces: Iterable[EpochData]) -> tuple[str, str]:
    """SHA-256 of the first batch and of all batches, read from the arrays of an epoch's pieces."""
    hashes: SliceHashes | BatchHashes | None = None
    for piece in pieces:
        hashes = hashes or epoch_hashes(stream_format, piece.record.batch_size)
        hashes.take(piece.arrays)
    assert hashes is not None, "an epoch has a piece"
    return hashes.first_batch_sha256, hashes.hexdigest()


def open_eval(folder: Path) -> tuple[npt.NDArray[np.int32], str]:
    """The candidates that ``EpochMaker.write_eval`` wrote into ``folder``, and their SHA-256."""
    items = np.load(folder / "items.npy", mmap_mode="r")
    return items, (folder / EVAL_SHA256).read_text(encoding="utf-8").strip()


def open_piece(folder: Path, *, wait_s: float) -> EpochData:
    """The piece that ``EpochMaker.write_piece`` wrote into ``folder``."""
    record = configuration.record(EpochRecord, read_object(folder / RECORD))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return EpochData(record=record, wait_s=wait_s, **arrays)
