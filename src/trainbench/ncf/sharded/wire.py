"""What replicas send each other beside the strategy's sums: parts of equal size, all to all.

Between processes it is TensorFlow's all-to-all, one call for all devices of a process; between the
devices of one process it is a copy. Every process must make the same calls in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_GROUP = 7_018
_FIRST_INSTANCE = 1_000_000
_BLOCK_BYTES = 1 << 22
_HOST = "CPU:0"


class Wire:
    """Between ``workers`` processes, each with the same number of ``devices``."""

    def __init__(self, devices: Sequence[str], *, workers: int, index: int) -> None:
        self.devices, self.workers, self.index = tuple(devices), workers, index
        self.replicas = workers * len(self.devices)
        # TensorFlow knows a collective by its number, which belongs to one shape.
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._compiled: dict[tuple[Any, ...], Callable[[Any], Any]] = {}

    def swap(self, parts: Sequence[Any], *, what: str) -> list[Any]:
        """In a graph: what the replicas have for each local one, [replicas, ...] each.

        Args:
            parts: of each local replica, what it has for each replica: [replicas, ...].
            what: the name of this exchange; no other in the same loop has it.
        """
        local, own = len(self.devices), range(len(self.devices))
        if self.workers == 1:
            found = []
            for place, device in enumerate(self.devices):
                with tf.device(device):
                    found.append(tf.stack([part[place] for part in parts]))
            return found
        with tf.device(_HOST):
            shape = parts[0].shape[1:]
            by_worker = [tf.reshape(part, [self.workers, local, *shape]) for part in parts]
            sent = by_worker[0][:, None] if local == 1 else tf.stack(by_worker, axis=1)
            got = self._all_to_all(sent, what)
        if local == 1:
            return [tf.reshape(got, parts[0].shape)]
        return [tf.reshape(got[:, :, place], parts[0].shape) for place in own]

    def total(self, values: Sequence[Any], *, what: str) -> Any:
        """In a graph: the sum of the local replicas' ``values`` and all others', on the host."""
        with tf.device(_HOST):
            mine = tf.add_n([tf.identity(value) for value in values])
            if self.workers == 1:
                return mine
            return tf.raw_ops.CollectiveReduceV2(
                input=mine,
                group_size=self.workers,
                group_key=_GROUP,
                instance_key=self._number(what, mine),
                ordering_token=[],
                merge_op="Add",
                final_op="Id",
                communication_hint="auto",
            )

    def exchange(self, parts: np.ndarray, *, what: str) -> np.ndarray:
        """What every worker has for this one, from ``parts`` [workers, ...], which go to each."""
        if self.workers == 1:
            return parts
        key = (what, parts.dtype.str, parts.shape)
        if key not in self._compiled:
            self._compiled[key] = tf.function(
                lambda sent: self._all_to_all(sent, what), autograph=False
            )
        with tf.device(_HOST):
            return np.asarray(self._compiled[key](tf.constant(parts)))

    def gathered(self, values: np.ndarray, *, what: str) -> np.ndarray:
        """``values`` of every worker, [workers, ...], in blocks of 4 MiB at most."""
        found = np.empty((self.workers, *values.shape), values.dtype)
        self._gather(values, found, what)
        return found

    def lend(self, values: np.ndarray, *, what: str) -> None:
        """Take part in the others' ``gathered`` and keep nothing."""
        self._gather(values, None, what)

    def _gather(self, values: np.ndarray, found: np.ndarray | None, what: str) -> None:
        if self.workers == 1:
            if found is not None:
                found[0] = values
            return
        flat = np.ascontiguousarray(values).reshape(-1)
        size = max(1, _BLOCK_BYTES // flat.itemsize)
        kept = None if found is None else found.reshape(self.workers, len(flat))
        for first in range(0, len(flat), size):
            block = flat[first : first + size]
            each = self.exchange(np.broadcast_to(block, (self.workers, len(block))), what=what)
            if kept is not None:
                kept[:, first : first + size] = each

    def _all_to_all(self, sent: Any, what: str) -> Any:
        return tf.raw_ops.CollectiveAllToAllV2(
            input=sent,
            group_size=self.workers,
            group_key=_GROUP,
            instance_key=self._number(what, sent),
            ordering_token=[],
            communication_hint="auto",
        )

    def _number(self, what: str, tensor: Any) -> int:
        key = (what, tensor.dtype.name, tuple(tensor.shape))
        return self._numbers.setdefault(key, _FIRST_INSTANCE + len(self._numbers))
