"""What of the machine this process may use: CPUs by affinity and cgroup, memory by cgroup.

A process can be confined by either version of cgroups, in its own group or in one above it. In a
container the group's path may name folders of the host that cannot be seen; then the root of the
mount is the container's own group.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import psutil

from trainbench.files import text_or_empty

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# An unlimited version 1 group reports a page-rounded 2**63.
_UNLIMITED_BYTES = 1 << 62


def cgroup_limits(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> dict[str, Any]:
    """The limits of this process, the tightest of all groups it is in; ``None`` is unlimited."""
    groups = [Path(root, *parts) for root, parts in _groups(proc, cgroups)]
    memory = [found for group in groups for found in _memory_bytes(group)]
    cpus = [found for group in groups for found in _cpus(group)]
    return {"memory_bytes": min(memory, default=None), "cpus": min(cpus, default=None)}


def cpu_numbers() -> tuple[int, ...]:
    """The CPUs that this process may run on, by number."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(psutil.cpu_count() or 1))


def cpus() -> int:
    """How many CPUs this process may keep busy: by affinity and by cgroup, rounded up."""
    quota = cgroup_limits()["cpus"]
    number = len(cpu_numbers())
    return number if quota is None else min(number, max(1, math.ceil(quota)))


def thread_variables() -> dict[str, str]:
    """What tells TensorFlow of a quota: by itself it counts CPUs by affinity. Empty without one."""
    number = cpus()
    if number >= len(cpu_numbers()):
        return {}
    return {f"TF_NUM_{kind}_THREADS": str(number) for kind in ("INTRAOP", "INTEROP")}


def cores() -> int:
    """How many physical cores these CPUs are at most."""
    return len(cpu_of_each_core())


def cpu_of_each_core() -> tuple[int, ...]:
    """One CPU, the first by number, of each physical core; of as many as a quota keeps busy."""
    first: dict[str | int, int] = {}
    for number in cpu_numbers():
        first.setdefault(_topology(number, "thread_siblings_list") or number, number)
    return tuple(first.values())[: cpus()]


def sockets() -> int:
    """How many sockets these CPUs are on."""
    return len({_topology(number, "physical_package_id") for number in cpu_numbers()})


def memory_bytes() -> int:
    """How much memory this process may use."""
    total = int(psutil.virtual_memory().total)
    return min(total, cgroup_limits()["memory_bytes"] or total)


def throttling(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> float | None:
    """Seconds that the tightest quota has stopped the threads of a group of this process so far."""
    names = {"throttled_usec": 1e6, "throttled_time": 1e9}
    found = []
    for root, parts in _groups(proc, cgroups):
        for line in text_or_empty(Path(root, *parts, "cpu.stat")).splitlines():
            name, _, value = line.partition(" ")
            if name in names and value.isdigit():
                found.append(int(value) / names[name])
    return max(found, default=None)


def _groups(proc: Path, cgroups: Path) -> Iterable[tuple[Path, tuple[str, ...]]]:
    """Mount and path of every group that this process is in, those above it included."""
    for line in text_or_empty(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        parts = PurePosixPath(name).parts[1:]
        for root in _mounts(controllers, cgroups):
            yield from ((root, parts[:depth]) for depth in range(len(parts), -1, -1))


def _mounts(controllers: str, cgroups: Path) -> tuple[Path, ...]:
    if not controllers:
        return (cgroups,)  # version 2
    names = controllers.split(",")
    if not {"cpu", "memory"} & set(names):
        return ()
    return tuple(cgroups / name for name in dict.fromkeys((controllers, *names)))


def _memory_bytes(group: Path) -> Iterable[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = text_or_empty(group / name)
        if text.isdigit() and int(text) < _UNLIMITED_BYTES:
            yield int(text)


def _cpus(group: Path) -> Iterable[float]:
    quota = text_or_empty(group / "cpu.max").split() or [
        text_or_empty(group / "cpu.cfs_quota_us"),
        text_or_empty(group / "cpu.cfs_period_us"),
    ]
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit() and int(quota[1]):
        yield int(quota[0]) / int(quota[1])


def _topology(number: int, name: str) -> str:
    return text_or_empty(Path(f"/sys/devices/system/cpu/cpu{number}/topology", name))
