"""The process that computes on the devices of others.

distributed_all_reduce   one program over the devices of all workers, as if they were its own
parameter_server         the variables lie on the servers; each worker runs the step by itself
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from trainbench.cnn.cluster import with_chief
from trainbench.cnn.flags.params import Params
from trainbench.cnn.input.batches import Batch, Batches, Source, is_synthetic
from trainbench.cnn.input.synthetic import LABELS_AT_ONCE
from trainbench.cnn.train.executor import Executor, compiled
from trainbench.cnn.train.network import Copy
from trainbench.cnn.train.step import Step
from trainbench.distribution.cluster import Cluster
from trainbench.machine import allotment


class Coordinator:
    """The devices that this process computes on; all others must be listening.

    Attributes:
        cluster_coordinator: gives steps to workers; ``None`` with distributed_all_reduce.
    """

    def __init__(self, cluster: Cluster, params: Params) -> None:
        self._cluster, self._params = cluster, params
        self.cluster_coordinator: Any = None
        # Fewer threads than peers could all be waiting for one another.
        wanted = threads_wanted(cluster, params)
        if wanted:
            tf.config.threading.set_inter_op_parallelism_threads(wanted)
        spec = tf.train.ClusterSpec(with_chief(cluster))
        if params.variable_update == "distributed_all_reduce":
            tf.config.experimental_connect_to_cluster(
                spec, job_name="chief", task_index=0, protocol=cluster.protocol
            )
            return
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            spec, task_type="chief", task_id=0, rpc_layer=cluster.protocol
        )
        strategy = tf.distribute.ParameterServerStrategy(resolver)
        self.cluster_coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)

    @property
    def devices(self) -> list[str]:
        """Names of the devices of all workers, worker by worker; or, as each worker calls them."""
        kind = "gpu" if self._has_gpus() else "cpu"
        own = [f"/{kind}:{i}" for i in range(self._params.num_gpus)]
        if self.cluster_coordinator is not None:
            return own
        workers = range(self._cluster.num_workers)
        return [f"/job:worker/replica:0/task:{task}{name}" for task in workers for name in own]

    def batches(self, source: Source) -> Any:
        """Batches for every worker, each from its own place in the data."""
        workers, count, devices = self._cluster.num_workers, self._params.num_gpus, self.devices
        if self.cluster_coordinator is None:
            each = [devices[i * count : (i + 1) * count] for i in range(workers)]
        elif is_synthetic(source.dataset):
            images = source.open(self._params)
            return SyntheticBatches(self.cluster_coordinator, images, workers)
        else:
            each = [devices] * workers
        sources = [
            Batches(source, self._params.replace(job_name="worker", task_index=index), own)
            for index, own in enumerate(each)
        ]
        return BatchesOfWorkers(sources, apart=self.cluster_coordinator is not None)

    def place(self, copy: Copy) -> Copy:
        """``copy`` with each variable on the server that holds the fewest bytes so far."""
        if self.cluster_coordinator is None:
            return copy
        tasks = range(len(self._cluster.jobs()["ps"]))
        held = {f"/job:ps/replica:0/task:{task}/device:CPU:0": 0 for task in tasks}

        def moved(variable: Any) -> Any:
            server = min(held, key=held.__getitem__)
            held[server] += variable.shape.num_elements() * variable.dtype.size
            with tf.device(server):
                return tf.Variable(
                    variable.numpy(), trainable=variable.trainable, name=variable.name
                )

        # Operations that belong to no variable run on the worker that takes the step.
        return Copy("/cpu:0", [moved(v) for v in copy.trainable], [moved(v) for v in copy.state])

    def executor(self, step: Step) -> Executor:
        """What runs ``step``: one program for all workers, or rounds in which each runs it."""
        if self.cluster_coordinator is None:
            return Executor.of(step)
        towers, waits = len(step.strategy.devices), self._params.cross_replica_sync
        return Executor.of(
            step, partial(Scheduled, self.cluster_coordinator, towers=towers, waits=waits)
        )

    def settle(self) -> None:
        """Wait for the steps that workers are still at."""
        if self.cluster_coordinator is not None:
            self.cluster_coordinator.join()

    def _has_gpus(self) -> bool:
        wanted = self._params.device.lower() == "gpu"
        return wanted and any("job:worker" in d.name for d in tf.config.list_logical_devices("GPU"))


class BatchesOfWorkers:
    """The batches of all workers as one input.

    Args:
        apart: one list of batches for each worker, instead of one for all.
    """

    def __init__(self, sources: Sequence[Batches], *, apart: bool) -> None:
        self._sources, self._apart = sources, apart

    def next(self) -> list[Any]:
        """One batch for each device of each worker."""
        each = [batches.next() for batches in self._sources]
        return each if self._apart else [batch for batches in each for batch in batches]


class SyntheticBatches:
    """Synthetic images that every worker makes for itself, so that none cross the network."""

    def __init__(self, coordinator: Any, source: Iterator[Batch], workers: int) -> None:
        images, labels = _drawn(source)

        def made() -> tf.data.Dataset:
            same = tf.data.Dataset.from_tensors(images).repeat()
            return tf.data.Dataset.zip((same, tf.data.Dataset.from_tensor_slices(labels).repeat()))

        self._iterator = iter(coordinator.create_per_worker_dataset(made))
        self._workers = workers

    def next(self) -> list[Any]:
        """The iterator of the images, for each worker."""
        return [self._iterator] * self._workers


class Scheduled:
    """A function of a step, run by every worker on its own batches.

    Args:
        towers: devices of a worker.
        waits: for all workers before it returns; otherwise they are one round ahead of what it
            returns, and none waits for another.
    """

    def __init__(
        self, coordinator: Any, function: Callable[..., Any], *, towers: int, waits: bool
    ) -> None:
        def run(batches: Any, *rest: Any) -> Any:
            is_iterator = not isinstance(batches, list | tuple)
            return function([next(batches)] * towers if is_iterator else batches, *rest)

        self._coordinator, self._function = coordinator, compiled(run)
        self._ahead = 0 if waits else 1
        self._rounds: collections.deque[list[Any]] = collections.deque()

    def __call__(self, batches: Sequence[Any], *rest: Any) -> Any:
        """The mean of the workers' numbers; gradients, where there are any, of the first."""
        schedule = self._coordinator.schedule
        self._rounds.append([schedule(self._function, args=(each, *rest)) for each in batches])
        done = self._rounds[0]
        if len(self._rounds) > self._ahead:
            self._rounds.popleft()
        results = [value.fetch() for value in done]
        if isinstance(results[0], dict):
            return _mean(results)
        return _mean([numbers for numbers, _ in results]), results[0][1]


def _mean(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(r[name] for r in results) / len(results) for name in results[0]}


def _drawn(source: Iterator[Batch]) -> tuple[Any, Any]:
    images, first = next(source)
    labels = [first, *(next(source)[1] for _ in range(LABELS_AT_ONCE - 1))]
    return images.numpy(), tf.stack(labels).numpy()


def threads_wanted(cluster: Cluster, params: Params) -> int:
    """Operations that must be able to run at a time; 0 where TensorFlow's own number does."""
    least, cores = cluster.num_workers + 2, allotment.cpus()
    if params.num_inter_threads:
        return max(int(params.num_inter_threads), least)
    return 0 if cores >= least else least
