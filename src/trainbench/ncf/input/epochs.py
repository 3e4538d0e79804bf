"""One epoch of training input: put together, written as batches, hashed, and opened again.

A sample is one unsigned 64-bit number until it is written: user, item, label from the top. An
epoch is every training pair once and ``train_negatives`` fresh negatives for each, in uniformly
random order. Batches have one constant size. What does not fill the last batch is, with ``pad``,
completed by repeated random samples of the epoch, and the batch that holds the repeats comes first
(models#5576: better than last); with ``mask`` it is completed by a sample that does not train; with
``spillover`` it opens the next epoch instead, and the leftover of the last epoch is not trained on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trainbench import configuration
from trainbench.files import read_object
from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.config import MASKED
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.sampling import Purpose, Sampler, chunk_bounds, stream
from trainbench.ncf.input.shuffle import Samples, Shuffle, ordered

# Array of an epoch -> type of its elements; the order is the order in which a batch is hashed.
ARRAYS = {"users": "<i4", "items": "<i4", "labels": "|u1"}
BYTES_PER_SAMPLE = sum(np.dtype(kind).itemsize for kind in ARRAYS.values())
RECORD = "epoch.json"
EVAL_SHA256 = "sha256"
_NO_SAMPLES: Samples = np.empty(0, dtype=np.uint64)


@dataclass(frozen=True)
class EpochRecord:
    """What epoch.json says; ``num_samples`` includes the repeated and the carried ones.

    ``num_repeated`` fill a batch; with ``mask`` they do not train.
    """

    epoch: int
    steps: int
    batch_size: int
    num_samples: int
    num_repeated: int
    num_carried: int
    epoch_sha256: str
    first_batch_sha256: str


@dataclass(frozen=True)
class EpochData:
    """One epoch's batches as read-only memory maps of shape [steps, batch].

    users, items: int32; labels: uint8, 1 for a rated item, ``MASKED`` for one that does not train.
    ``epoch_sha256`` is the SHA-256 over
    all batches in order, of each its users, items and labels; ``wait_s`` is how long the trainer
    waited for it.
    """

    epoch: int
    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    labels: npt.NDArray[np.uint8]
    num_samples: int
    num_repeated: int
    epoch_sha256: str
    first_batch_sha256: str
    wait_s: float


class EpochMaker:
    """Makes the epochs of one run, one after the other, from an open cache.

    ``on_progress`` is called after every small piece of work.
    """

    def __init__(
        self,
        cache: RatingsCache,
        options: GenerationOptions,
        *,
        on_progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._cache, self._options, self._on_progress = cache, options, on_progress
        self._bounds = chunk_bounds(cache.row_starts, cache.num_items)
        workers = options.threads()
        self._pool, self._ahead = ThreadPoolExecutor(workers, "sampler"), 2 * workers + 2
        self._samplers: list[Sampler] = []
        self._carried = _NO_SAMPLES

    def write_eval(self, folder: Path) -> None:
        """Write ``items.npy``, int32[num_users, eval_negatives + 1], and its hash to ``folder``."""
        negatives = self._options.eval_negatives
        chunks = range(len(self._bounds) - 1)
        rows = partial(self._with_sampler, lambda s, chunk: s.eval_candidates(chunk, negatives))
        digest, hashed = hashlib.sha256(), Future[None]()
        hashed.set_result(None)
        # Hashed while the next block is drawn and written: the trainer waits for the whole.
        with open(folder / "items.npy", "wb") as file, ThreadPoolExecutor(1, "hash") as hasher:
            _write_header(file, "<i4", (self._cache.num_users, negatives + 1))
            for block in ordered(self._pool, rows, chunks, ahead=self._ahead):
                hashed.result()
                hashed = hasher.submit(digest.update, block.data)
                file.write(block.data)
                self._on_progress()
            hashed.result()
        (folder / EVAL_SHA256).write_text(digest.hexdigest() + "\n", encoding="utf-8", newline="\n")

    def write_epoch(self, epoch: int, folder: Path) -> EpochRecord:
        """Write one epoch's three arrays and its record into ``folder``; epochs come in order."""
        scattered = self._shuffle(epoch).scattered(self._pool, ahead=self._ahead)
        opening = self._opening(epoch, scattered.samples)
        carried, total = len(self._carried), len(opening) + len(scattered.samples)
        batch = self._options.batch_size
        masked = -total % batch if self._options.last_batch == "mask" else 0
        steps = (total + masked) // batch
        blocks = scattered.blocks(self._pool, ahead=self._ahead)
        with _BatchWriter(folder, steps, batch) as out:
            left = _in_batches(_prepended(opening, blocks), batch, out.write)
            if masked:
                # One of the batch itself: lazy Adam moves the rows that are in a batch.
                out.write(np.append(left, np.repeat(left[-1:], masked)), masked=masked)
                left = _NO_SAMPLES
        self._carried = left
        record = EpochRecord(
            epoch=epoch,
            steps=steps,
            batch_size=batch,
            num_samples=steps * batch,
            num_repeated=len(opening) - carried + masked,
            num_carried=carried,
            epoch_sha256=out.epoch_sha256,
            first_batch_sha256=out.first_batch_sha256,
        )
        text = json.dumps(asdict(record)) + "\n"
        (folder / RECORD).write_text(text, encoding="utf-8", newline="\n")
        return record

    def close(self) -> None:
        """End the worker threads; nothing that waits for them is started any more."""
        self._pool.shutdown(cancel_futures=True)

    def _shuffle(self, epoch: int) -> Shuffle:
        pairs = np.diff(self._cache.row_starts[self._bounds])
        sizes = pairs * (1 + self._options.train_negatives)
        return Shuffle(
            sizes=[int(size) for size in sizes],
            make=partial(self._with_sampler, partial(self._samples, epoch)),
            bucket_stream=partial(self._stream, Purpose.BUCKETS, epoch),
            order_stream=partial(self._stream, Purpose.SHUFFLE, epoch),
        )

    def _stream(self, purpose: Purpose, epoch: int, part: int = 0) -> np.random.Generator:
        self._on_progress()
        return stream(self._options.seed, purpose, epoch, part)

    def _samples(self, epoch: int, sampler: Sampler, chunk: int) -> Samples:
        """The samples of one chunk of users: the positives, then the negatives."""
        first, last = self._bounds[chunk], self._bounds[chunk + 1]
        pairs = slice(self._cache.row_starts[first], self._cache.row_starts[last])
        per_positive = self._options.train_negatives
        users = self._cache.users[pairs].astype(np.uint64) << 32
        negatives = sampler.train_negatives(epoch, chunk, per_positive).astype(np.uint64)
        samples = np.empty(len(users) * (1 + per_positive), dtype=np.uint64)
        np.bitwise_or(
            users, self._cache.items[pairs].astype(np.uint64) << 1 | 1, samples[: len(users)]
        )
        np.bitwise_or(np.repeat(users, per_positive), negatives << 1, samples[len(users) :])
        return samples

    def _with_sampler(self, work: Callable[[Sampler, int], Any], chunk: int) -> Any:
        """Lend a sampler that no other thread is using."""
        try:
            sampler = self._samplers.pop()
        except IndexError:
            sampler = Sampler(self._cache, self._options.seed, self._bounds)
        try:
            return work(sampler, chunk)
        finally:
            self._samplers.append(sampler)

    def _opening(self, epoch: int, samples: Samples) -> Samples:
        """What the epoch begins with: the samples carried over, or the repeated ones."""
        if self._options.last_batch != "pad":
            return self._carried
        missing = -len(samples) % self._options.batch_size
        rng = self._stream(Purpose.PADDING, epoch)
        return samples[rng.integers(0, len(samples), missing)]


