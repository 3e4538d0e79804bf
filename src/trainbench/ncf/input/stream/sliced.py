"""Makes the epochs of stream format 2: by slices of the batch, in passes over spans of batches.

Memory is bounded: a pass holds the samples of its spans and of its slices, whatever the epoch's
size, and writes them as one piece of the epoch. Every other pass also puts all chunks in their
random order, and keeps which samples the next pass takes of each. The bytes depend on ratings and
seed alone, not on passes, threads, workers or machine.
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
    Pieces,
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


@dataclass(frozen=True)
class _Share:
    """What one pass takes of every chunk: the samples of some cells, one cell after the other.

    table: the epoch's; cells: columns of it; begins: int64[chunks, cells], where among the pass's
    samples those of a chunk begin in each cell; ends: int64[cells], where each cell ends.
    """

    table: npt.NDArray[np.int32]
    cells: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, table: npt.NDArray[np.int32], cells: npt.NDArray[np.int64]) -> _Share:
        """The share of these ``cells``."""
        taken = table[:, cells]
        begins = taken.cumsum(axis=0, dtype=np.int64)
        ends = begins[-1].cumsum()
        begins += ends - begins[-1]
        begins -= taken
        return cls(table, cells, begins, ends)

    @property
    def size(self) -> int:
        """How many samples the pass takes."""
        return int(self.ends[-1])

    def places(self, chunk: int) -> npt.NDArray[np.int64]:
        """Where the chunk's samples are put, cell after cell."""
        return _runs(self.begins[chunk], self._taken(chunk))

    def in_order(self, chunk: int) -> npt.NDArray[np.int64]:
        """Which of the chunk's samples, counted in its random order, these are."""
        counts = self.table[chunk].astype(np.int64)
        starts = counts.cumsum() - counts
        return _runs(starts[self.cells], self._taken(chunk))

    def _taken(self, chunk: int) -> npt.NDArray[np.int64]:
        taken: npt.NDArray[np.int64] = self.table[chunk, self.cells].astype(np.int64)
        return taken


def expected_pieces(pairs: int, options: GenerationOptions) -> Pieces:
    """In what pieces an epoch of so many training pairs comes, before there is a cache.

    Seldom more than there will be, so what a piece then takes on disk is not more than expected.
    """
    chunks = math.ceil(_MORE_CHUNKS * pairs / CHUNK_PAIRS)
    samples = max(pairs * (1 + options.train_negatives), options.batch_size)
    layout = Layout.of(
        samples, options.batch_size, last_batch=options.last_batch, chunks=max(1, chunks)
    )
    return _pieces(layout, layout.passes(PASS_SAMPLES))


def _pieces(layout: Layout, passes: list[range]) -> Pieces:
    bounds = layout.span_bounds
    most = max(int(bounds[spans.stop] - bounds[spans.start]) for spans in passes)
    # Of another epoch, where more is carried over; or the batch that is masked.
    return Pieces(len(passes), most + 1)


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
        # Which of each chunk's samples the next pass takes, in that pass's order.
        self._kept: npt.NDArray[np.uint32] | None = None

    @property
    def _per_pair(self) -> int:
        return 1 + self._options.train_negatives

    def pieces(self) -> Pieces:
        """Of what pieces each epoch consists."""
        layout = self._layout(0)
        return _pieces(layout, self._passes(layout))

    def write_piece(self, epoch: int, piece: int, folder: Path) -> EpochRecord:
        """Write one piece's three arrays and its record into ``folder``; pieces come in order."""
        if piece == 0:
            self._epoch, self._kept = self._planned(epoch), None
        plan = self._epoch
        assert plan, "the first piece comes first"
        layout, spans = plan.layout, self._passes(plan.layout)
        last = piece == len(spans) - 1
        chosen, rest = self._gathered(plan, spans, piece)
        first = int(layout.span_bounds[spans[piece].start])
        end = layout.steps if last else int(layout.span_bounds[spans[piece].stop])
        masked = -(layout.opening + int(self._starts[-1])) % layout.batch
        masked = masked if self._options.last_batch == "mask" else 0
        columns = self._columns(layout.batch)[-1]
        with PieceFiles(folder, end - first, columns, on_progress=self._on_progress) as out:
            for arrays in self._span_arrays(plan, spans[piece], chosen):
                out.write(arrays)
            if masked and last:
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
            table=dealt(
                self._stream(Purpose.DEALING, epoch), cells, self._chunks, self._on_progress
            ),
            repeats=repeats,
            repeats_by_place=repeats.argsort(kind="stable"),
            opening=np.empty(len(repeats), dtype=np.uint64) if len(repeats) else self._carried,
            hashes=SliceHashes(layout.batch, self._slices),
        )

    def _gathered(
        self, plan: _Epoch, passes: list[range], number: int
    ) -> tuple[dict[tuple[int, int], Samples], Samples]:
        """The samples of each cell (span, slice) of a pass, and the rest, in no order yet."""
        own = self._share(plan, passes, number)
        samples = np.empty(own.size, dtype=np.uint64)
        numbers, keep = self._kept, None
        kept = np.empty(0, dtype=np.uint32)
        if numbers is None and number + 1 < len(passes):
            keep = self._share(plan, passes, number + 1)
            kept = np.empty(keep.size, dtype=np.uint32)

        def fill(chunk: int) -> None:
            self._on_progress()
            made = self._loaded(plan, chunk)
            if number == 0 and len(plan.repeats):
                again = self._repeats_of(plan, chunk)
                plan.opening[again] = made.numbered(plan.repeats[again] - self._starts[chunk])
            places = own.places(chunk)
            if len(places) == made.size:
                samples[places] = made.permuted()
                return
            if numbers is not None:
                samples[places] = made.numbered(numbers[places].astype(np.int64))
                return
            order = made.order()
            samples[places] = made.numbered(order[own.in_order(chunk)])
            if keep is not None:
                kept[keep.places(chunk)] = order[keep.in_order(chunk)]

        deque(ordered(self._pool, fill, range(len(self._chunks)), ahead=self._ahead), maxlen=0)
        self._kept = kept if keep is not None else None
        names = [(span, part) for span in passes[number] for part in self._slices]
        *parts, rest = np.split(samples, own.ends[: len(names)])
        if len(rest):
            self._stream(Purpose.CELL_ORDER, plan.number, plan.table.shape[1] - 1).shuffle(rest)
        return dict(zip(names, parts, strict=True)), rest

    def _share(self, plan: _Epoch, passes: list[range], number: int) -> _Share:
        """What a pass takes: its spans' cells of the slices that are made; the last, the rest."""
        cells = [span * SLICES + part for span in passes[number] for part in self._slices]
        if number == len(passes) - 1:
            cells.append(plan.table.shape[1] - 1)
        return _Share.of(plan.table, np.array(cells, dtype=np.int64))

    def _loaded(self, plan: _Epoch, chunk: int) -> ChunkSamples:
        """This thread's samples of ``chunk``."""
        if not hasattr(self._own, "chunk"):
            self._own.chunk = ChunkSamples(self._cache, self._options, self._bounds)
        made: ChunkSamples = self._own.chunk
        if chunk % FORGET_EVERY == 0:
            self._cache.forget_pages()
        made.load(plan.number, chunk)
        return made

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
