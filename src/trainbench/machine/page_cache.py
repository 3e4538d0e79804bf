"""Drop the page cache before the clock starts, and prove it.

The rules want data to start on durable storage, not in memory (training_rules.adoc@6e02163, "Data
State at Start of Run"). In a container this needs another container that may write the
host's ``drop_caches``: a sidecar, started through the Docker SDK from the container's own image.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainbench.machine import cache_service
from trainbench.machine.privileges import ENGINE_SOCKET
from trainbench.machine.system import in_container

DROP_CACHES = "/proc/sys/vm/drop_caches"
TIMEOUT_S = 120
# What is left after a drop of a machine at work: pages read again since, and pages being written.
# Less than a fifth of the cache of ml-20m, and every disk reads it in less than a second.
SMALL_KIB = 65_536
# Other processes delete files and read meanwhile: a smaller fall may be theirs.
LEAST_FALL_KIB = 16_384

_IN_SIDECAR = "/drop_caches"


@dataclass(frozen=True)
class CacheLevel:
    """What /proc/meminfo says of the page cache, in KiB."""

    cached: int
    mapped: int = 0
    shared: int = 0

    @property
    def in_use(self) -> int:
        """What no drop can take at least: pages that processes map, and shared memory."""
        return max(self.mapped, self.shared)  # mapped shared memory counts in both


@dataclass(frozen=True)
class CacheDrop:
    """How the page cache was dropped, with the proof, or why it was not.

    ``in_use_kib`` of what is cached after it cannot be dropped. ``location`` is the file that 3 was
    written to; ``None`` where a drop was not tried.
    """

    dropped: bool
    method: str | None
    cached_before_kib: int | None
    cached_after_kib: int | None
    reason: str | None = None
    in_use_kib: int | None = None
    location: str | None = None

    def notes(self) -> list[tuple[str, str]]:
        """(code, sentence) of each reason why a run with this drop is degraded."""
        found = []
        if self.location not in (None, DROP_CACHES):
            text = f"to drop the page cache, 3 was written to {self.location}, not to {DROP_CACHES}"
            found.append(("other_cache_drop", text))
        if not self.dropped:
            found.append(("caches_not_dropped", f"the page cache was not dropped: {self.reason}"))
        return found

    def sentence(self) -> str:
        """One line for people: what happened and the proof."""
        if not self.dropped:
            return f"page cache NOT dropped: {self.reason}"
        before, after = self.cached_before_kib, self.cached_after_kib
        return f"page cache dropped ({self.method}): Cached {before} kB -> {after} kB"


def drop_page_cache(location: str = DROP_CACHES) -> CacheDrop:
    """Have the page cache dropped by the process that started this one, else by ``drop_here``."""
    done = cache_service.ask()
    return drop_here(location) if done is None else CacheDrop(**done)


def drop_here(location: str = DROP_CACHES) -> CacheDrop:
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
    if location == DROP_CACHES and in_container() and ENGINE_SOCKET.exists():
        attempts = [
            ("bind mount container", lambda: _run_sidecar(privileged=False)),
            ("privileged container", lambda: _run_sidecar(privileged=True)),
            *attempts,
        ]
    return _first_that_drops(attempts, location)


def drop_if(wanted: bool, location: str = DROP_CACHES) -> CacheDrop:
    """The same where the configuration wants it; otherwise the record that it was turned off."""
    if wanted:
        return drop_page_cache(location)
    return not_dropped("turned off (DROP_CACHES=0 or drop_caches=false)")


def not_dropped(reason: str) -> CacheDrop:
    """The record of a drop that was not tried."""
    level = cache_level()
    return CacheDrop(False, None, None if level is None else level.cached, None, reason)


def cache_level(meminfo: Path = Path("/proc/meminfo")) -> CacheLevel | None:
    """What is cached now, or ``None`` where the kernel does not say."""
    try:
        text = meminfo.read_text(encoding="utf-8")
    except OSError:
        return None
    found = {name: int(kib) for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    if "Cached" not in found:
        return None
    return CacheLevel(found["Cached"], found.get("Mapped", 0), found.get("Shmem", 0))


def doubt(before: CacheLevel | None, after: CacheLevel | None) -> str | None:
    """Why two looks do not prove a drop between them; ``None`` if they do.

    A drop leaves what is in use and little else, or takes at least half of what it surely can.
    A write to any other file does neither, whatever other processes read or delete meanwhile.
    """
    if before is None or after is None:
        return "/proc/meminfo has no Cached to prove it"
    surely_droppable = before.cached - before.mapped - before.shared
    wanted = max(LEAST_FALL_KIB, surely_droppable // 2)
    if after.cached - after.in_use <= SMALL_KIB or before.cached - after.cached >= wanted:
        return None
    way = "rose" if after.cached > before.cached else "went"
    return (
        f"Cached {way} from {before.cached} to {after.cached} kB ({after.in_use} kB in use); "
        f"wanted a fall by {wanted} kB, or at most {SMALL_KIB} kB beside those in use"
    )


def _first_that_drops(attempts: list[tuple[str, Callable[[], None]]], location: str) -> CacheDrop:
    reasons = []
    before = after = cache_level()
    for method, attempt in attempts:
        os.sync()  # only clean pages can be dropped; before the first look, so that it is short
        before = cache_level()
        try:
            attempt()
        except Exception as error:  # noqa: BLE001  Docker's SDK raises what its transport raises
            reasons.append(f"{method}: {_one_line(error)}")
            continue
        after = cache_level()
        doubted = doubt(before, after)
        if doubted is None:
            return _recorded(True, method, before, after, None, location)
        reasons.append(f"{method}: {doubted}")
    return _recorded(False, None, before, after, "; ".join(reasons), location)


def _recorded(
    dropped: bool,
    method: str | None,
    before: CacheLevel | None,
    after: CacheLevel | None,
    reason: str | None,
    location: str,
) -> CacheDrop:
    return CacheDrop(
        dropped,
        method,
        cached_before_kib=None if before is None else before.cached,
        cached_after_kib=None if after is None else after.cached,
        reason=reason,
        in_use_kib=None if after is None else after.in_use,
        location=location,
    )


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
            userns_mode="host",  # remapped root may not write drop_caches
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
    with open(location, "w", encoding="utf-8") as handle:
        handle.write("3\n")


def _write_with_sudo(location: str) -> None:
    subprocess.run(
        ["sudo", "-n", "tee", location],
        input="3\n",
        encoding="utf-8",
        check=True,
        capture_output=True,
        timeout=TIMEOUT_S,
    )


def _one_line(error: Exception) -> str:
    detail = getattr(error, "explanation", None) or getattr(error, "stderr", None) or error
    if isinstance(detail, bytes):
        detail = detail.decode(errors="replace")
    return " ".join(str(detail).split())[:200]
