"""Makes the epochs of stream format 1: a whole epoch in memory, in buckets, as before 0.4.

A run that was made with it is replayed with it; others use format 2 (``sliced``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.config import MASKED
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.stream.pieces import (
    BatchHashes,
    EpochRecord,
    PieceFiles,
    Pieces,
    Samples,
    fields_of,
)
from trainbench.ncf.input.stream.sampling import Purpose, Sampler, chunk_bounds, stream
from trainbench.ncf.input.stream.shuffle import Shuffle

_NO_SAMPLES: Samples = np.empty(0, dtype=np.uint64)


class BucketedMaker:
    """Makes the epochs of one run, one after the other; each is one piece."""

    def __init__(
        self,
        cache: RatingsCache,
        options: GenerationOptions,
        pool: ThreadPoolExecutor,
        *,
        ahead: int,
        on_progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._cache, self._options, self._pool, self._ahead = cache, options, pool, ahead
        self._on_progress = on_progress
        self._bounds = chunk_bounds(cache.row_starts, cache.num_items)
        self._own = threading.local()
        self._carried = _NO_SAMPLES

    def pieces(self) -> Pieces:
        """Of what pieces each epoch consists."""
        samples = self._cache.num_train * (1 + self._options.train_negatives)
        return Pieces(1, samples // self._options.batch_size + 1)

    def write_piece(self, epoch: int, piece: int, folder: Path) -> EpochRecord:
        """Write one epoch's three arrays and its record into ``folder``; epochs come in order."""
        assert piece == 0, "an epoch of format 1 is one piece"
        scattered = self._shuffle(epoch).scattered(self._pool, ahead=self._ahead)
        opening = self._opening(epoch, scattered.samples)
        carried, total = len(self._carried), len(opening) + len(scattered.samples)
        batch = self._options.batch_size
        masked = -total % batch if self._options.last_batch == "mask" else 0
        steps = (total + masked) // batch
        blocks = scattered.blocks(self._pool, ahead=self._ahead)
        out = _BatchWriter(folder, steps, batch)
        with out:
            left = _in_batches(_prepended(opening, blocks), batch, out.add)
            if masked:
                # One of the batch itself: lazy Adam moves the rows that are in a batch.
                out.add(np.append(left, np.repeat(left[-1:], masked)), masked=masked)
                left = _NO_SAMPLES
        self._carried = left
        return EpochRecord(
            epoch=epoch,
            steps=steps,
            batch_size=batch,
            num_samples=steps * batch,
            num_repeated=len(opening) - carried + masked,
            num_carried=carried,
            epoch_sha256=out.hashes.hexdigest(),
            first_batch_sha256=out.hashes.first_batch_sha256,
        ).written(folder)

    def _shuffle(self, epoch: int) -> Shuffle:
        pairs = np.diff(self._cache.row_starts[self._bounds])
        sizes = pairs * (1 + self._options.train_negatives)
        return Shuffle(
            sizes=[int(size) for size in sizes],
            make=partial(self._samples, epoch),
            bucket_stream=partial(self._stream, Purpose.BUCKETS, epoch),
            order_stream=partial(self._stream, Purpose.SHUFFLE, epoch),
        )

    def _stream(self, purpose: Purpose, epoch: int, part: int = 0) -> np.random.Generator:
        self._on_progress()
        return stream(self._options.seed, purpose, epoch, part)

    def _samples(self, epoch: int, chunk: int) -> Samples:
        """The samples of one chunk of users: the positives, then the negatives."""
        if not hasattr(self._own, "sampler"):
            self._own.sampler = Sampler(self._cache, self._options.seed, self._bounds)
        first, last = self._bounds[chunk], self._bounds[chunk + 1]
        pairs = slice(self._cache.row_starts[first], self._cache.row_starts[last])
        per_positive = self._options.train_negatives
        users = self._cache.users[pairs].astype(np.uint64) << 32
        drawn = self._own.sampler.train_negatives(epoch, chunk, per_positive)
        samples = np.empty(len(users) * (1 + per_positive), dtype=np.uint64)
        np.bitwise_or(
            users, self._cache.items[pairs].astype(np.uint64) << 1 | 1, samples[: len(users)]
        )
        negatives = drawn.astype(np.uint64) << 1
        np.bitwise_or(np.repeat(users, per_positive), negatives, samples[len(users) :])
        return samples

    def _opening(self, epoch: int, samples: Samples) -> Samples:
        """What the epoch begins with: the samples carried over, or the repeated ones."""
        if self._options.last_batch != "pad":
            return self._carried
        missing = -len(samples) % self._options.batch_size
        rng = self._stream(Purpose.PADDING, epoch)
        return samples[rng.integers(0, len(samples), missing)]


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


class _BatchWriter(PieceFiles):
    """Writes samples as whole batches to the three files and hashes them on the way."""

    def __init__(self, folder: Path, steps: int, batch: int) -> None:
        super().__init__(folder, steps, batch)
        self._batch, self.hashes = batch, BatchHashes()

    def add(self, samples: Samples, masked: int = 0) -> None:
        """Append ``samples``, a whole number of batches; the last ``masked`` do not train."""
        users, items, labels = (part.reshape(-1, self._batch) for part in fields_of(samples))
        labels.reshape(-1)[len(samples) - masked :] = MASKED
        self.hashes.take((users, items, labels))
        self.write((users, items, labels))
