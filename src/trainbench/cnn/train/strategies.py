"""Who shares gradients with whom: how many copies of the variables, and what each copy applies.

    parameter_server   one copy, the mean of the devices' gradients
    replicated         a copy on each device, the sum of the devices' gradients
    independent        a copy on each device, its own gradients

With one process, distributed_all_reduce and collective_all_reduce are replicated. With several:

    distributed_replicated   a copy on each device; the mean of each worker's gradients, applied one
                             worker after the other
    collective_all_reduce    a copy on each device, the sum of all workers' gradients
    distributed_all_reduce   the same, on devices that a coordinator runs
    parameter_server         one copy on the servers; each worker applies the mean of its own
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from trainbench.cnn.flags.params import Params
from trainbench.cnn.train import reduce_spec
from trainbench.distribution.collectives import Collectives

APPLYING_EACH = ("parameter_server", "distributed_replicated")
"""Updates where, of several workers, each has its own gradients applied."""

Gradients = list[Any]
"""One tensor for each trainable variable."""


@dataclass
class Strategy:
    """How the gradients of ``devices`` become the gradients that each copy applies."""

    params: Params
    devices: tuple[str, ...]
    reduction: str
    workers: Collectives | None = None
    _previous: list[Any] = field(default_factory=list)

    @classmethod
    def of(
        cls, params: Params, devices: Sequence[str], workers: Collectives | None = None
    ) -> Strategy:
        """The strategy that ``--variable_update`` names, among ``workers`` that are equals."""
        reductions = {
            "parameter_server": "mean",
            "distributed_replicated": "mean",
            "independent": "none",
        }
        reduction = reductions.get(params.variable_update, "sum")
        return cls(params, tuple(devices), reduction, workers)

    @property
    def _has_one_copy(self) -> bool:
        return bool(self.params.variable_update == "parameter_server")

    @property
    def copy_devices(self) -> tuple[str, ...]:
        """Where each copy of the variables lives."""
        if not self._has_one_copy:
            return self.devices
        on_cpu = self.params.local_parameter_device.lower() == "cpu"
        return ("/cpu:0",) if on_cpu else self.devices[:1]

    def copy_of(self, tower: int) -> int:
        """The copy that device ``tower`` reads."""
        return 0 if self._has_one_copy else tower

    def combine(self, towers: Sequence[Gradients]) -> list[Gradients]:
        """Gradients of each copy from the gradients of each device.

        Called while the step is traced; with relaxed consistency it makes variables on its first
        call and returns the sums of the step before, zeros at first.
        """
        if self.reduction == "none":
            return [list(tower) for tower in towers]
        if self.reduction == "mean":
            with tf.device(self.copy_devices[0]):
                means = [_sum(parts) for parts in zip(*towers, strict=True)]
                if len(towers) > 1:
                    means = [total / len(towers) for total in means]
            return [means for _ in self.copy_devices]
        sums = self._all_reduced(towers)
        if self.params.variable_consistency == "relaxed":
            sums = self._delayed(sums)
        return [sums for _ in self.devices]

    def turns(self, combined: list[Gradients]) -> list[list[Gradients]]:
        """What the copies apply one after the other: gradients of each copy, for each turn."""
        if self.workers is None or self.params.variable_update != "distributed_replicated":
            return [combined]
        return [[own for _ in combined] for own in self.workers.each(combined[0])]

    def _all_reduced(self, towers: Sequence[Gradients]) -> Gradients:
        like = towers[0]
        packed = [self._packed(tower) for tower in towers]
        sums = []
        for index, parts in enumerate(zip(*packed, strict=True)):
            with tf.device(self._sum_device(index, parts[0])):
                sums.append(_sum(parts))
        if self.workers is not None:
            sums = self.workers.sum(sums)
        return self._unpacked(sums, like)

    def _sum_device(self, index: int, part: Any) -> str:
        """Where a sum is formed: on the host, or in turn on each device."""
        spec = self.params.all_reduce_spec
        if spec:
            size = part.shape.num_elements()
            ranges = reduce_spec.parse(spec)
            chosen = next(r for r in ranges if r.limit < 0 or size <= r.limit)
            if chosen.algorithm.endswith("pscpu"):
                return "/cpu:0"
        return self.devices[index % len(self.devices)]

    def _packed(self, gradients: Gradients) -> Gradients:
        if self.params.use_fp16 and self.params.compact_gradient_transfer:
            gradients = [tf.cast(gradient, tf.float16) for gradient in gradients]
        if self.params.gradient_repacking:
            flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0)
            sizes = _even_sizes(flat.shape[0], self.params.gradient_repacking)
            return list(tf.split(flat, sizes))
        groups = self._groups(gradients)
        return [_joined([gradients[i] for i in group]) for group in groups]

    def _unpacked(self, sums: Gradients, like: Gradients) -> Gradients:
        if self.params.gradient_repacking:
            sums, groups = [tf.concat(sums, 0)], [list(range(len(like)))]
        else:
            groups = self._groups(like)
        whole: dict[int, Any] = {}
        for total, group in zip(sums, groups, strict=True):
            sizes = [like[i].shape.num_elements() for i in group]
            parts = tf.split(tf.reshape(total, [-1]), sizes)
            for i, part in zip(group, parts, strict=True):
                whole[i] = tf.cast(tf.reshape(part, like[i].shape), like[i].dtype)
        return [whole[i] for i in range(len(like))]

    def _groups(self, gradients: Gradients) -> list[list[int]]:
        return reduce_spec.packs(
            [gradient.shape.num_elements() for gradient in gradients],
            max_bytes=self.params.agg_small_grads_max_bytes,
            max_group=self.params.agg_small_grads_max_group,
        )

    def _delayed(self, sums: Gradients) -> Gradients:
        if not self._previous:
            with tf.init_scope():
                self._previous = [
                    tf.Variable(tf.zeros(s.shape, s.dtype), trainable=False) for s in sums
                ]
        before = [tf.identity(previous) for previous in self._previous]
        with tf.control_dependencies(before):
            for previous, total in zip(self._previous, sums, strict=True):
                previous.assign(total)
        return before


def _sum(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tf.add_n(list(parts))


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tf.concat([tf.reshape(p, [-1]) for p in parts], 0)


def _even_sizes(total: int, count: int) -> list[int]:
    """``count`` sizes that add up to ``total`` and differ by one at most."""
    return [total // count + (i < total % count) for i in range(count)]
