"""Makes what one run trains and is evaluated on: evaluation candidates, and epochs in pieces.

An epoch is every training pair once and ``train_negatives`` fresh negatives for each, in uniformly
random order. Batches have one constant size. What does not fill the last batch is, with ``pad``,
completed by repeated random samples of the epoch, and the batch that holds the repeats comes first
(models#5576: better than last); with ``mask`` it is completed by a sample that does not train; with
``spillover`` it opens the next epoch instead, and the leftover of the last epoch is not trained on.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.stream.bucketed import BucketedMaker
from trainbench.ncf.input.stream.pieces import (
    BYTES_PER_SAMPLE,
    EVAL_SHA256,
    EpochRecord,
    Pieces,
    write_header,
)
from trainbench.ncf.input.stream.sampling import CHUNK_USERS, Sampler, chunk_bounds
from trainbench.ncf.input.stream.shuffle import ordered
from trainbench.ncf.input.stream.sliced import FORGET_EVERY, PASS_SAMPLES, SlicedMaker
from trainbench.ncf.input.stream.slices import SLICES


class EpochMaker:
    """Makes the input of one run from an open cache, by several threads.

    ``on_progress`` is called after every small piece of work; a pass over an epoch in stream format
    2 holds ``pass_samples`` in memory.
    """

    def __init__(
        self,
        cache: RatingsCache,
        options: GenerationOptions,
        *,
        pass_samples: int = PASS_SAMPLES,
        on_progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._cache, self._options, self._on_progress = cache, options, on_progress
        workers = options.threads()
        self._pool, self._ahead = ThreadPoolExecutor(workers, "sampler"), 2 * workers + 2
        shared = (cache, options, self._pool)
        self._maker: BucketedMaker | SlicedMaker
        if options.stream_format == 1:
            self._maker = BucketedMaker(*shared, ahead=self._ahead, on_progress=on_progress)
        else:
            self._maker = SlicedMaker(
                *shared,
                ahead=self._ahead,
                slices=options.slices,
                pass_samples=pass_samples,
                on_progress=on_progress,
            )

    @property
    def pieces(self) -> Pieces:
        """Of what pieces each epoch consists."""
        return self._maker.pieces()

    def write_eval(self, folder: Path) -> None:
        """Write ``items.npy``, int32[num_users, eval_negatives + 1], and its hash to ``folder``."""
        negatives, bounds = self._options.eval_negatives, self._eval_bounds()
        own = threading.local()

        def rows(chunk: int) -> npt.NDArray[np.int32]:
            self._on_progress()
            if not hasattr(own, "sampler"):
                own.sampler = Sampler(self._cache, self._options.seed, bounds)
            if chunk % FORGET_EVERY == 0:
                self._cache.forget_pages()
            found: npt.NDArray[np.int32] = own.sampler.eval_candidates(chunk, negatives)
            return found

        digest, hashed = hashlib.sha256(), Future[None]()
        hashed.set_result(None)
        # Hashed while the next block is drawn and written: the trainer waits for the whole.
        with open(folder / "items.npy", "wb") as file, ThreadPoolExecutor(1, "hash") as hasher:
            write_header(file, "<i4", (self._cache.num_users, negatives + 1))
            for block in ordered(self._pool, rows, range(len(bounds) - 1), ahead=self._ahead):
                hashed.result()
                hashed = hasher.submit(digest.update, block.data)
                file.write(block.data)
                self._on_progress()
            hashed.result()
        (folder / EVAL_SHA256).write_text(digest.hexdigest() + "\n", encoding="utf-8", newline="\n")

    def write_piece(self, epoch: int, piece: int, folder: Path) -> EpochRecord:
        """Write three arrays and a record into ``folder``; epochs and their pieces come in order.

        Raises:
            DataIntegrityError: a user has rated every item.
        """
        return self._maker.write_piece(epoch, piece, folder)

    def close(self) -> None:
        """End the worker threads; nothing that waits for them is started any more."""
        self._pool.shutdown(cancel_futures=True)

    def _eval_bounds(self) -> npt.NDArray[np.int64]:
        anyway = 1 if self._options.stream_format == 1 else CHUNK_USERS
        return chunk_bounds(self._cache.row_starts, self._cache.num_items, users_anyway=anyway)


def cycles(options: GenerationOptions, pieces: int) -> Iterator[list[tuple[int, int]]]:
    """The parts (epoch, piece) of each cycle: whole epochs, or one piece of one."""
    epochs = range(options.max_epochs)
    if pieces > 1:
        yield from ([(epoch, piece)] for epoch in epochs for piece in range(pieces))
        return
    for first in range(0, options.max_epochs, options.epochs_per_cycle):
        yield [(epoch, 0) for epoch in epochs[first : first + options.epochs_per_cycle]]


def piece_bytes(options: GenerationOptions, pieces: Pieces) -> int:
    """Most bytes that one piece of an epoch takes on disk."""
    columns = -(-options.batch_size * options.num_slices // SLICES)
    return pieces.most_steps * columns * BYTES_PER_SAMPLE + 4096
