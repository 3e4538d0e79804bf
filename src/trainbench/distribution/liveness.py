"""Whether the other processes of a run are there: waited for at first, then watched to the end.

A connection to the port of each is tried, whatever TensorFlow is doing meanwhile: it may block for
ever on a process that is gone. When one is lost, this process ends at once with one line.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NoReturn

from trainbench.distribution.cluster import Cluster, Member
from trainbench.errors import MachineError
from trainbench.progress import LINE_INTERVAL_S, duration, log_line

JOIN_TIMEOUT_S = 300.0
PROBE_INTERVAL_S = 2.0
LOST_AFTER_S = 10.0
"""A process whose port has been silent for so long is gone."""

_PLACE = re.compile(
    r"^(Graph execution error:|Detected at node .*|  File .*|(\{\{.*?\}\} )+)", re.MULTILINE
)
"""What TensorFlow says of a graph that failed before it says why."""


def answers(member: Member, *, timeout_s: float = PROBE_INTERVAL_S) -> bool:
    """Whether something listens at ``member``'s address."""
    try:
        with socket.create_connection(member.host_and_port, timeout=timeout_s):
            return True
    except OSError:
        return False


def greets(member: Member, *, timeout_s: float) -> bool:
    """Whether TensorFlow's server at ``member``'s address is at work.

    gRPC speaks first. Of a process that hangs, the kernel takes connections all the same.
    """
    try:
        with socket.create_connection(member.host_and_port, timeout=timeout_s) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False


def end_process(error: MachineError) -> NoReturn:
    """Print ``error`` and end this process, whatever its other threads are blocked in."""
    sys.stdout.flush()
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)


class Liveness:
    """Watches the processes that this one needs, in a thread.

    Args:
        timeout_s: seconds until each of them has to answer for the first time.
        option: the command's name for ``timeout_s``.
        lost: what to do about one that is missing or gone; it is called in the thread.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        timeout_s: float,
        option: str,
        lost: Callable[[MachineError], object] = end_process,
    ) -> None:
        self.cluster, self.timeout_s, self.lost = cluster, timeout_s, lost
        self._option = option
        self._started = self._said = time.monotonic()
        self._seen: dict[Member, float | None] = dict.fromkeys(cluster.needed())
        self._stop = threading.Event()
        self._all_seen = threading.Event()
        self._armed_s: float | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="liveness")

    def start(self, *, armed: bool = True) -> Liveness:
        """Begin to look for the others; those that are lost count from when it is ``armed``."""
        if armed:
            self.arm()
        self._started = self._said = time.monotonic()
        self._thread.start()
        return self

    def arm(self) -> None:
        """From now on, one that no longer answers is gone."""
        self._armed_s = time.monotonic()

    def stop(self) -> None:
        """Stop watching: from now on the others may end."""
        self._stop.set()

    def wait(self) -> None:
        """Return once every process has answered; the thread ends this one if one does not."""
        self._all_seen.wait()

    def _run(self) -> None:
        while not self._stop.is_set():
            error = self._round(time.monotonic())
            if error is not None and not self._stop.is_set():
                self.lost(error)
                return
            # At the start a process is looked for more often, not to wait longer than it takes.
            self._stop.wait(PROBE_INTERVAL_S if self._all_seen.is_set() else 0.1)

    def _round(self, now: float) -> MachineError | None:
        for member, before in self._seen.items():
            if before is not None and self._armed_s is None:
                # Its server takes none of these calls, and the system holds so many and no more.
                continue
            if answers(member):
                self._seen[member] = time.monotonic()
            elif before is None and now - self._started > self.timeout_s:
                return self._never_came(member)
            elif self._is_overdue(before, now):
                return gone(self.cluster, [member])
        missing = [member for member, seen in self._seen.items() if seen is None]
        if not missing:
            self._all_seen.set()
        elif now - self._said > LINE_INTERVAL_S:
            self._said = now
            left = duration(max(self.timeout_s - (now - self._started), 0))
            log_line(f"waiting for {', '.join(map(str, missing))}; {left} left")
        return None

    def _is_overdue(self, before: float | None, now: float) -> bool:
        armed_s = self._armed_s
        if before is None or armed_s is None:
            return False
        return now - max(before, armed_s) > LOST_AFTER_S

    def _never_came(self, member: Member) -> MachineError:
        return MachineError(
            f"{self.cluster.me.role}: {member} did not answer within {duration(self.timeout_s)}; "
            f"start it, open its port, or fix the addresses ({self._option} waits longer)"
        )


def gone(cluster: Cluster, members: Sequence[Member], reason: str = "") -> MachineError:
    """The error of processes that answered once and do so no more."""
    named = f"{', '.join(map(str, members))} {'is' if len(members) == 1 else 'are'} gone"
    return MachineError(
        f"{cluster.me.role}: {named}{reason and f' ({reason})'}; look at its own last lines, then "
        "start all processes again"
    )


def blame(cluster: Cluster, error: Exception) -> MachineError:
    """What TensorFlow's ``error`` means: which processes are gone or hang, found by asking each.

    All are named: some may have ended because one was lost.
    """
    needed = cluster.needed()
    deadline = time.monotonic() + LOST_AFTER_S
    while time.monotonic() < deadline:
        # All at once: the others end while one that hangs is waited for.
        with ThreadPoolExecutor(len(needed) or 1) as pool:
            heard = pool.map(partial(greets, timeout_s=LOST_AFTER_S), needed)
            silent = [m for m, greeted in zip(needed, heard, strict=True) if not greeted]
        if silent:
            return gone(cluster, silent, type(error).__name__)
        time.sleep(0.2)
    return MachineError(f"{cluster.me.role}: the processes lost touch: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """The first line that says why, cut to fit a line of ours; TensorFlow's are long."""
    lines = _PLACE.sub("", str(error)).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
