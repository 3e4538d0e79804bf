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
        local, own = len(self.devices), range(len(self.devices))
        if self._links is None:
            found = []
            for place, device in enumerate(self.devices):
                with tf.device(device):
                    found.append(tf.stack([part[place] for part in parts]))
            return found
        with tf.device(_HOST):
            shape = parts[0].shape[1:]
            by_worker = [tf.reshape(part, [self.workers, local, *shape]) for part in parts]
            sent = by_worker[0][:, None] if local == 1 else tf.stack(by_worker, axis=1)
            got = _called(self._links.exchange, sent)
        if local == 1:
            return [tf.reshape(got, parts[0].shape)]
        return [tf.reshape(got[:, :, place], parts[0].shape) for place in own]

    def total(self, values: Sequence[Any], *, after: Sequence[Any]) -> Any:
        """In a graph: the sum of the local replicas' ``values`` and all others', on the host.

        Args:
            after: what the message before brought; two at a time would mix.
        """
        with tf.device(_HOST):
            mine = tf.add_n([tf.identity(value) for value in values])
            if self._links is None:
                return mine
            with tf.control_dependencies(after):
                return _called(self._links.total, mine)

    def exchange(self, parts: np.ndarray) -> np.ndarray:
        """What every worker has for this one, from ``parts`` [workers, ...], which go to each."""
        return parts if self._links is None else self._links.exchange(parts)

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


def _called(function: Callable[[np.ndarray], np.ndarray], sent: Any) -> Any:
    got = tf.numpy_function(function, [sent], sent.dtype)
    got.set_shape(sent.shape)
    return got
