"""The samples of one chunk of users: any of them by number, or in the chunk's random order.

First come the training pairs, in the cache's order, then each pair's negatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.stream.draws import Rated, key_of, negatives
from trainbench.ncf.input.stream.pieces import Samples
from trainbench.ncf.input.stream.sampling import Purpose, stream

Numbers = npt.NDArray[np.int64]


class ChunkSamples:
    """Makes the samples of one chunk at a time; each thread needs one of its own."""

    def __init__(self, cache: RatingsCache, options: GenerationOptions, bounds: Numbers) -> None:
        self._cache, self._options, self._bounds = cache, options, bounds
        self._rated = Rated(cache, bounds)
        self._epoch, self._chunk = -1, -1

    def load(self, epoch: int, chunk: int) -> None:
        """Take ``chunk`` of ``epoch`` instead of the one before."""
        self._epoch, self._chunk = epoch, chunk
        self._rated.load(chunk)
        start, end = self._cache.row_starts[self._bounds[chunk : chunk + 2]]
        self._users = self._cache.users[start:end].astype(np.int64)
        self._items = self._cache.items[start:end].astype(np.int64)

    @property
    def size(self) -> int:
        """How many samples the chunk has."""
        return len(self._users) * (1 + self._options.train_negatives)

    def permuted(self) -> Samples:
        """All samples in the chunk's random order: those of ``order()``."""
        pairs, per_pair = len(self._users), self._options.train_negatives
        samples = np.empty(self.size, dtype=np.uint64)
        samples[:pairs] = _sample(self._users, self._items, 1)
        places, users = np.arange(pairs * per_pair), np.repeat(self._users, per_pair)
        samples[pairs:] = _sample(users, self._negatives(places, users), 0)
        self._order_stream().shuffle(samples)
        return samples

    def order(self) -> Numbers:
        """The numbers of the samples in the chunk's random order."""
        numbers = np.arange(self.size)
        self._order_stream().shuffle(numbers)
        return numbers

    def numbered(self, numbers: Numbers) -> Samples:
        """The samples with these numbers, each below ``size``."""
        pairs = len(self._users)
        is_negative = numbers >= pairs
        places = numbers[is_negative] - pairs
        users = self._users[places // self._options.train_negatives]
        positive = numbers[~is_negative]
        samples = np.empty(len(numbers), dtype=np.uint64)
        samples[~is_negative] = _sample(self._users[positive], self._items[positive], 1)
        samples[is_negative] = _sample(users, self._negatives(places, users), 0)
        return samples

    def _negatives(self, places: Numbers, users: Numbers) -> Numbers:
        seed, num_items = self._options.seed, self._cache.num_items
        found = negatives(
            self._rated,
            key_of(seed, Purpose.NEGATIVES_BY_PLACE, self._epoch, self._chunk),
            self._chunk,
            num_items=num_items,
            places=places.view(np.uint64),
            rows=users - self._bounds[self._chunk],
        )
        return found.view(np.int64)

    def _order_stream(self) -> np.random.Generator:
        return stream(self._options.seed, Purpose.CHUNK_ORDER, self._epoch, self._chunk)


def _sample(users: Numbers, items: Numbers, label: int) -> Samples:
    samples: npt.NDArray[Any] = users << 32
    samples |= items << 1
    samples |= label
    return samples.view(np.uint64)
