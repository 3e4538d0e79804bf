"""Which engine is meant, as Docker's command line decides it, and what it says of itself."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainbench.errors import MachineError

DEFAULT = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Endpoint:
    """Where an engine answers, and who said so (``DOCKER_HOST``, a context, or nobody)."""

    address: str
    named_by: str
    variables: Mapping[str, str] = field(default_factory=dict)
    """The environment in which docker-py and Docker's command line both ask this engine."""

    @property
    def socket(self) -> str | None:
        """The path of its socket, or ``None`` where it answers on the network."""
        scheme, _, path = self.address.partition("://")
        return path if scheme == "unix" else None

    @property
    def silence(self) -> str:
        """Why it does not answer, as far as its socket shows, and what to do."""
        if self.socket and os.path.exists(self.socket) and not os.access(self.socket, os.W_OK):
            return f"{self}: no permission; run sudo usermod -aG docker $USER, and log in again"
        if self.address == DEFAULT:
            return f"{self}: no engine answers; run sudo ./install_cuda_docker.sh"
        return f"{self}: no engine answers; start it, or name another (docker context use default)"

    def __str__(self) -> str:
        return f"{self.address} ({self.named_by})"


@dataclass(frozen=True)
class Kind:
    """What an engine says of itself in ``docker info``."""

    rootless: bool = False
    """Its root is the user who started it."""
    remapped: bool = False
    """Its containers have users of their own (``userns-remap``), unless they ask for the host's."""
    selinux: bool = False
    snap: bool = False
    """It sees the folders below HOME alone."""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Kind:
        """The kind of the engine with this ``docker info``."""
        said = [str(option) for option in info.get("SecurityOptions") or ()]
        names = {part for option in said for part in option.split(",")}
        return cls(
            rootless="name=rootless" in names,
            remapped="name=userns" in names,
            selinux="name=selinux" in names,
            snap=str(info.get("DockerRootDir", "")).startswith("/var/snap/"),
        )

    @property
    def options(self) -> dict[str, Any]:
        """What ``containers.create`` needs here: remapped users could not write the user's data."""
        return {"userns_mode": "host"} if self.remapped else {}


def endpoint(env: Mapping[str, str]) -> Endpoint:
    """The engine that ``docker`` would ask: DOCKER_HOST, else the context, else the default.

    Raises:
        MachineError: there is no context of that name.
    """
    if env.get("DOCKER_HOST"):
        return Endpoint(_whole(env["DOCKER_HOST"]), "DOCKER_HOST")
    folder = Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME", "/root"), ".docker"))
    name = env.get("DOCKER_CONTEXT") or _read(folder / "config.json").get("currentContext")
    if not name or name == "default":
        return Endpoint(DEFAULT, "the default")
    by = f"docker context {name}"
    known = hashlib.sha256(str(name).encode()).hexdigest()
    ends = _read(folder / "contexts" / "meta" / known / "meta.json").get("Endpoints") or {}
    docker = ends.get("docker") or {}
    if not docker.get("Host"):
        raise MachineError(f"{by}: no such context; choose another: docker context ls")
    tls = folder / "contexts" / "tls" / known / "docker"
    variables = {"DOCKER_HOST": str(docker["Host"])}
    if tls.is_dir():
        verify = "" if docker.get("SkipTLSVerify") else "1"
        variables |= {"DOCKER_CERT_PATH": str(tls), "DOCKER_TLS_VERIFY": verify}
    return Endpoint(variables["DOCKER_HOST"], by, variables)


def choose(env: MutableMapping[str, str] = os.environ) -> Endpoint:
    """``endpoint``, and let every client ask it that reads ``env``: docker-py knows no context."""
    found = endpoint(env)
    env.update(found.variables)
    return found


def _whole(address: str) -> str:
    return address if "://" in address else f"tcp://{address}"


def _read(path: Path) -> dict[str, Any]:
    """A file of Docker's command line, which goes on without it where it is absent or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
