"""Workers that are equals: how they meet, train together and part.

How long the others take to start is nobody's training time: a benchmark joins before its clock
starts.
"""

from __future__ import annotations

import contextlib
import faulthandler
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from trainbench.distribution.cluster import Cluster, Member
from trainbench.distribution.links import Links
from trainbench.distribution.liveness import Liveness, blame, first_line
from trainbench.errors import MachineError
from trainbench.progress import heartbeat

_CALLERS = 1_024
"""Calls that the system holds for a server that takes none yet: several of each other process."""

_LINGER_S = 0.2
"""The others' time to fetch the last of what they need from here: only their log is at stake."""


def join(
    watch: Liveness, *, gpus: int, options: Any = None, links: Links | None = None
) -> tf.distribute.Strategy:
    """The strategy of all workers, once each of them is there; ``watch`` looks on from then.

    TensorFlow must be configured and not yet running.

    Args:
        gpus: how many of this process are a replica each; with 0 the CPU is the only one.
        options: ``CommunicationOptions``; TensorFlow chooses where there are none.
        links: to be connected, where something is to go past TensorFlow.

    Raises:
        MachineError: this process cannot listen at its address, or another came with another
            cluster.
    """
    cluster = watch.cluster
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster.jobs()),
        task_type=cluster.me.job,
        task_id=cluster.me.index,
        num_accelerators={"GPU": gpus},
        rpc_layer=cluster.protocol,
    )
    with refusals_explained(cluster):
        # TensorFlow would wait without a word and without an end, and would let no thread of
        # Python run meanwhile: nothing here could say who is missing.
        with listening(cluster.me) as server:
            # Between this server and TensorFlow's, the others answer for a moment no more.
            watch.start(armed=False).wait()
            if links is not None:
                with heartbeat("connecting to the other workers"):
                    links.connect(server, timeout_s=watch.timeout_s)
        # Should one die in the moment that is left, this process ends where it stands.
        faulthandler.dump_traceback_later(watch.timeout_s, exit=True)
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy(
                cluster_resolver=resolver, communication_options=options
            )
        finally:
            faulthandler.cancel_dump_traceback_later()
    watch.arm()
    return strategy


@contextlib.contextmanager
def refusals_explained(cluster: Cluster) -> Iterator[None]:
    """Turn what TensorFlow or the system raises when processes meet into a ``MachineError``."""
    try:
        yield
    except (tf.errors.OpError, RuntimeError, OSError) as error:
        raise MachineError(
            f"{cluster.me}: cannot join the others ({first_line(error)}); is another process "
            "running on that port, and has every process the same addresses?"
        ) from None


@contextlib.contextmanager
def together(watch: Liveness, meet: Callable[[], object] | None = None) -> Iterator[None]:
    """The run itself; ``watch.lost`` is called when another process is lost in it.

    Args:
        meet: returns once every worker has called it; ``None`` where one process waits for none.
    """
    try:
        yield
        if meet is not None:
            _part(watch, meet)
    except (tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError):
        raise
    except tf.errors.OpError as error:
        watch.stop()
        watch.lost(blame(watch.cluster, error))
        raise
    finally:
        watch.stop()


def _part(watch: Liveness, meet: Callable[[], object]) -> None:
    # The first to end must not look lost to those that still write their files.
    meet()
    watch.stop()
    # Nor to one that is still fetching its part of that sum: who leaves the second has seen
    # everyone leave the first, and what fails in the second no longer matters.
    with contextlib.suppress(tf.errors.OpError):
        meet()
        time.sleep(_LINGER_S)


def listening(me: Member) -> socket.socket:
    """A server at this process's address that says no more than that it is there."""
    host, port = me.host_and_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server(("", port), family=family, backlog=_CALLERS)
