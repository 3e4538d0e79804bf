"""What a process may use is told by its affinity and by every cgroup that it is in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from trainbench.machine import allotment

GIB = 1 << 30
CONTAINER = "docker/8f1c"


def tree(root: Path, own: str, files: dict[str, str]) -> dict[str, Path]:
    """``/proc`` with the groups of this process, and ``/sys/fs/cgroup`` with ``files``."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(own)
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return {"proc": root / "proc", "cgroups": root / "cgroup"}


TREES = {
    "version 2, in a container": (
        "0::/\n",
        {"cpu.max": "150000 100000", "memory.max": "2147483648"},
    ),
    "version 2, in a service": (
        "0::/system.slice/run.service\n",
        {
            "system.slice/run.service/cpu.max": "150000 100000",
            "system.slice/run.service/memory.max": "max",
            "system.slice/memory.max": "2147483648",
        },
    ),
    "version 1, in a job": (
        "4:memory:/job/7\n2:cpu,cpuacct:/job/7\n0::/\n",
        {
            "cpu,cpuacct/job/7/cpu.cfs_quota_us": "150000",
            "cpu,cpuacct/job/7/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
            "memory/job/7/memory.limit_in_bytes": "2147483648",
            "memory/memory.limit_in_bytes": "9223372036854771712",
        },
    ),
    "version 1, in a container that sees its own group as the root": (
        f"4:memory:/{CONTAINER}\n2:cpu:/{CONTAINER}\n",
        {
            "cpu/cpu.cfs_quota_us": "150000",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "2147483648",
        },
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_the_limits_of_both_versions_are_found(name: str, tmp_path: Path) -> None:
    found = allotment.cgroup_limits(**tree(tmp_path, *TREES[name]))
    assert found == {"cpus": 1.5, "memory_bytes": 2 * GIB}


def test_the_tightest_of_all_groups_counts(tmp_path: Path) -> None:
    files = {
        "a/b/memory.max": str(8 * GIB),
        "a/memory.max": str(4 * GIB),
        "a/b/cpu.max": "max 100000",
        "a/cpu.max": "400000 100000",
        "cpu.max": "800000 100000",
    }
    found = allotment.cgroup_limits(**tree(tmp_path, "0::/a/b\n", files))
    assert found == {"cpus": 4.0, "memory_bytes": 4 * GIB}


def test_no_group_is_no_limit(tmp_path: Path) -> None:
    unlimited = {"cpus": None, "memory_bytes": None}
    assert allotment.cgroup_limits(tmp_path, tmp_path) == unlimited
    assert (
        allotment.cgroup_limits(**tree(tmp_path, "0::/\n", {"cpu.max": "max 100000"})) == unlimited
    )


def test_a_quota_rounds_up_to_whole_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allotment, "cpu_numbers", lambda: (0, 1, 2, 3))
    for quota, wanted in ((None, 4), (1.5, 2), (0.1, 1), (16.0, 4)):
        limits = {"cpus": quota, "memory_bytes": 5 * GIB}
        monkeypatch.setattr(allotment, "cgroup_limits", lambda limits=limits: limits)
        assert allotment.cpus() == wanted
        assert allotment.cores() <= wanted
        number = str(wanted) if wanted < 4 else None
        assert allotment.thread_variables().get("TF_NUM_INTRAOP_THREADS") == number
        assert allotment.memory_bytes() == min(5 * GIB, psutil.virtual_memory().total)


@pytest.mark.parametrize(
    ("siblings", "quota", "wanted"),
    [
        ({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}, None, (0, 1)),
        ({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, None, (0, 2)),
        ({1: "0-1", 2: "2-3", 3: "2-3"}, None, (1, 2)),
        ({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3", 4: "4-5"}, 1.5, (0, 2)),
        ({0: "0-1", 1: "0-1", 2: "2-3"}, 0.5, (0,)),
        # A system that tells no topology.
        ({0: "", 1: "", 7: ""}, None, (0, 1, 7)),
    ],
)
def test_one_cpu_stands_for_each_physical_core(
    monkeypatch: pytest.MonkeyPatch,
    siblings: dict[int, str],
    quota: float | None,
    wanted: tuple[int, ...],
) -> None:
    monkeypatch.setattr(allotment, "cpu_numbers", lambda: tuple(siblings))
    monkeypatch.setattr(allotment, "cgroup_limits", lambda: {"cpus": quota})
    monkeypatch.setattr(allotment, "_topology", lambda number, name: siblings[number])
    assert allotment.cpu_of_each_core() == wanted
    assert allotment.cores() == len(wanted)


@pytest.mark.parametrize(
    ("own", "name", "text"),
    [
        ("0::/\n", "cpu.stat", "nr_throttled 3\nthrottled_usec 2500000"),
        ("2:cpu:/\n", "cpu/cpu.stat", "nr_throttled 3\nthrottled_time 2500000000"),
    ],
)
def test_the_time_that_a_quota_took_is_read(tmp_path: Path, own: str, name: str, text: str) -> None:
    assert allotment.throttling(**tree(tmp_path, own, {name: text})) == 2.5
    assert allotment.throttling(tmp_path, tmp_path) is None


def test_a_process_on_one_cpu_has_a_machine_of_one_cpu() -> None:
    """As under ``taskset -c 0``; what the machine has beside stands apart."""
    cpu = min(os.sched_getaffinity(0))
    program = (
        f"import json, os; os.sched_setaffinity(0, {{{cpu}}})\n"
        "from trainbench.machine import system; print(json.dumps(system.record(git={})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    record = json.loads(done.stdout)
    assert (record["cpu"]["sockets"], record["cpu"]["cores"], record["cpu"]["threads"]) == (1, 1, 1)
    assert record["host"]["threads"] == psutil.cpu_count()
    assert record["memory_bytes"] <= record["host"]["memory_bytes"]
