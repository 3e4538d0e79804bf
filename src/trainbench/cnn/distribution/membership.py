"""The other processes of a run, as the harness meets them: joined, held on to and let go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from trainbench.cnn.cluster import is_coordinated
from trainbench.cnn.distribution import server
from trainbench.cnn.distribution.coordinator import Coordinator
from trainbench.cnn.flags.params import Params
from trainbench.distribution.cluster import Cluster, past_proxies
from trainbench.distribution.collectives import Collectives
from trainbench.distribution.join import join, refusals_explained, together
from trainbench.distribution.liveness import Liveness


class Membership:
    """This process among those of ``cluster``.

    Attributes:
        workers: the collectives, where workers are equals.
        coordinator: the devices of others, where this process coordinates them.
        images_per_s: of the whole run, once it is known; processes that serve print it, too.
    """

    def __init__(self, cluster: Cluster, params: Params) -> None:
        self.cluster, self._params = cluster, params
        self.workers: Collectives | None = None
        self.coordinator: Coordinator | None = None
        self.images_per_s: float | None = None
        self._server: Any = None
        self._watch = server.watch(cluster, params)
        # The command did it before TensorFlow was imported; a caller of the library did not.
        os.environ.update(past_proxies(cluster, os.environ))

    def join(self) -> None:
        """Meet the others; TensorFlow must be configured and not yet running.

        Raises:
            MachineError: this process cannot listen at its address, or another came with
                another cluster.
        """
        if self.cluster.is_serving:
            return
        if not is_coordinated(self._params):
            self.workers = _collectives(self._watch, self._params)
            return
        if self.cluster.me.job == "worker":
            self._server = server.start(self.cluster, self._params)
        self._watch.start().wait()
        with refusals_explained(self.cluster):
            self.coordinator = Coordinator(self.cluster, self._params)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The run itself; when another process is lost in it, this one ends with one line."""
        with contextlib.ExitStack() as stack:
            if self.coordinator is not None:
                stack.callback(lambda: server.dismiss(self.cluster, self.images_per_s))
            meet = self.workers.meet if self.workers else None
            stack.enter_context(together(self._watch, meet))
            yield

    def devices(self, printed: list[str], used: list[str]) -> tuple[list[str], list[str]]:
        """The devices as they are printed and as they are used, of all processes computed on."""
        if self.coordinator is not None:
            used = self.coordinator.devices
            return (printed if self.coordinator.cluster_coordinator else used), used
        task = f"/job:{self.cluster.me.job}/replica:0/task:{self.cluster.me.index}"
        return [task + name for name in printed], used


def _collectives(watch: Liveness, params: Params) -> Collectives:
    """The collectives of all workers, once each of them is there.

    Each is one replica, whatever devices it computes on: it combines the gradients of its own
    devices first, so that only one copy crosses the network. More GPUs would be as many replicas,
    each with a step of its own.
    """
    on_gpu = params.device.lower() == "gpu"
    gpus = len(tf.config.list_physical_devices("GPU")) if on_gpu else 0
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=_implementation(params.all_reduce_spec or "", gpus)
    )
    strategy = join(watch, gpus=min(gpus, 1), options=options)
    cluster = watch.cluster
    return Collectives(strategy, options, count=cluster.num_workers, index=cluster.me.index)


def _implementation(spec: str, gpus: int) -> Any:
    """NCCL on GPUs where the specification says so, a ring over the network otherwise."""
    kinds = tf.distribute.experimental.CommunicationImplementation
    if gpus and "nccl" in spec:
        return kinds.NCCL
    return kinds.AUTO if gpus else kinds.RING
