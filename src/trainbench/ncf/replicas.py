"""Several devices, here or on several machines, that train and evaluate one model.

Every replica has the whole model and sees the whole batch. It computes the gradients of its own
share of the samples; their mean over the replicas is the gradient of the whole batch, and every
replica applies the same update to its own copy. The mathematics is that of one device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from trainbench.distribution.cluster import Cluster
from trainbench.distribution.links import Links
from trainbench.errors import MachineError
from trainbench.ncf.model import Weights
from trainbench.ncf.sharded.wire import Wire
from trainbench.ncf.step import Step, sum_of_losses

MEAN = tf.distribute.ReduceOp.MEAN


@dataclass(frozen=True)
class Replicas:
    """Devices that share each batch; ``devices`` are those of this process.

    ``cluster`` and ``links``: of all processes, where there are several.
    ``scoped``: the strategy keeps one set of variables for all of them (a TPU's cores run one
    program); otherwise each device has a set of its own.
    """

    strategy: tf.distribute.Strategy
    devices: tuple[str, ...]
    cluster: Cluster | None = None
    links: Links | None = None
    scoped: bool = False

    @property
    def count(self) -> int:
        """How many replicas there are on all machines together."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def first(self) -> int:
        """The number, among all replicas, of this process's first."""
        return self.cluster.me.index * len(self.devices) if self.cluster else 0

    @property
    def label(self) -> str:
        """What the trial's record calls the device: ``2 x GPU`` or ``4 x GPU, 2 workers``."""
        kind = tf.DeviceSpec.from_string(self.devices[0]).device_type
        workers = f", {self.cluster.num_workers} workers" if self.cluster else ""
        return f"{self.count} x {kind}{workers}"

    def scope(self) -> AbstractContextManager[Any]:
        """Where work goes that belongs to no replica: the host."""
        host: AbstractContextManager[Any] = tf.device("CPU:0")
        return host

    def each(self, make: Callable[[], Any]) -> list[Any]:
        """What ``make`` gives on each device of this process; once where they are ``scoped``."""
        if self.scoped:
            with self.strategy.scope():
                return [make()]
        made = []
        for device in self.devices:
            with tf.device(device):
                made.append(make())
        return made

    def distribute(self, values: Sequence[Any]) -> Any:
        """One value (any nest of tensors) for each replica of this process, in order."""
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: values[self.place(int(context.replica_id_in_sync_group))]
        )

    def place(self, number: int) -> int:
        """Where replica ``number`` finds its own among what ``each`` made."""
        return 0 if self.scoped else number - self.first

    def local(self, value: Any) -> tuple[Any, ...]:
        """The values of this process's replicas in what ``strategy.run`` returned."""
        return tuple(self.strategy.experimental_local_results(value))

    @cached_property
    def wire(self) -> Wire:
        """What workers send each other beside the strategy's sums; divided tables send rows."""
        assert (self.cluster is None) == (self.links is None), "workers have links"
        return Wire(self.devices, self.links)

    def meet(self) -> None:
        """Return once every worker has come here."""
        self.wire.total(np.zeros(1, np.int32))

    def require_agreement(self, what: str, value: bytes) -> None:
        """Return when every worker has the same ``value``; it is also a barrier.

        Raises:
            MachineError: the workers differ, with who has what of the first bytes.
        """
        rows = self.wire.gathered(np.frombuffer(value, np.uint8).astype(np.int32))
        require_equal(what, [bytes(row.astype(np.uint8)) for row in rows])


class ReplicatedStep:
    """``Step`` on every replica: the same calls, the same numbers."""

    def __init__(self, replicas: Replicas, make: Callable[[], Step], *, xla: bool):
        self.replicas = replicas
        self.steps: list[Step] = replicas.each(make)
        self._parts = [_Part(step, replicas.count, xla=xla) for step in self.steps]
        # Of the gradients that a step sums over all replicas; known once it is traced.
        self.summed_bytes = 0
        self.run = tf.function(self._run, autograph=False)

    def tensors(self) -> dict[str, Any]:
        """The current parameters of the first replica by their names in ``weights.npz``."""
        return self.local_tensors()[0]

    def local_tensors(self) -> list[dict[str, Any]]:
        """The current parameters of each replica of this process."""
        found = []
        for device, step in zip(self.replicas.devices, self.steps, strict=True):
            with tf.device(device):
                found.append(step.tensors())
        return found

    def assign(self, weights: Weights) -> None:
        """Take ``weights`` as the current parameters; the moments stay."""
        for device, step in zip(self.replicas.devices, self.steps, strict=True):
            with tf.device(device):
                step.assign(weights)

    def count_from(self, step: int) -> None:
        """Take ``step`` as the number of steps done."""
        for part in self.steps:
            part.count_from(step)

    def _run(self, users: Any, items: Any, labels: Any, count: Any) -> Any:
        """Run the first ``count`` steps of [steps, batch] and return the sum of their losses."""
        # The loop is outside strategy.run: in a replica's own loop it could not meet the others.
        replicas = self.replicas

        def step(index: Any) -> Any:
            batch = (users[index], items[index], labels[index])
            return replicas.local(replicas.strategy.run(self._one_step, args=batch))[0]

        return sum_of_losses(count, step)

    def _one_step(self, users: Any, items: Any, labels: Any) -> Any:
        context = tf.distribute.get_replica_context()
        number = context.replica_id_in_sync_group
        if not self.replicas.scoped:
            number = int(tf.get_static_value(number))
        part = self._parts[self.replicas.place(number)]
        start, found = part.before(number, users, items, labels)
        self.summed_bytes = sum(
            t.shape.num_elements() * t.dtype.size for t in tf.nest.flatten(found)
        )
        loss, gradients = context.all_reduce(MEAN, found)
        part.after(start, users, items, gradients)
        return loss


class _Part:
    """One replica's work before and after the gradients meet, each compiled by itself."""

    def __init__(self, step: Step, count: int, *, xla: bool):
        self.step, self.count = step, count
        self.before = tf.function(self._before, jit_compile=xla, autograph=False)
        self.after = tf.function(self._after, jit_compile=xla, autograph=False)

    def _before(self, number: Any, users: Any, items: Any, labels: Any) -> Any:
        def own(tensor: Any) -> Any:
            batch, *rest = tensor.shape
            return tf.reshape(tensor, [self.count, batch // self.count, *rest])[number]

        start = self.step.begin((users, items))
        found = self.step.differentiate(start, (users, items), labels, own)
        return start, tf.nest.map_structure(tf.convert_to_tensor, found)

    def _after(self, start: Any, users: Any, items: Any, gradients: Any) -> None:
        self.step.finish(start, (users, items), gradients)


def require_equal(what: str, values: Sequence[bytes]) -> None:
    """A ``MachineError`` that says who has what unless all workers have the same value."""
    if len(set(values)) > 1:
        found = ", ".join(f"worker {i} {value.hex()[:12]}" for i, value in enumerate(values))
        raise MachineError(
            f"the workers differ in {what}: {found}; start all of them with the same code, "
            "dataset, settings and --seed"
        )
