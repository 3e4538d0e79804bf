"""Connections between all workers, over which arrays go past TensorFlow.

A message of TensorFlow's collectives takes half a millisecond, and 0.3 GB go over in a second; both
are time of the cores that train. A socket takes 0.01 ms and carries 2 GB/s (docs/multi_machine.md).

Each is made at the address of one of the two while TensorFlow is not yet there
(``connecting.py``). So there is no second set of ports.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainbench.distribution.cluster import Cluster
from trainbench.distribution.connecting import Connecting
from trainbench.distribution.liveness import LOST_AFTER_S, PROBE_INTERVAL_S, greets

Array = npt.NDArray[np.generic]

_KEEP_ALIVE_S = 60


class Links:
    """One worker's connections to each of the others.

    All workers make the same calls in the same order, with arrays of the same shapes. A call raises
    ``UnavailableError`` when another worker is gone or hangs.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.workers, self.index = cluster, cluster.num_workers, cluster.me.index
        self._sockets: dict[int, socket.socket] = {}

    def connect(self, server: socket.socket, *, timeout_s: float) -> None:
        """Connect to all others; returns when all workers have.

        Args:
            server: listens at this worker's address, as the others' do at theirs.

        Raises:
            ConnectionError: one did not connect within ``timeout_s``.
            MachineError: one is of another version or of other addresses.
        """
        connecting = Connecting(self.cluster, server, timeout_s=timeout_s)
        self._sockets = connecting.sockets
        with contextlib.ExitStack() as incomplete:
            incomplete.callback(self.close)
            for link in connecting.connected().values():
                _kept_alive(link)
            incomplete.pop_all()

    def exchange(self, sent: Array) -> Array:
        """What each worker has for this one: [workers, ...], as ``sent``, which goes to each."""
        got = np.empty(sent.shape, sent.dtype)
        got[self.index] = sent[self.index]
        outgoing, incoming = ({p: _bytes(a[p : p + 1]) for p in self._sockets} for a in (sent, got))
        while outgoing or incoming:
            moved = False
            for peer, link in self._sockets.items():
                moved |= self._moved(peer, outgoing, link.send)
                moved |= self._moved(peer, incoming, link.recv_into)
            if not moved:
                self._wait(outgoing, incoming)
        return got

    def total(self, values: Array) -> Array:
        """The sum of all workers' ``values`` [n]; every worker gets the same bits.

        Each sums a part in the order of the workers, and the others get it from there.
        """
        size = -(-len(values) // self.workers)
        parts = np.zeros((self.workers, size), values.dtype)
        parts.reshape(-1)[: len(values)] = values
        first, *others = self.exchange(parts)
        own = first.copy()
        for part in others:
            own += part
        return self.exchange(np.broadcast_to(own, parts.shape)).reshape(-1)[: len(values)]

    def close(self) -> None:
        """End all connections; the others notice at their next call."""
        for link in self._sockets.values():
            link.close()

    def _moved(
        self, peer: int, views: dict[int, memoryview], move: Callable[[memoryview], int]
    ) -> bool:
        """Whether ``move`` got some bytes of the peer's view over; what is left stays in it."""
        view = views.get(peer)
        if view is None:
            return False
        try:
            count = move(view)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._lost(peer, error.strerror) from None
        if count == 0:
            raise self._lost(peer, "the connection was closed")
        if count == len(view):
            del views[peer]
        else:
            views[peer] = view[count:]
        return True

    def _wait(self, outgoing: Iterable[int], incoming: Iterable[int]) -> None:
        """Return once something can go on."""
        poll, wanted = select.poll(), dict.fromkeys(outgoing, select.POLLOUT)
        for peer in incoming:
            wanted[peer] = wanted.get(peer, 0) | select.POLLIN
        for peer, events in wanted.items():
            poll.register(self._sockets[peer], events)
        while not poll.poll(1e3 * PROBE_INTERVAL_S):
            # It may be busy elsewhere. Only of one that hangs, not even TensorFlow answers.
            for peer in wanted:
                if not greets(self.cluster.members[peer], timeout_s=LOST_AFTER_S):
                    raise self._lost(peer, "it hangs")

    def _lost(self, peer: int, why: str | None) -> tf.errors.UnavailableError:
        return tf.errors.UnavailableError(None, None, f"{self.cluster.members[peer]}: {why}")


def _bytes(part: Array) -> memoryview:
    return np.ascontiguousarray(part).reshape(-1).view(np.uint8).data


def _kept_alive(link: socket.socket) -> None:
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Nothing goes over it while the model is evaluated, and a firewall forgets what is idle.
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_S)
