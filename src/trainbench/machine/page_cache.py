"""Drop the page cache before the clock starts, and prove it.

The rules want data to start on durable storage, not in memory (training_rules.adoc@6e02163, "Data
State at Start of Run"). In a container this needs another container that may write the
host's ``drop_caches``: a sidecar, started through the Docker SDK from the container's own image.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainbench.machine.system import in_container

DROP_CACHES = "/proc/sys/vm/drop_caches"
DOCKER_SOCKET = Path("/var/run/docker.sock")
TIMEOUT_S = 120
# Other processes go on reading: the cache may have grown by this much since it was dropped.
READ_MEANWHILE_KIB = 16_384

_IN_SIDECAR = "/drop_caches"


@dataclass(frozen=True)
class CacheDrop:
    """How the page cache was dropped, with the proof, or why it was not."""

    dropped: bool
    method: str | None
    cached_before_kib: int | None
    cached_after_kib: int | None
    reason: str | None = None

    def sentence(self) -> str:
        """One line for people: what happened and the proof."""
        if not self.dropped:
            return f"page cache NOT dropped: {self.reason}"
        before, after = self.cached_before_kib, self.cached_after_kib
        return f"page cache dropped ({self.method}): Cached {before} kB -> {after} kB"


def drop_page_cache(location: str = DROP_CACHES) -> CacheDrop:
    """Drop the page cache by the narrowest means that works here.

    In a container that holds Docker's socket: a sidecar that sees nothing but ``drop_caches``, then
    a privileged one, because a host may refuse either (a host whose bounding set lacks one
    capability refuses ``--privileged``). Otherwise, or if both fail: a direct write, then sudo.

    Args:
        location: the file that drops the caches when 3 is written to it; any but the kernel's own
            is written directly and no sidecar is started.
    """
    attempts: list[tuple[str, Callable[[], None]]] = [
        ("direct write", lambda: _write_directly(location)),
        ("sudo", lambda: _write_with_sudo(location)),
    ]
    if location == DROP_CACHES and in_container() and DOCKER_SOCKET.exists():
        attempts = [
            ("bind mount container", lambda: _run_sidecar(privileged=False)),
            ("privileged container", lambda: _run_sidecar(privileged=True)),
            *attempts,
        ]
    return _first_that_drops(attempts)


def drop_if(wanted: bool, location: str = DROP_CACHES) -> CacheDrop:
    """The same where the configuration wants it; otherwise the record that it was turned off."""
    if wanted:
        return drop_page_cache(location)
    return not_dropped("turned off (DROP_CACHES=0 or drop_caches=false)")


def not_dropped(reason: str) -> CacheDrop:
    """The record of a drop that was not tried."""
    return CacheDrop(False, None, cached_kib(), None, reason)


def cached_kib(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """The kernel's ``Cached:`` figure in KiB, or ``None`` where there is none."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("Cached:")), None)


def _first_that_drops(attempts: list[tuple[str, Callable[[], None]]]) -> CacheDrop:
    reasons = []
    before = cached_kib()
    for method, attempt in attempts:
        before = cached_kib()
        try:
            attempt()
        except Exception as error:  # noqa: BLE001  Docker's SDK raises what its transport raises
            reasons.append(f"{method}: {_one_line(error)}")
            continue
        after = cached_kib()
        if before is None or after is None or after <= before + READ_MEANWHILE_KIB:
            return CacheDrop(True, method, before, after)
        reasons.append(f"{method}: Cached rose from {before} to {after} kB")
    return CacheDrop(False, None, before, cached_kib(), "; ".join(reasons))


def _run_sidecar(*, privileged: bool) -> None:
    import docker

    client = docker.from_env(timeout=TIMEOUT_S)
    try:
        options: dict[str, Any] = (
            {"privileged": True} if privileged else {"volumes": {DROP_CACHES: _mount()}}
        )
        target = DROP_CACHES if privileged else _IN_SIDECAR
        client.containers.run(
            _own_image(client),
            ["-c", f"sync; echo 3 > {target}"],
            entrypoint="/bin/sh",
            remove=True,
            network_disabled=True,
            user="0:0",
            labels={"org.trainbench.role": "drop-caches"},
            **options,
        )
    finally:
        client.close()


def _mount() -> dict[str, str]:
    return {"bind": _IN_SIDECAR, "mode": "rw"}


def _own_image(client: Any) -> str:
    # A container's host name is the start of its id unless somebody renamed it.
    return str(client.containers.get(socket.gethostname()).image.id)


def _write_directly(location: str) -> None:
    os.sync()
    with open(location, "w") as handle:
        handle.write("3\n")


def _write_with_sudo(location: str) -> None:
    os.sync()
    subprocess.run(
        ["sudo", "-n", "tee", location],
        input="3\n",
        text=True,
        check=True,
        capture_output=True,
        timeout=TIMEOUT_S,
    )


def _one_line(error: Exception) -> str:
    detail = getattr(error, "explanation", None) or getattr(error, "stderr", None) or error
    if isinstance(detail, bytes):
        detail = detail.decode(errors="replace")
    return " ".join(str(detail).split())[:200]