def open_eval(folder: Path) -> tuple[npt.NDArray[np.int32], str]:
    """The candidates that ``EpochMaker.write_eval`` wrote into ``folder``, and their SHA-256."""
    items = np.load(folder / "items.npy", mmap_mode="r")
    return items, (folder / EVAL_SHA256).read_text(encoding="utf-8").strip()


def open_epoch(folder: Path, *, wait_s: float) -> EpochData:
    """The epoch that ``EpochMaker.write_epoch`` wrote into ``folder``."""
    record = configuration.record(EpochRecord, read_object(folder / RECORD))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return EpochData(
        epoch=record.epoch,
        num_samples=record.num_samples,
        num_repeated=record.num_repeated,
        epoch_sha256=record.epoch_sha256,
        first_batch_sha256=record.first_batch_sha256,
        wait_s=wait_s,
        **arrays,
    )


def hash_batches(data: EpochData) -> tuple[str, str]:
    """SHA-256 of the first batch and of all batches, read from the arrays themselves."""
    digest, first = hashlib.sha256(), ""
    for step in range(len(data.users)):
        for array in (data.users, data.items, data.labels):
            digest.update(np.ascontiguousarray(array[step]).data)
        first = first or digest.hexdigest()
    return first, digest.hexdigest()


def epoch_bytes(num_train: int, options: GenerationOptions) -> int:
    """Most bytes that one epoch takes on disk."""
    samples = num_train * (1 + options.train_negatives) + options.batch_size
    return samples * BYTES_PER_SAMPLE + (1 << 12)


def _prepended(opening: Samples, blocks: Iterable[Samples]) -> Iterator[Samples]:
    yield opening
    yield from blocks


def _in_batches(blocks: Iterable[Samples], batch: int, write: Callable[[Samples], None]) -> Samples:
    """Hand ``blocks`` on in whole batches, many at a time, and return what is left."""
    held: list[Samples] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += len(block)
        if size >= batch:
            joined = np.concatenate(held)
            whole = size // batch * batch
            write(joined[:whole])
            held, size = [joined[whole:].copy()], size - whole
    return np.concatenate(held)


class _BatchWriter:
    """Writes whole batches to the three files of an epoch and hashes them on the way."""

    def __init__(self, folder: Path, steps: int, batch: int) -> None:
        self._batch = batch
        self._digest = hashlib.sha256()
        self.first_batch_sha256 = ""
        self._files = contextlib.ExitStack()
        self._out: list[BinaryIO] = []
        for name, kind in ARRAYS.items():
            file = open(folder / f"{name}.npy", "wb")  # noqa: SIM115  closed by __exit__
            self._out.append(self._files.enter_context(file))
            _write_header(file, kind, (steps, batch))

    def __enter__(self) -> _BatchWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    @property
    def epoch_sha256(self) -> str:
        """The hash of all batches so far."""
        return self._digest.hexdigest()

    def write(self, samples: Samples, masked: int = 0) -> None:
        """Append ``samples``, a whole number of batches; the last ``masked`` do not train."""
        parts = [
            (samples >> 32).astype("<i4"),
            (samples >> 1 & 0x7FFF_FFFF).astype("<i4"),
            (samples & 1).astype("|u1"),
        ]
        parts[2][len(samples) - masked :] = MASKED
        for start in range(0, len(samples), self._batch):
            for part in parts:
                self._digest.update(part[start : start + self._batch].data)
            self.first_batch_sha256 = self.first_batch_sha256 or self._digest.hexdigest()
        for file, part in zip(self._out, parts, strict=True):
            file.write(part.data)


def _write_header(file: BinaryIO, kind: str, shape: tuple[int, int]) -> None:
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
