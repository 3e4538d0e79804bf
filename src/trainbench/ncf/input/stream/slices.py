"""Where the samples of an epoch go: 64 slices of every batch, and spans of batches.

Slice s of a batch is its s-th 64th. A worker of n makes the slices that are its part of each batch
and no other, so the same epoch comes out for every n that divides 64. A span is a range of batches;
an epoch that is too large for memory is made span after span. What one slice has in one span is a
cell. Cells have fixed sizes, and the samples are dealt to them like cards to hands: with each
cell then shuffled by itself, every order of the epoch is equally likely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

SLICES = 64
# Samples (8 bytes each) of a cell: it is shuffled inside a core's second-level cache.
CELL_SAMPLES = 1 << 17
# Most entries of the table of chunks by cells (4 bytes each). Beyond, cells grow instead.
TABLE_ENTRIES = 1 << 27
# NumPy draws from a multivariate hypergeometric distribution of fewer than this many.
_NUMPY_MOST = 1_000_000_000

Sizes = npt.NDArray[np.int64]


def slice_bounds(batch: int) -> Sizes:
    """Where each slice of a batch begins and, at the end, the size of the batch: int64[65]."""
    return np.arange(SLICES + 1, dtype=np.int64) * batch // SLICES


@dataclass(frozen=True)
class Layout:
    """Where the samples of one epoch go.

    samples: fresh ones of the epoch; batch: samples of a batch; steps: batches of the epoch.
    opening: samples before the first of the epoch's own: repeated or carried over ones.
    rest: own samples that fill no batch; they are in no cell.
    span_bounds: the first batch of each span and, at the end, the number of full batches.
    """

    samples: int
    batch: int
    steps: int
    opening: int
    rest: int
    span_bounds: Sizes

    @classmethod
    def of(
        cls, samples: int, batch: int, *, last_batch: str, carried: int = 0, chunks: int = 1
    ) -> Layout:
        """The layout of ``samples`` fresh samples, made in ``chunks``, behind ``carried`` ones.

        With ``spillover``, ``samples`` must fill a batch at least (the producer refuses less).
        """
        assert last_batch != "spillover" or samples >= batch, (samples, batch)
        opening = -samples % batch if last_batch == "pad" else carried
        full, rest = divmod(opening + samples, batch)
        masked = last_batch == "mask" and rest > 0
        spans = min(-(-samples // (SLICES * CELL_SAMPLES)), TABLE_ENTRIES // (SLICES * chunks))
        spans = max(1, min(spans, samples // batch))
        bounds = np.arange(spans + 1, dtype=np.int64) * full // spans
        return cls(samples, batch, full + masked, opening, rest, bounds)

    @property
    def spans(self) -> int:
        """How many spans there are."""
        return len(self.span_bounds) - 1

    @property
    def cells(self) -> Sizes:
        """Fresh samples of every cell: int64[spans, 64]."""
        bounds = slice_bounds(self.batch)
        sizes = np.diff(self.span_bounds)[:, None] * np.diff(bounds)
        if self.span_bounds[-1]:
            sizes[0] -= np.diff(np.minimum(bounds, self.opening))
        return sizes

    def passes(self, most_samples: int) -> list[range]:
        """The spans in even groups of at most ``most_samples``, or of one span."""
        per_pass = max(1, most_samples * self.spans // self.samples)
        count = -(-self.spans // per_pass)
        bounds = [group * self.spans // count for group in range(count + 1)]
        return [range(first, end) for first, end in pairwise(bounds)]


def dealt(
    rng: np.random.Generator,
    cells: Sizes,
    chunks: Sizes,
    on_progress: Callable[[], object] = lambda: None,
) -> npt.NDArray[np.int32]:
    """How many samples of each chunk go to each cell: int32[chunks, cells].

    ``on_progress`` is called after each chunk: of a billion pairs all of them take half a minute.
    The sums are ``chunks`` and ``cells``, and every assignment of samples to places is equally
    likely: the rows are drawn from the multivariate hypergeometric distribution.
    """
    assert cells.sum() == chunks.sum(), (cells.sum(), chunks.sum())
    table = np.empty((len(chunks), len(cells)), dtype=np.int32)
    _deal(rng, cells, chunks, table, on_progress)
    return table


def _deal(
    rng: np.random.Generator,
    left: Sizes,
    chunks: Sizes,
    table: npt.NDArray[np.int32],
    on_progress: Callable[[], object],
) -> None:
    if left.sum() >= _NUMPY_MOST and len(chunks) > 1:
        middle = len(chunks) // 2
        first = drawn(rng, left, int(chunks[:middle].sum()))
        _deal(rng, first, chunks[:middle], table[:middle], on_progress)
        _deal(rng, left - first, chunks[middle:], table[middle:], on_progress)
        return
    for row, chunk in zip(table[:-1], chunks, strict=False):
        row[:] = rng.multivariate_hypergeometric(left, chunk, method="marginals")
        left = left - row
        on_progress()
    table[-1] = left


def drawn(rng: np.random.Generator, cells: Sizes, wanted: int) -> Sizes:
    """How many of each cell are among ``wanted`` drawn without replacement, at any size.

    Each is taken with the same probability, and then the surplus is put back, or what is missing is
    taken, by single draws. Among sets of one size none is preferred by either, so the result has
    the multivariate hypergeometric distribution whatever that probability was.
    """
    taken: Sizes = rng.binomial(cells, wanted / max(1, int(cells.sum())))
    surplus = int(taken.sum()) - wanted
    if surplus > 0:
        return taken - _single(rng, taken, surplus)
    return taken + _single(rng, cells - taken, -surplus)


def _single(rng: np.random.Generator, cells: Sizes, wanted: int) -> Sizes:
    ends = cells.cumsum()
    chosen: npt.NDArray[Any] = np.empty(0, dtype=np.int64)
    while missing := wanted - len(chosen):
        chosen = np.unique(np.append(chosen, rng.integers(0, ends[-1], missing)))
    return np.bincount(np.searchsorted(ends, chosen, side="right"), minlength=len(cells))
