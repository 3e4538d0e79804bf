"""A trial asks the process that started it to drop the page cache: it may not do so itself.

Whoever drops the page cache of a host from a container holds the engine's socket, and a trial reads
foreign bytes. So the question has no argument: what is dropped and how is for the one who answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

CHANNEL = "TRAINBENCH_CACHE_DROP_CHANNEL"
"""Environment variable with the file descriptor to ask on."""

_QUESTION = b"drop\n"


@contextlib.contextmanager
def answering(drop: Callable[[], Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Call ``drop`` whenever the process asks that is started in the body with these arguments.

    Yields:
        ``pass_fds`` and ``env`` for ``subprocess.Popen``.
    """
    ours, theirs = socket.socketpair()
    threading.Thread(target=_answer, args=(ours, drop), daemon=True, name="cache drop").start()
    channel = theirs.fileno()
    try:
        yield {"pass_fds": (channel,), "env": {**os.environ, CHANNEL: str(channel)}}
    finally:
        theirs.close()


def ask() -> dict[str, Any] | None:
    """What the answering process says it did; ``None`` where there is none to ask."""
    channel = os.environ.get(CHANNEL)
    if channel is None:
        return None
    with socket.socket(fileno=os.dup(int(channel))) as connection:
        connection.sendall(_QUESTION)
        line = connection.makefile().readline()
    if not line:
        raise BrokenPipeError("the process that drops the page cache is gone")
    found: dict[str, Any] = json.loads(line)
    return found


def _answer(connection: socket.socket, drop: Callable[[], Mapping[str, Any]]) -> None:
    # A connection whose process is gone ends the loop or the answer; nobody waits for either.
    with connection, connection.makefile("rb") as questions, contextlib.suppress(OSError):
        for question in questions:
            if question == _QUESTION:
                connection.sendall(json.dumps(drop()).encode() + b"\n")
