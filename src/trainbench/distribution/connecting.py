"""How workers connect to each other, and agree that all have before any goes on.

Each calls the workers before it and takes the calls of those after it. Who is connected to all says
so to all, and goes on when all have said it. So one that dies or hangs meanwhile is named, one that
is started again takes its place, and what makes a run impossible ends all workers at once.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time

from trainbench import __version__
from trainbench.distribution.cluster import Cluster, Member
from trainbench.errors import MachineError

_HELLO = struct.Struct("!16s32sHH")
"""A name, the version, how many workers there are and which one this is: in all versions so."""
_NAME = b"trainbench links"
_READY, _ENDS, _ASKED, _HERE = b"r", b"x", b"?", b"!"
"""What is said over a connection then: that this worker has them all; that it ends, and why;
whether the other is there, which is asked where another one calls with its number, and the answer.
"""

_HELLO_S = 5.0
"""A caller that has not said who it is for so long is no worker."""
_AGAIN_S = 0.2
_LAST_WORDS_S = 3.0
"""So long who ends tells it to those who call, and who waits for no call of its own hears it."""
_TEXT_BYTES = 400


class Connecting:
    """One worker while it connects to all others.

    Args:
        server: listens at this worker's address, as the others' do at theirs.
    """

    def __init__(
        self,
        cluster: Cluster,
        server: socket.socket,
        *,
        timeout_s: float,
        version: str = __version__,
    ) -> None:
        self.cluster, self.index, self.workers = cluster, cluster.me.index, cluster.num_workers
        self.sockets: dict[int, socket.socket] = {}
        self._server, self._timeout_s, self._version = server, timeout_s, version
        self._deadline = time.monotonic() + timeout_s
        self._told: set[socket.socket] = set()
        self._ready: set[socket.socket] = set()
        # Who called with the number of one that may still be there, and until when that one has to
        # say so.
        self._rivals: dict[int, tuple[socket.socket, float]] = {}
        self._why = ""

    def connected(self) -> dict[int, socket.socket]:
        """A connection to each other worker, by its number, once all workers have theirs.

        Raises:
            ConnectionError: one did not connect in time. MachineError: one is of another version or
                other addresses, or ends because of such a one.
        """
        try:
            while not self._is_done():
                for member in self.cluster.members[: self.index]:
                    if member.index not in self.sockets:
                        self._call(member)
                self._tell()
                if not self._is_done():
                    self._hear()
        except (MachineError, ConnectionError) as error:
            self._end(str(error))
            raise
        return self.sockets

    @property
    def _hello(self) -> bytes:
        return hello(self.cluster, self._version)

    def _is_complete(self) -> bool:
        return len(self.sockets) == self.workers - 1

    def _is_done(self) -> bool:
        links = set(self.sockets.values())
        return self._is_complete() and links <= self._told and links <= self._ready

    def _call(self, member: Member) -> None:
        """Try to get a connection to ``member``, which may have to leave an earlier run first."""
        with contextlib.ExitStack() as refused:
            try:
                left = _left(self._deadline)
                link = socket.create_connection(member.host_and_port, timeout=left)
                refused.callback(link.close)
                link.sendall(self._hello)
                said = received(link, _HELLO.size, self._deadline)
            except OSError as error:
                self._why = "" if isinstance(error, TimeoutError) else str(error)
                return
            if said[: len(_NAME)] != _NAME:
                self._why = f"{member} is no worker of this run"
                return
            self._require_same(link, said, member.index)
            refused.pop_all()
            self._keep(member.index, link)

    def _take(self, link: socket.socket) -> None:
        """Keep ``link`` if a worker is at its other end; others only look who is there."""
        with contextlib.ExitStack() as refused:
            refused.callback(link.close)
            try:
                end = min(self._deadline, time.monotonic() + _HELLO_S)
                said = received(link, _HELLO.size, end)
                if said[: len(_NAME)] != _NAME:
                    return
                link.sendall(self._hello)
            except OSError:
                return
            index = _HELLO.unpack(said)[-1]
            self._require_same(link, said, index)
            if not self.index < index < self.workers:
                raise _told(
                    link,
                    f"{self.cluster.me}: {link.getpeername()[0]} calls as worker {index}, which is "
                    "no worker after this one; give all the same addresses in the same order, and "
                    "each a number of its own",
                )
            refused.pop_all()
            self._keep_or_ask(index, link)

    def _require_same(self, link: socket.socket, said: bytes, index: int) -> None:
        """Raise a ``MachineError`` unless the worker that ``said`` hello is one of this run."""
        _, version, workers, found = _HELLO.unpack(said)
        there = f"trainbench {version.rstrip(bytes(1)).decode(errors='replace')}, {workers} workers"
        here = f"trainbench {self._version}, {self.workers} workers"
        if there != here or found != index:
            there += f", number {found}" * (found != index)
            raise _told(
                link,
                f"worker {index} is of another run: {there}; {self.cluster.me} is of {here}; start "
                "all with the same version and the same addresses",
            )

    def _keep_or_ask(self, index: int, link: socket.socket) -> None:
        """Keep the connection to a worker; one that calls again was started again.

        Or there are two: the first is asked.
        """
        try:
            if index in self.sockets:
                self.sockets[index].send(_ASKED)
                if index in self._rivals:
                    self._rivals[index][0].close()
                self._rivals[index] = (link, time.monotonic() + _LAST_WORDS_S)
                return
        except OSError:
            pass
        self._keep(index, link)

    def _keep(self, index: int, link: socket.socket) -> None:
        if index in self.sockets:
            self.sockets.pop(index).close()
        link.setblocking(False)
        self.sockets[index] = link

    def _drop(self, index: int) -> None:
        """End a connection; another one that called with this number takes its place."""
        self.sockets.pop(index).close()
        if index in self._rivals:
            self._keep(index, self._rivals.pop(index)[0])

    def _tell(self) -> None:
        """Tell those that do not know it that this worker is connected to all."""
        if not self._is_complete():
            return
        for index, link in list(self.sockets.items()):
            if link not in self._told:
                try:
                    link.send(_READY)
                except OSError:
                    self._drop(index)
                    return
                self._told.add(link)

    def _hear(self) -> None:
        """Wait for something to come, a call or a word, and take it."""
        # Who is complete gives the others time to say which worker they lack.
        end = self._deadline + _LAST_WORDS_S * self._is_complete()
        places = {link.fileno(): index for index, link in self.sockets.items()}
        poll = select.poll()
        for place in (self._server.fileno(), *places):
            poll.register(place, select.POLLIN)
        lacks = any(m.index not in self.sockets for m in self.cluster.members[: self.index])
        wait = min(_left(end), _AGAIN_S) if lacks or self._rivals else _left(end)
        came = [place for place, _ in poll.poll(1e3 * wait)]
        for place in came:
            if place in places:
                self._read(places[place])
        if self._server.fileno() in came:
            self._take(self._server.accept()[0])
        for index in [i for i, (_, until) in self._rivals.items() if time.monotonic() > until]:
            self._drop(index)
        if not came and time.monotonic() > end:
            raise self._too_late()

    def _read(self, index: int) -> None:
        link = self.sockets[index]
        try:
            word = link.recv(1)
            if word == _ASKED:
                link.send(_HERE)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if word == _ENDS:
            raise self._ended(index, _rest(link))
        if word == _HERE and index in self._rivals:
            hosts = (one.getpeername()[0] for one in (link, self._rivals[index][0]))
            raise MachineError(
                f"{self.cluster.me}: two processes call as worker {index}, from "
                f"{' and '.join(hosts)}; give each a number of its own"
            )
        if word == _READY:
            self._ready.add(link)
        if not word:
            self._drop(index)

    def _ended(self, index: int, text: str) -> MachineError:
        # The first one's words, not those of all that they went through.
        said = text if " ended: " in text else f"{self.cluster.members[index]} ended: {text}"
        return MachineError(said)

    def _too_late(self) -> ConnectionError:
        others = [member for member in self.cluster.members if member.index != self.index]
        missing = [str(m) for m in others if m.index not in self.sockets]
        slow = [str(m) for m in others if self.sockets.get(m.index) not in self._ready]
        what = "no connection to" if missing else "no word that they are connected to all, from"
        why = f" ({self._why})" if self._why and missing else ""
        return ConnectionError(f"{what} {', '.join(missing or slow)} in {self._timeout_s:g} s{why}")

    def _end(self, text: str) -> None:
        """Tell the others why this worker ends, also those who call a little later."""
        words = _words(text)
        end = time.monotonic() + _LAST_WORDS_S
        with contextlib.suppress(OSError):
            for link in (*self.sockets.values(), *(link for link, _ in self._rivals.values())):
                with link, contextlib.suppress(OSError):
                    link.send(words)
            while time.monotonic() < end:
                self._server.settimeout(_left(end))
                link = self._server.accept()[0]
                with link, contextlib.suppress(OSError):
                    if received(link, _HELLO.size, end)[: len(_NAME)] == _NAME:
                        link.sendall(self._hello + words)


def hello(cluster: Cluster, version: str = __version__) -> bytes:
    """What the worker that sees itself in ``cluster`` says first."""
    return _HELLO.pack(_NAME, version.encode(), cluster.num_workers, cluster.me.index)


def received(link: socket.socket, size: int, deadline: float) -> bytes:
    """The next ``size`` bytes of ``link``.

    Raises:
        OSError: they did not come before ``deadline``, or the connection was closed.
    """
    found = b""
    while len(found) < size:
        link.settimeout(_left(deadline))
        more = link.recv(size - len(found))
        if not more:
            raise ConnectionError("the connection was closed")
        found += more
    return found


def _words(text: str) -> bytes:
    return _ENDS + text.encode()[:_TEXT_BYTES]


def _told(link: socket.socket, text: str) -> MachineError:
    """The error ``text``, of which the one at the other end of ``link`` hears too."""
    with contextlib.suppress(OSError):
        link.send(_words(text))
    return MachineError(text)


def _rest(link: socket.socket) -> str:
    """What is left in a connection that its other end has closed."""
    found = b""
    with contextlib.suppress(OSError):
        link.settimeout(_LAST_WORDS_S)
        while len(found) < _TEXT_BYTES and (more := link.recv(_TEXT_BYTES)):
            found += more
    return found.decode(errors="replace")


def _left(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())
