"""Makes the epochs of stream format 2: by slices of the batch, in passes over spans of batches.

Memory is bounded: a pass holds the samples of its spans and of its slices, whatever the epoch's
size, and writes them as one piece of the epoch. The bytes depend on ratings and seed alone, not on
passes, threads, workers or machine.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.config import MASKED
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.stream.chunk import ChunkSamples
from trainbench.ncf.input.stream.pieces import (
    ARRAYS,
    Batches,
    EpochRecord,
    PieceFiles,
    Samples,
    SliceHashes,
    fields_of,
)
from trainbench.ncf.input.stream.sampling import CHUNK_PAIRS, Purpose, chunk_bounds, stream
from trainbench.ncf.input.stream.shuffle import ordered
from trainbench.ncf.input.stream.slices import SLICES, Layout, dealt, slice_bounds

# Samples (8 bytes each) that a pass holds in memory, unless one span alone has more.
PASS_SAMPLES = 1 << 27
# Chunks after which what was read of the cache is let go: 80 MB.
FORGET_EVERY = 500
# More chunks than pairs that fill each to the brim: what the next user has no room in stays empty.
_MORE_CHUNKS = 1.1
_NONE: Samples = np.empty(0, dtype=np.uint64)


@dataclass(frozen=True)
class _Epoch:
    """One epoch's plan and what is known of it so far.

    table: int32[chunks, cells + 1], the samples of each chunk in each cell and, last, in the rest.
    repeats: place among all samples of each repeated one; repeats_by_place: their order by it.
    opening: what the first batch begins with, filled in by the first pass.
    """

    number: int
    layout: Layout
    table: npt.NDArray[np.int32]
    repeats: npt.NDArray[np.int64]
    repeats_by_place: npt.NDArray[np.int64]
    opening: Samples
    hashes: SliceHashes


def expected_pieces(pairs: int, options: GenerationOptions) -> int:
    """In how many pieces an epoch of so many training pairs comes, before there is a cache.

    Seldom more than there will be, so what a piece then takes on disk is not more than expected.
    """
    chunks = math.ceil(_MORE_CHUNKS * pairs / CHUNK_PAIRS)
    samples = max(pairs * (1 + options.train_negatives), options.batch_size)
    layout = Layout.of(
        samples, options.batch_size, last_batch=options.last_batch, chunks=max(1, chunks)
    )
    return len(layout.passes(PASS_SAMPLES))


class SlicedMaker:
    """Makes the epochs of one run, one after the other, piece after piece.

    slices: those of every batch that are made; the arrays have their columns only. ``on_progress``
    is called after every small piece of work.
    """

    def __init__(
        self,
        cache: RatingsCache,
        options: GenerationOptions,
        pool: ThreadPoolExecutor,
        *,
        ahead: int,
        slices: range = range(SLICES),
        pass_samples: int = PASS_SAMPLES,
        on_progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._cache, self._options, self._pool, self._ahead = cache, options, pool, ahead
        self._slices, self._on_progress = slices, on_progress
        # Cut by pairs alone: a chunk of few users would be too small where there are many items.
        every = cache.num_users * cache.num_items
        self._bounds = chunk_bounds(cache.row_starts, cache.num_items, cells=max(1, every))
        self._chunks = np.diff(cache.row_starts[self._bounds]) * self._per_pair
        self._starts = np.append(0, self._chunks.cumsum())
        self._pass_samples = pass_samples
        self._own = threading.local()
        self._carried = _NONE
        self._epoch: _Epoch | None = None

    @property
    def _per_pair(self) -> int:
        return 1 + self._options.train_negatives

    def pieces(self) -> int:
        """Of how many pieces each epoch consists."""
        return len(self._passes(self._layout(0)))

    def write_piece(self, epoch: int, piece: int, folder: Path) -> EpochRecord:
        """Write one piece's three arrays and its record into ``folder``; pieces come in order."""
        if piece == 0:
            self._epoch = self._planned(epoch)
        plan = self._epoch
        assert plan, "the first piece comes first"
        layout, spans = plan.layout, self._passes(plan.layout)
        last = piece == len(spans) - 1
        chosen, rest = self._gathered(plan, spans[piece], with_rest=last)
        first = int(layout.span_bounds[spans[piece].start])
        end = layout.steps if last else int(layout.span_bounds[spans[piece].stop])
        masked = -(layout.opening + int(self._starts[-1])) % layout.batch
        masked = masked if self._options.last_batch == "mask" else 0
        with PieceFiles(folder, end - first, self._columns(layout.batch)[-1]) as out:
            for arrays in self._span_arrays(plan, spans[piece], chosen):
                out.write(arrays)
            if masked:
                out.write(self._last_batch(plan, rest, masked))
        if last:
            # A copy: a view would keep the whole pass in memory until the next epoch's last one.
            self._carried = rest.copy() if self._options.last_batch == "spillover" else _NONE
        carried = layout.opening if self._options.last_batch == "spillover" else 0
        return EpochRecord(
            epoch=epoch,
            steps=layout.steps,
            batch_size=layout.batch,
            num_samples=layout.steps * layout.batch,
            num_repeated=layout.opening - carried + masked,
            num_carried=carried,
            epoch_sha256=plan.hashes.hexdigest(),
            first_batch_sha256=plan.hashes.first_batch_sha256,
            piece=piece,
            pieces=len(spans),
            first_step=first,
            first_slice=self._slices.start,
            slice_sha256=() if len(self._slices) == SLICES else self._slice_hashes(plan),
        ).written(folder)

    @staticmethod
    def _slice_hashes(plan: _Epoch) -> tuple[str, ...]:
        return tuple(found.hex() for found in plan.hashes.each())

    def _layout(self, carried: int) -> Layout:
        return Layout.of(
            int(self._starts[-1]),
            self._options.batch_size,
            last_batch=self._options.last_batch,
            carried=carried,
            chunks=len(self._chunks),
        )

    def _passes(self, layout: Layout) -> list[range]:
        share = len(self._slices) / SLICES
        return layout.passes(int(self._pass_samples / share))

    def _planned(self, epoch: int) -> _Epoch:
        layout = self._layout(len(self._carried))
        cells = np.append(layout.cells.ravel(), layout.rest)
        repeats = np.empty(0, dtype=np.int64)
        if self._options.last_batch == "pad":
            total = int(self._starts[-1])
            repeats = self._stream(Purpose.REPEATS, epoch).integers(0, total, layout.opening)
        return _Epoch(
            number=epoch,
            layout=layout,
            table=dealt(self._stream(Purpose.DEALING, epoch), cells, self._chunks),
            repeats=repeats,
            repeats_by_place=repeats.argsort(kind="stable"),
            opening=np.empty(len(repeats), dtype=np.uint64) if len(repeats) else self._carried,
            hashes=SliceHashes(layout.batch, self._slices),
        )

    def _gathered(
        self, plan: _Epoch, spans: range, *, with_rest: bool
    ) -> tuple[dict[tuple[int, int], Samples], Samples]:
        """The samples of each cell (span, slice) of a pass, and the rest, in no order yet."""
        cells = np.array([s * SLICES + t for s in spans for t in self._slices], dtype=np.int64)
        if with_rest:
            cells = np.append(cells, plan.table.shape[1] - 1)
        sizes = plan.table[:, cells].sum(axis=0, dtype=np.int64)
        ends = sizes.cumsum()
        samples = np.empty(int(ends[-1]), dtype=np.uint64)

        def places() -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
            begins = ends - sizes
            for chunk in range(len(self._chunks)):
                yield chunk, begins
                begins = begins + plan.table[chunk, cells]

        def fill(task: tuple[int, npt.NDArray[np.int64]]) -> None:
            self._on_progress()
            self._fill(
                plan, cells, *task, samples, repeats=spans.start == 0 and len(plan.repeats) > 0
            )

        deque(ordered(self._pool, fill, places(), ahead=self._ahead), maxlen=0)
        parts = np.split(samples, ends[:-1])
        names = [(s, t) for s in spans for t in self._slices]
        rest = parts[-1] if with_rest else _NONE
        if with_rest:
            self._stream(Purpose.CELL_ORDER, plan.number, plan.table.shape[1] - 1).shuffle(rest)
        return dict(zip(names, parts, strict=False)), rest

    def _fill(
        self,
        plan: _Epoch,
        cells: npt.NDArray[np.int64],
        chunk: int,
        begins: npt.NDArray[np.int64],
        samples: Samples,
        *,
        repeats: bool,
    ) -> None:
        """Put the samples of ``chunk`` that belong to ``cells`` where these cells ``begin``."""
        if not hasattr(self._own, "chunk"):
            self._own.chunk = ChunkSamples(self._cache, self._options, self._bounds)
        made: ChunkSamples = self._own.chunk
        if chunk % FORGET_EVERY == 0:
            self._cache.forget_pages()
        made.load(plan.number, chunk)
        counts = plan.table[chunk].astype(np.int64)
        starts, taken = counts.cumsum() - counts, counts[cells]
        if repeats:
            again = self._repeats_of(plan, chunk)
            plan.opening[again] = made.numbered(plan.repeats[again] - self._starts[chunk])
        if taken.sum() == made.size:
            found = made.permuted()
        else:
            found = made.numbered(made.order()[_runs(starts[cells], taken)])
        samples[_runs(begins, taken)] = found

    def _repeats_of(self, plan: _Epoch, chunk: int) -> npt.NDArray[np.int64]:
        """Which of the repeated samples are of ``chunk``."""
        order = plan.repeats_by_place
        first, end = np.searchsorted(plan.repeats, self._starts[chunk : chunk + 2], sorter=order)
        return order[first:end]

    def _span_arrays(
        self, plan: _Epoch, spans: range, cells: dict[tuple[int, int], Samples]
    ) -> Iterator[Batches]:
        """users, items, labels of one span after the other, each [steps, columns].

        The arrays are used again for the next span.
        """
        bounds, columns = slice_bounds(plan.layout.batch), self._columns(plan.layout.batch)

        def finished(name: tuple[int, int]) -> Batches:
            self._on_progress()
            span, part = name
            cell = cells.pop(name)
            self._stream(Purpose.CELL_ORDER, plan.number, span * SLICES + part).shuffle(cell)
            if span == 0:
                opening = plan.opening[bounds[part] : bounds[part + 1]]
                cell = np.concatenate([opening, cell]) if len(opening) else cell
            return fields_of(cell)

        names = [(span, part) for span in spans for part in self._slices]
        done = ordered(self._pool, finished, names, ahead=self._ahead)
        steps_of = np.diff(plan.layout.span_bounds)
        room = _empty_batches(int(steps_of.max()), int(columns[-1]))
        for span in spans:
            arrays = _cut(room, 0, int(steps_of[span]))
            for place, part in enumerate(self._slices):
                found = next(done)
                plan.hashes.update(part, found)
                for array, values in zip(arrays, found, strict=True):
                    own = array[:, columns[place] : columns[place + 1]]
                    own[:] = values.reshape(own.shape)
            plan.hashes.saw(arrays)
            if len(arrays[0]):
                yield arrays

    def _last_batch(self, plan: _Epoch, rest: Samples, masked: int) -> Batches:
        """The rest, filled up with one of its samples, which does not train.

        One of the batch itself: lazy Adam moves the rows that are in a batch.
        """
        filled = np.append(rest, np.repeat(rest[-1:], masked))
        parts = fields_of(filled)
        parts[2][len(rest) :] = MASKED
        bounds = slice_bounds(plan.layout.batch)
        for part in self._slices:
            plan.hashes.update(part, _cut(parts, bounds[part], bounds[part + 1]))
        arrays = _cut(parts, bounds[self._slices.start], bounds[self._slices.stop])
        users, items, labels = arrays
        arrays = users[None], items[None], labels[None]
        plan.hashes.saw(arrays)
        return arrays

    def _columns(self, batch: int) -> npt.NDArray[np.int64]:
        """Where each slice that is made begins among the columns."""
        bounds = slice_bounds(batch)[self._slices.start : self._slices.stop + 1]
        columns: npt.NDArray[np.int64] = bounds - bounds[0]
        return columns

    def _stream(self, purpose: Purpose, epoch: int, part: int = 0) -> np.random.Generator:
        return stream(self._options.seed, purpose, epoch, part)


def _runs(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers from each start on, as many as its length, one run after the other."""
    numbers = np.arange(int(lengths.sum()))
    numbers += np.repeat(starts - (lengths.cumsum() - lengths), lengths)
    return numbers


def _empty_batches(steps: int, columns: int) -> Batches:
    users, items, labels = (np.empty((steps, columns), dtype=kind) for kind in ARRAYS.values())
    return users, items, labels


def _cut(batches: Batches, first: int, end: int) -> Batches:
    users, items, labels = batches
    return users[first:end], items[first:end], labels[first:end]
