"""The other processes of a run, as the harness meets them: joined, held on to and let go."""

from __future__ import annotations

import contextlib
import faulthandler
import socket
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from trainbench.cnn.cluster import Cluster
from trainbench.cnn.distribution import server
from trainbench.cnn.distribution.coordinator import Coordinator
from trainbench.cnn.flags.params import Params
from trainbench.distribution.collectives import Collectives
from trainbench.distribution.liveness import Liveness, blame, end_process
from trainbench.errors import MachineError

_LINGER_S = 0.2
"""The others' time to fetch the last of what they need from here: only their log is at stake."""


class Membership:
    """This process among those of ``cluster``.

    Attributes:
        workers: the collectives, where workers are equals.
        coordinator: the devices of others, where this process drives them.
    """

    def __init__(self, cluster: Cluster, params: Params) -> None:
        self.cluster, self._params = cluster, params
        self.workers: Collectives | None = None
        self.coordinator: Coordinator | None = None
        self._server: Any = None
        self._watch = Liveness(cluster, timeout_s=params.cluster_timeout_s)

    def join(self) -> None:
        """Meet the others; TensorFlow must be configured and not yet running.

        Raises:
            MachineError: this process cannot listen at its address, or another came with
                another cluster.
        """
        if self.cluster.is_serving:
            return
        if self.cluster.is_driven and self.cluster.job == "worker":
            self._server = server.start(self.cluster, self._params)
        try:
            if self.cluster.is_driven:
                self._watch.start().wait()
                self.coordinator = Coordinator(self.cluster, self._params)
            else:
                self._meet()
                self.workers = Collectives(self.cluster, self._params)
                self._watch.arm()
        except (tf.errors.OpError, RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise MachineError(
                f"{self.cluster.me}: cannot join the others ({reason}); is another process running "
                "on that port, and has every process the same --worker_hosts?"
            ) from None
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _meet(self) -> None:
        """Wait until all workers are there: TensorFlow would, without a word and without an end.

        While it waits it lets no thread of Python run, so that no watch could say who is missing.
        Should one die in the moment that is left, the process ends where it stands.
        """
        port = int(self.cluster.me.address.rpartition(":")[2])
        with socket.create_server(("", port)):
            # Between this server and TensorFlow's, the others answer for a moment no more.
            self._watch.start(armed=False).wait()
        faulthandler.dump_traceback_later(self._params.cluster_timeout_s, exit=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The run itself; when another process is lost in it, this one ends with one line."""
        try:
            yield
            self._part()
        except (tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError):
            raise
        except tf.errors.OpError as error:
            end_process(blame(self.cluster, error))
        finally:
            if self.coordinator is not None:
                server.dismiss(self.cluster)

    def serve(self) -> None:
        """Lend the devices of this process until the run has ended."""
        server.serve(self.cluster, self._params)

    def devices(self, printed: list[str], used: list[str]) -> tuple[list[str], list[str]]:
        """The devices as they are printed and as they are used, of all processes computed on."""
        if self.coordinator is not None:
            used = self.coordinator.devices
            return (printed if self.coordinator.cluster_coordinator else used), used
        task = f"/job:{self.cluster.job}/replica:0/task:{self.cluster.index}"
        return [task + name for name in printed], used

    def share(self, variables: Any, number: int) -> int:
        """Give ``variables`` and ``number`` of the process that can read files to all others."""
        if self.workers is None:
            return number
        return self.workers.from_first(variables, number)

    def _part(self) -> None:
        if self.workers is not None:
            # The first to end must not look lost to those that still write their files.
            self.workers.meet()
            self._watch.stop()
            # Nor to one that is still fetching its part of that sum: who leaves the second has
            # seen everyone leave the first, and what fails in the second no longer matters.
            with contextlib.suppress(tf.errors.OpError):
                self.workers.meet()
                time.sleep(_LINGER_S)
        self._watch.stop()
