"""What replicas send each other beside the strategy's sums: parts of equal size, all to all.

Between processes they go over ``Links``, one message for all devices of a process; between the
devices of one process they are copied. Every process must make the same calls in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainbench.distribution.links import Links

_BLOCK_BYTES = 1 << 22
_HOST = "CPU:0"


class Wire:
    """Between the workers of ``links``, each with the same number of ``devices``.

    Without links there is one.
    """

    def __init__(self, devices: Sequence[str], links: Links | None) -> None:
        self.devices, self._links = tuple(devices), links
        self.workers, self.index = (links.workers, links.index) if links else (1, 0)

    def swap(self, parts: Sequence[Any]) -> list[Any]:
        """In a graph: what the replicas have for each local one, [replicas, ...] each.

        Args:
            parts: of each local replica, what it has for each replica: [replicas, ...].
        """
        if self._links is None:
            return self._copied(parts)
        with tf.device(_HOST):
            (got,) = _called(self._links.exchange, self._by_worker(parts))
        return self._by_replica(got, parts)

    def swap_and_total(self, parts: Sequence[Any], values: Sequence[Any]) -> tuple[list[Any], Any]:
        """In a graph: ``swap``, and the sum of all replicas' ``values``, on the host."""
        with tf.device(_HOST):
            mine = tf.add_n([tf.identity(value) for value in values])
        if self._links is None:
            return self._copied(parts), mine
        with tf.device(_HOST):
            got, total = _called(self._links.exchange_and_total, self._by_worker(parts), mine)
        return self._by_replica(got, parts), total

    def _copied(self, parts: Sequence[Any]) -> list[Any]:
        found = []
        for place, device in enumerate(self.devices):
            with tf.device(device):
                found.append(tf.stack([part[place] for part in parts]))
        return found

    def _by_worker(self, parts: Sequence[Any]) -> Any:
        shape = [self.workers, 1, len(self.devices), *parts[0].shape[1:]]
        return tf.concat([tf.reshape(part, shape) for part in parts], axis=1)

    def _by_replica(self, got: Any, parts: Sequence[Any]) -> list[Any]:
        return [tf.reshape(got[:, :, i], part.shape) for i, part in enumerate(parts)]

    def exchange(self, parts: np.ndarray) -> np.ndarray:
        """What every worker has for this one, from ``parts`` [workers, ...], which go to each."""
        return parts if self._links is None else self._links.exchange(parts)

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of all workers' ``values`` [n], the same on all of them."""
        if self._links is None:
            return values
        nothing = np.empty((self.workers, 0), values.dtype)
        return self._links.exchange_and_total(nothing, values)[1]

    def gathered(self, values: np.ndarray) -> np.ndarray:
        """``values`` of every worker, [workers, ...], in blocks of 4 MiB at most."""
        found = np.empty((self.workers, *values.shape), values.dtype)
        self._gather(values, found)
        return found

    def lend(self, values: np.ndarray) -> None:
        """Take part in the others' ``gathered`` and keep nothing."""
        self._gather(values, None)

    def _gather(self, values: np.ndarray, found: np.ndarray | None) -> None:
        flat = np.ascontiguousarray(values).reshape(-1)
        size = max(1, _BLOCK_BYTES // flat.itemsize)
        kept = None if found is None else found.reshape(self.workers, len(flat))
        for first in range(0, len(flat), size):
            block = flat[first : first + size]
            each = self.exchange(np.broadcast_to(block, (self.workers, len(block))))
            if kept is not None:
                kept[:, first : first + size] = each


def _called(function: Callable[..., Any], *sent: Any) -> list[Any]:
    """What ``function`` gives for arrays, of the same shapes and types."""
    got: list[Any] = tf.numpy_function(function, sent, [tensor.dtype for tensor in sent])
    for tensor, given in zip(got, sent, strict=True):
        tensor.set_shape(given.shape)
    return got
