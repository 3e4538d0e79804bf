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
import struct
import time
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainbench.distribution.cluster import Cluster
from trainbench.distribution.connecting import Connecting
from trainbench.distribution.liveness import LOST_AFTER_S, PROBE_INTERVAL_S, greets

Array = npt.NDArray[np.generic]

_FRAME = struct.Struct("!QQ")
"""Before a message: its number, from 1, and the bytes that follow."""

_ALIGNED = 64

_KEEP_ALIVE_S = 60

_AWAKE_S = 60e-6
"""A wait begins by looking again and again: being woken takes time, and the core is idle."""


class Links:
    """One worker's connections to each of the others.

    All workers make the same calls in the same order, with arrays of the same shapes. A call raises
    ``UnavailableError`` when another worker is gone, hangs or sends another message.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.workers, self.index = cluster, cluster.num_workers, cluster.me.index
        self._sockets: dict[int, socket.socket] = {}
        self._messages = 0

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
        got = _room(sent)
        self._swap((sent, got))
        return got

    def exchange_and_total(self, sent: Array, values: Array) -> tuple[Array, Array]:
        """``exchange`` of ``sent``, and the sum of all workers' ``values`` [n], in one message.

        Every worker gets the same bits of the sum, which is taken in the order of the workers: each
        sums a part, and the others get it from there. Two send each other all, which is as much.
        """
        parts = self._parts(values)
        got, others = _room(sent), _room(parts)
        self._swap((sent, got), (parts, others))
        own = others[0]
        for part in others[1:]:
            own += part
        if self.workers > 2:
            own = self.exchange(np.broadcast_to(own, parts.shape)).reshape(-1)
        return got, own[: len(values)]

    def _parts(self, values: Array) -> Array:
        """What each worker sums of ``values``: [workers, numbers]."""
        if self.workers <= 2:
            return np.broadcast_to(values, (self.workers, len(values)))
        size = -(-len(values) // self.workers)
        padded = np.pad(values, (0, self.workers * size - len(values)))
        return padded.reshape(self.workers, size)

    def _swap(self, *pairs: tuple[Array, Array]) -> None:
        """Fill the second array of each pair, [workers, ...], from the others' first ones."""
        self._messages += 1
        frame = _FRAME.pack(self._messages, sum(sent.nbytes for sent, _ in pairs) // self.workers)
        heads = {peer: bytearray(_FRAME.size) for peer in self._sockets}
        outgoing = {p: [memoryview(frame)] for p in heads}
        incoming = {p: [memoryview(head)] for p, head in heads.items()}
        for sent, got in pairs:
            got[self.index] = sent[self.index]
            for peer in heads:
                outgoing[peer].append(_bytes(sent[peer : peer + 1]))
                incoming[peer].append(_bytes(got[peer : peer + 1]))
        while outgoing or incoming:
            moved = False
            for peer, link in self._sockets.items():
                moved |= self._moved(peer, outgoing, link.sendmsg)
                if self._moved(peer, incoming, partial(_received_into, link)):
                    moved = True
                    whole = len(incoming.get(peer, ())) <= len(pairs)
                    if whole and heads[peer] != frame:
                        raise self._lost(peer, _differing(heads[peer], frame))
            if not moved:
                self._wait(outgoing, incoming)

    def close(self) -> None:
        """End all connections; the others notice at their next call."""
        for link in self._sockets.values():
            link.close()

    def _moved(
        self,
        peer: int,
        views: dict[int, list[memoryview]],
        move: Callable[[list[memoryview]], int],
    ) -> bool:
        """Whether ``move`` got some bytes of the peer's views over; what is left stays in them."""
        left = views.get(peer)
        if left is None:
            return False
        try:
            count = move(left)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._lost(peer, error.strerror) from None
        if count == 0:
            raise self._lost(peer, "the connection was closed")
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if left:
            left[0] = left[0][count:]
        else:
            del views[peer]
        return True

    def _wait(self, outgoing: Iterable[int], incoming: Iterable[int]) -> None:
        """Return once something can go on."""
        poll, wanted = select.poll(), dict.fromkeys(outgoing, select.POLLOUT)
        for peer in incoming:
            wanted[peer] = wanted.get(peer, 0) | select.POLLIN
        for peer, events in wanted.items():
            poll.register(self._sockets[peer], events)
        asleep_from = time.perf_counter() + _AWAKE_S
        while time.perf_counter() < asleep_from:
            if poll.poll(0):
                return
        while not poll.poll(1e3 * PROBE_INTERVAL_S):
            # It may be busy elsewhere. Only of one that hangs, not even TensorFlow answers.
            for peer in wanted:
                if not greets(self.cluster.members[peer], timeout_s=LOST_AFTER_S):
                    raise self._lost(peer, "it hangs")

    def _lost(self, peer: int, why: str | None) -> tf.errors.UnavailableError:
        return tf.errors.UnavailableError(None, None, f"{self.cluster.members[peer]}: {why}")


def _room(like: Array) -> Array:
    """An array for what is received; TensorFlow takes one that begins so without a copy."""
    room = np.empty(like.nbytes + _ALIGNED, np.uint8)
    start = -room.ctypes.data % _ALIGNED
    return room[start : start + like.nbytes].view(like.dtype).reshape(like.shape)


def _received_into(link: socket.socket, views: list[memoryview]) -> int:
    return link.recvmsg_into(views)[0]


def _differing(found: bytes | bytearray, wanted: bytes) -> str:
    said, own = (_FRAME.unpack(frame) for frame in (found, wanted))
    return (
        f"it sent message {said[0]} of {said[1]} bytes, wanted message {own[0]} of {own[1]} bytes"
    )


def _bytes(part: Array) -> memoryview:
    return np.ascontiguousarray(part).reshape(-1).view(np.uint8).data


def _kept_alive(link: socket.socket) -> None:
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Nothing goes over it while the model is evaluated, and a firewall forgets what is idle.
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_S)
