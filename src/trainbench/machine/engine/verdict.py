"""What the probe's container saw, as one line for the user: a pure function of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainbench.errors import MachineError
from trainbench.machine.engine.endpoint import Endpoint, Kind

_DENIED = {f"error-{number}" for number in (errno.EACCES, errno.EPERM)}


@dataclass(frozen=True)
class Situation:
    """Who asks which engine for what."""

    endpoint: Endpoint
    kind: Kind
    data: Path
    checkout: Path
    in_container: bool = False
    """Whether this process itself runs in a container."""


@dataclass(frozen=True)
class Seen:
    """What ``inside.py`` printed: "done", or "error-" with a number, for each thing it tried."""

    user: str = ""
    users: str = ""
    """The first range of users: "0 1000 1" where root is user 1000 of the machine, and alone."""
    token: str = ""
    code: str = ""
    write: str = ""
    sockets: Mapping[str, str] = field(default_factory=dict)
    """HTTP's status by path: 200 where the engine that answers runs the container."""
    text: str = ""

    @property
    def rootless(self) -> bool:
        """Whether root in the container is the user who runs the engine (Podman does not say)."""
        first = self.users.split()
        return len(first) == 3 and first[1] != "0" and first[2] == "1"

    @classmethod
    def of(cls, text: str) -> Seen:
        """The lines of the program as a record."""
        found, sockets = dict[str, str](), dict[str, str]()
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name == "socket":
                path, _, answer = value.rpartition(" ")
                sockets[path] = answer
            elif name in ("user", "users", "token", "code", "write"):
                found[name] = value
        return cls(**found, sockets=sockets, text=text)


def require(situation: Situation, seen: Seen, *, code: str, wrote: bool) -> None:
    """Raise where no step could work.

    Args:
        seen: what the container saw.
        code: the fingerprint of settings.py here.
        wrote: whether the file that the container wrote is here.

    Raises:
        MachineError: one line.
    """
    if not seen.write:
        raise MachineError(
            f"{situation.endpoint}: a container of the probe failed; see what it said: "
            f"{_last(seen.text)}"
        )
    if seen.token == _number(errno.ENOENT) or (seen.write == "done" and not wrote):
        raise _other_view(situation, situation.data)
    if seen.code in _DENIED:
        raise _denied(situation, situation.checkout, "read", seen)
    if seen.code != code:
        raise _other_view(situation, situation.checkout)
    for tried, did in ((seen.token, "read"), (seen.write, "write")):
        if tried in _DENIED:
            raise _denied(situation, situation.data, did, seen)
    if seen.write != "done":
        raise MachineError(
            f"DATA_DIR={situation.data}: a container cannot write there "
            f"({_text(seen.write)}); choose another folder"
        )


def refused(situation: Situation, text: str) -> MachineError:
    """The engine made or started no container."""
    for folder in (situation.data, situation.checkout):
        if str(folder) in text and ("not exist" in text or "no such file" in text.lower()):
            return _other_view(situation, folder)
    if "permission denied" in text.lower() and situation.kind.snap:
        return _other_view(situation, situation.data)
    return MachineError(
        f"{situation.endpoint}: the engine starts no container; see its reason: {_last(text)}"
    )


def without_socket(situation: Situation, seen: Seen) -> str:
    """Why training gets no engine, and what that costs."""
    cost = "training will not drop the page cache, and its result says so"
    if situation.kind.rootless or seen.rootless:
        return f"{situation.endpoint}: a rootless engine may not drop the page cache: {cost}"
    if not seen.sockets:
        return f"{situation.endpoint}: the engine has no socket where it runs: {cost}"
    path, answer = next(iter(seen.sockets.items()))
    if answer in _DENIED and situation.kind.selinux:
        return f"{path}: SELinux forbids containers to use it: {cost}"
    if answer.isdigit():
        return f"{path}: another engine answers there than {situation.endpoint}: {cost}"
    return f"{path}: no use in a container ({_text(answer)}): {cost}"


def _other_view(situation: Situation, folder: Path) -> MachineError:
    shown = f"DATA_DIR={folder}" if folder == situation.data else str(folder)
    if situation.kind.snap:
        return MachineError(
            f"{shown}: Docker is the snap, which sees only folders below HOME whose names begin "
            "with no dot; move the checkout and DATA_DIR there, or install Docker from the "
            "distribution (sudo snap remove docker, then sudo ./install_cuda_docker.sh)"
        )
    if situation.endpoint.socket is None:
        return MachineError(
            f"{shown}: engine {situation.endpoint} runs elsewhere and does not see this folder; "
            "use an engine of this machine: unset DOCKER_HOST, and docker context use default"
        )
    if situation.in_container:
        return MachineError(
            f"{shown}: this is a container, and its engine mounts folders of the host, which has "
            "others there (Docker beside Docker); mount the checkout and DATA_DIR into this "
            'container at the paths of the host: docker run -v "$PWD:$PWD" -w "$PWD" ...'
        )
    return MachineError(
        f"{shown}: engine {situation.endpoint} does not see this folder (it runs in a virtual "
        "machine, or has its own view of the files); share the folder with it, or choose another"
    )


def _denied(situation: Situation, folder: Path, did: str, seen: Seen) -> MachineError:
    rootless, user = situation.kind.rootless or seen.rootless, seen.user
    is_data = folder == situation.data
    shown = f"DATA_DIR={folder}" if is_data else str(folder)
    if situation.kind.selinux:
        return MachineError(
            f"{shown}: SELinux forbids containers to {did} it; run chcon -R -t container_file_t "
            f"'{situation.checkout}' '{situation.data}'"
        )
    if rootless and is_data:
        return MachineError(
            f"{shown}: not this user's, and in a rootless engine nobody else can {did} it; "
            "choose a folder of your own"
        )
    if not is_data:
        return MachineError(
            f"{shown}: not readable for user {user}, who runs the steps; run chmod -R o+rX in the "
            "checkout, and chmod o+x on the folders above it"
        )
    return MachineError(
        f"{shown}: user {user} of a container has no permission to {did} there; give that user "
        "the folder (chown), or choose another"
    )


def _number(code: int) -> str:
    return f"error-{code}"


def _text(answer: str) -> str:
    number = answer.removeprefix("error-")
    if not number.isdigit():
        return answer
    return os.strerror(int(number)) if int(number) else "no answer"


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
