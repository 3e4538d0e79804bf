"""A uniform permutation of more samples than any processor cache holds.

Every sample goes to a bucket chosen uniformly and independently, then each bucket is shuffled by
itself (Rao 1961, Sandelius 1962): the concatenation is a uniform permutation, exactly, and no step
walks at random through more memory than one bucket. Buckets and parts have random streams of their
own, so that workers can take them in any order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

# Samples (8 bytes each) per bucket: a bucket is shuffled inside a core's second-level cache.
BUCKET_SAMPLES = 1 << 17
MAX_BUCKETS = 1 << 16

Samples = npt.NDArray[np.uint64]
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def ordered(
    pool: ThreadPoolExecutor, work: Callable[[_In], _Out], items: Iterable[_In], *, ahead: int
) -> Iterator[_Out]:
    """The results of ``work`` in the order of ``items``, at most ``ahead`` of them unclaimed."""
    waiting: deque[Future[_Out]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def num_buckets(samples: int, per_bucket: int = BUCKET_SAMPLES) -> int:
    """How many buckets that many samples are shuffled in: a power of two."""
    wanted = -(-samples // per_bucket)
    return min(1 << max(0, wanted - 1).bit_length(), MAX_BUCKETS)


@dataclass(frozen=True)
class Shuffle:
    """How the samples of one epoch are permuted.

    sizes: samples of each part; make: the samples of a part, uint64; bucket_stream and
    order_stream: the random generators of a part's buckets and of a bucket's order.
    """

    sizes: Sequence[int]
    make: Callable[[int], Samples]
    bucket_stream: Callable[[int], np.random.Generator]
    order_stream: Callable[[int], np.random.Generator]
    per_bucket: int = BUCKET_SAMPLES

    @property
    def total(self) -> int:
        """Number of samples."""
        return int(sum(self.sizes))

    def scattered(self, pool: ThreadPoolExecutor, *, ahead: int) -> Scattered:
        """All samples, each in its bucket; needs 8 bytes per sample."""
        buckets = num_buckets(self.total, self.per_bucket)
        parts = range(len(self.sizes))
        counts = np.stack(
            list(ordered(pool, lambda part: self._counts(part, buckets), parts, ahead=ahead))
        )
        # Where each part's samples begin in each bucket: buckets one after the other, and within
        # a bucket the parts one after the other.
        ends = counts.T.cumsum().reshape(buckets, len(self.sizes)).T
        begins = ends - counts
        samples = np.empty(self.total, dtype=np.uint64)
        scatter = ordered(
            pool, lambda part: self._scatter(part, begins[part], samples), parts, ahead=ahead
        )
        deque(scatter, maxlen=0)
        bounds = np.append(begins[0], self.total)
        return Scattered(samples, bounds, self.order_stream)

    def _buckets(self, part: int, buckets: int) -> npt.NDArray[Any]:
        dtype = np.uint8 if buckets <= 1 << 8 else np.uint16
        return self.bucket_stream(part).integers(0, buckets, self.sizes[part], dtype=dtype)

    def _counts(self, part: int, buckets: int) -> npt.NDArray[np.int64]:
        return np.bincount(self._buckets(part, buckets), minlength=buckets)

    def _scatter(self, part: int, begins: npt.NDArray[np.int64], samples: Samples) -> None:
        # Drawn a second time instead of kept: cheaper than two bytes per sample of memory.
        chosen = self._buckets(part, len(begins))
        order = np.argsort(chosen, kind="stable")
        counts = np.bincount(chosen, minlength=len(begins))
        shift = begins - (counts.cumsum() - counts)
        places = np.arange(len(chosen)) + np.repeat(shift, counts)
        samples[places] = self.make(part)[order]


@dataclass(frozen=True)
class Scattered:
    """The samples of one epoch in buckets; ``bounds`` says where each bucket begins and ends."""

    samples: Samples
    bounds: npt.NDArray[np.int64]
    order_stream: Callable[[int], np.random.Generator]

    def blocks(self, pool: ThreadPoolExecutor, *, ahead: int) -> Iterator[Samples]:
        """The permutation, bucket after bucket."""
        return ordered(pool, self._shuffled, range(len(self.bounds) - 1), ahead=ahead)

    def _shuffled(self, bucket: int) -> Samples:
        block = self.samples[self.bounds[bucket] : self.bounds[bucket + 1]]
        self.order_stream(bucket).shuffle(block)
        return block
