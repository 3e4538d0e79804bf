"""One tiny container before the first build: does the engine see this machine as its user does?

A bind mount is resolved where the engine runs, and what is missing there it makes, as an empty
folder of root. So the probe asks for mounts, which are refused instead. It leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainbench.errors import MachineError
from trainbench.machine.engine import image
from trainbench.machine.engine.endpoint import Endpoint, Kind
from trainbench.machine.engine.inside import fingerprint
from trainbench.machine.engine.verdict import Seen, Situation, refused, require, without_socket

CODE = "settings.py"
STEP_SOCKET = "/var/run/docker.sock"
TIMEOUT_S = 60


@dataclass(frozen=True)
class Found:
    """What steps can have of the engine."""

    socket: str | None
    """What to mount as ``/var/run/docker.sock`` for training: a path where the engine runs."""
    notes: tuple[str, ...] = ()
    """What a run will lack, one line each."""


def probe(
    client: Any, endpoint: Endpoint, info: Mapping[str, Any], *, data: Path, checkout: Path
) -> Found:
    """Run the container, and say what it saw.

    Args:
        client: docker-py's client of the engine at ``endpoint``.
        info: its ``docker info``.
        data: the data folder, which exists.
        checkout: the folder with settings.py.

    Raises:
        MachineError: no step could work there; one line with the reason and what to do.
    """
    situation = Situation(endpoint, Kind.of(info), data, checkout, _in_container())
    sockets = _candidates(endpoint)
    with _token(data) as token:
        seen, sockets = _run(client, situation, token, sockets)
        wrote = Path(data, f"{token}-seen").exists()
    require(situation, seen, code=fingerprint(str(checkout / CODE)), wrote=wrote)
    answering = (path for path in sockets if seen.sockets.get(path) == "200")
    # A rootless engine cannot drop the page cache, and a trial, its caller's, could use its socket.
    rootless = situation.kind.rootless or seen.rootless
    mounted = None if rootless else next(answering, None)
    return Found(mounted, () if mounted else (without_socket(situation, seen),))


def _candidates(endpoint: Endpoint) -> list[str]:
    """Where the engine's socket may be, seen from where it runs: in a virtual machine, as usual."""
    return list(dict.fromkeys(path for path in (endpoint.socket, STEP_SOCKET) if path))


@contextlib.contextmanager
def _token(data: Path) -> Iterator[str]:
    """A file in the data folder by which it is known again; removed with what is written of it."""
    token = f".probe-{secrets.token_hex(8)}"
    try:
        (data / token).touch()
        (data / token).chmod(0o644)
    except OSError as error:
        raise MachineError(
            f"DATA_DIR={data}: not writable for this user ({error.strerror}); choose another folder"
        ) from error
    try:
        yield token
    finally:
        for name in (token, f"{token}-seen"):
            with contextlib.suppress(OSError):
                (data / name).unlink(missing_ok=True)


def _run(
    client: Any, situation: Situation, token: str, sockets: list[str]
) -> tuple[Seen, list[str]]:
    """What the container printed, and those of the sockets that are where the engine runs."""
    from docker.errors import DockerException

    while True:
        try:
            name = image.ensure(client)
            return Seen.of(_output(client, situation, name, token, sockets)), sockets
        except (DockerException, OSError) as error:
            text = str(getattr(error, "explanation", None) or error)
            there = [path for path in sockets if path not in text]
            if there == sockets:
                raise refused(situation, text) from error
            sockets = there


def _output(client: Any, situation: Situation, name: str, token: str, sockets: list[str]) -> str:
    from docker.types import Mount

    mounts = [
        Mount("/data", str(situation.data), type="bind"),
        Mount("/workspace", str(situation.checkout), type="bind", read_only=True),
        *(Mount(f"/sockets/{at}", path, type="bind") for at, path in enumerate(sockets)),
    ]
    inside = [f"/sockets/{at}" for at in range(len(sockets))]
    container = client.containers.create(
        name,
        [*image.command(), token, *inside],
        mounts=mounts,
        network_mode="none",
        init=True,
        **situation.kind.options,
    )
    try:
        container.start()
        container.wait(timeout=TIMEOUT_S)
        text: str = container.logs().decode(errors="replace")
    finally:
        container.remove(force=True)
    for at, path in enumerate(sockets):
        text = text.replace(f"socket /sockets/{at} ", f"socket {path} ")
    return text


def _in_container() -> bool:
    return os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv")
