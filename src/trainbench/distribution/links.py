"""Connections between all workers, over which arrays go past TensorFlow.

A message of TensorFlow's collectives takes half a millisecond, and 0.3 GB go over in a second; both
are time of the cores that train. A socket takes 0.01 ms and carries 2 GB/s (docs/multi_machine.md).

Each connection is made at the address of one of the two while TensorFlow is not yet there. So there
is no second set of ports.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainbench import __version__
from trainbench.distribution.cluster import Cluster, Member
from trainbench.distribution.liveness import LOST_AFTER_S, PROBE_INTERVAL_S, greets

Array = npt.NDArray[np.generic]

_HELLO = struct.Struct("!16s32sHH")
_NAME = b"trainbench links"
_HELLO_S = 5.0
"""A caller that has not said who it is for so long is no worker."""

_KEEP_ALIVE_S = 60

_AGAIN_S = 0.2


class Links:
    """One worker's connections to each of the others.

    All workers make the same calls in the same order, with arrays of the same shapes. A call raises
    ``UnavailableError`` when another worker is gone or hangs.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.workers, self.index = cluster, cluster.num_workers, cluster.me.index
        self._sockets: dict[int, socket.socket] = {}

    def connect(self, server: socket.socket, *, timeout_s: float) -> None:
        """Call the workers before this one, and take the calls of those after it.

        Args:
            server: listens at this worker's address, as the others' do at theirs.

        Raises:
            OSError: one did not answer, or did not call within ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        with contextlib.ExitStack() as incomplete:
            incomplete.callback(self.close)
            try:
                self._connect_all(server, deadline)
            except TimeoutError:
                known = {self.index, *self._sockets}
                missing = (str(m) for m in self.cluster.members if m.index not in known)
                raise ConnectionError(
                    f"no connection to {', '.join(missing)} in {timeout_s:g} s"
                ) from None
            incomplete.pop_all()

    def _connect_all(self, server: socket.socket, deadline: float) -> None:
        for member in self.cluster.members[: self.index]:
            self._keep(member.index, self._called(member, deadline))
        while len(self._sockets) < self.workers - 1:
            server.settimeout(_left(deadline))
            self._take(server.accept()[0], deadline)

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

    def _hello(self, index: int) -> bytes:
        return _HELLO.pack(_NAME, __version__.encode(), self.workers, index)

    def _called(self, member: Member, deadline: float) -> socket.socket:
        """A connection to ``member``, which may have to leave its run of before first."""
        while True:
            try:
                link = socket.create_connection(member.host_and_port, timeout=_left(deadline))
                with contextlib.ExitStack() as refused:
                    refused.callback(link.close)
                    link.sendall(self._hello(self.index))
                    if _received(link, _HELLO.size, deadline) != self._hello(member.index):
                        raise ConnectionError(
                            f"{member} is no worker of this run and of trainbench {__version__}"
                        )
                    refused.pop_all()
                    return link
            except OSError:
                if time.monotonic() + _AGAIN_S > deadline:
                    raise
            time.sleep(_AGAIN_S)

    def _take(self, link: socket.socket, deadline: float) -> None:
        """Keep ``link`` if a worker is at its other end; others only look who is there."""
        try:
            said = _received(link, _HELLO.size, min(deadline, time.monotonic() + _HELLO_S))
            index = _HELLO.unpack(said)[-1]
            if said != self._hello(index) or not self.index < index < self.workers:
                raise ConnectionError("a stranger")
            link.sendall(self._hello(self.index))
        except OSError:
            link.close()
            return
        self._keep(index, link)

    def _keep(self, index: int, link: socket.socket) -> None:
        """Keep the connection to a worker; one that calls again was started again."""
        if index in self._sockets:
            self._sockets[index].close()
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Nothing goes over it while the model is evaluated, and a firewall forgets what is idle.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_S)
        link.setblocking(False)
        self._sockets[index] = link

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


def _left(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())


def _received(link: socket.socket, size: int, deadline: float) -> bytes:
    found = b""
    while len(found) < size:
        link.settimeout(_left(deadline))
        more = link.recv(size - len(found))
        if not more:
            raise ConnectionError("the connection was closed")
        found += more
    return found
