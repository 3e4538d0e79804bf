"""What this machine lacks: one line per requirement, each with its fix."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from trainbench.errors import MachineError
from trainbench.machine import allotment, extras, system
from trainbench.machine.engine import endpoint
from trainbench.machine.page_cache import DROP_CACHES

OK, WARN, FAIL = "OK", "WARN", "FAIL"
GIB = 1 << 30
# ml-20m: archive and ratings 0.7 GB, cache 0.4 GB, two epochs of input ahead 2 GB each.
ML_20M_DISK_GIB = 12
ML_20M_MEMORY_GIB = 6


@dataclass(frozen=True)
class Check:
    """One requirement: how it stands, what was found and how to fix it."""

    name: str
    state: str
    found: str
    fix: str = ""

    def line(self) -> str:
        """The requirement as one line of text."""
        fix = f"  -> {self.fix}" if self.fix and self.state != OK else ""
        return f"{self.state:<4}  {self.name:<16} {self.found}{fix}"


def run(data_dir: Path) -> int:
    """Print all checks; exit code 6 if one of them fails, else 0."""
    found = checks(data_dir)
    for check in found:
        click.echo(check.line())
    failures = sum(check.state == FAIL for check in found)
    warnings = sum(check.state == WARN for check in found)
    click.echo(f"{len(found)} requirements, {failures} failed, {warnings} with a warning")
    return 6 if failures else 0


def checks(data_dir: Path) -> list[Check]:
    """Every requirement of the workflow, in the order in which a run meets it."""
    tests: tuple[Callable[[], Check], ...] = (
        _python,
        _git,
        _popper,
        _tensorflow,
        _report,
        _docker,
        _gpu,
        _memory,
        lambda: _disk(data_dir),
        lambda: _data_dir(data_dir),
        _drop_caches,
    )
    return [test() for test in tests]


def _python() -> Check:
    state = OK if sys.version_info >= (3, 10) else FAIL
    return Check("python", state, platform.python_version(), "install Python 3.10 or later")


def _git() -> Check:
    root = Path(__file__).resolve().parents[3]
    state = system.git_state(root)
    if state["revision"] is None:
        fix = "install git and run from a clone, so that results name their code"
        return Check("git", WARN, "revision unknown", fix)
    if state["dirty"]:
        return Check("git", WARN, "uncommitted changes", "commit them; else results say 'dirty'")
    return Check("git", OK, state["revision"][:12])


def _popper() -> Check:
    fix = "./scripts/run.sh sets it up, or: pip install popper==2.5.0 'setuptools<81'"
    found = system.version("popper")
    if found is None:
        return Check("popper", WARN, "not in this environment (needed for wf.yml only)", fix)
    state = OK if found == "2.5.0" else FAIL
    return Check("popper", state, found, f"later versions refuse settings.py; {fix}")


def _tensorflow() -> Check:
    fix = f"{extras.advice('tensorflow')} (the train image brings its own)"
    if importlib.util.find_spec("tensorflow") is None:
        return Check("tensorflow", WARN, "not in this environment (train and pipeline)", fix)
    return Check("tensorflow", OK, system.version("tensorflow") or "unknown version", fix)


def _report() -> Check:
    wanted = (*extras.REPORT, "scipy")
    lacking = extras.missing(wanted)
    if lacking:
        found = f"{', '.join(lacking)} not in this environment (report and compare)"
        return Check("report", WARN, found, extras.advice(*lacking))
    return Check("report", OK, ", ".join(wanted))


def _docker() -> Check:
    import docker
    from docker.errors import DockerException

    try:
        asked = endpoint.choose()
        try:
            info = docker.from_env(timeout=10).info()
        except (DockerException, OSError, ValueError):
            found, _, fix = asked.silence.partition("; ")
            return Check("docker", WARN, found, fix)
    except MachineError as error:
        found, _, fix = str(error).partition("; ")
        return Check("docker", WARN, found, fix)
    return Check("docker", OK, f"engine {info['ServerVersion']}, {info['Driver']}")


def _gpu() -> Check:
    gpus = system.nvidia_gpus()
    if gpus:
        return Check("gpu", OK, f"{len(gpus)} x {gpus[0]['name']}, driver {gpus[0]['driver']}")
    fix = "on a machine with an NVIDIA GPU: sudo ./install_cuda_docker.sh"
    return Check("gpu", WARN, "none usable; training runs on the CPU and says so", fix)


def _memory() -> Check:
    total = allotment.memory_bytes() / GIB
    state = OK if total >= ML_20M_MEMORY_GIB else WARN
    fix = f"ml-20m wants {ML_20M_MEMORY_GIB} GiB; ml-1m and quick need 3"
    return Check("memory", state, f"{total:.1f} GiB", fix)


def _disk(data_dir: Path) -> Check:
    folder = next(p for p in (data_dir, *data_dir.resolve().parents) if p.exists())
    free = shutil.disk_usage(folder).free / GIB
    state = OK if free >= ML_20M_DISK_GIB else WARN if free >= 2 else FAIL
    fix = f"ml-20m wants {ML_20M_DISK_GIB} GiB; choose another disk with DATA_DIR"
    return Check("disk", state, f"{free:.1f} GiB free", fix)


def _data_dir(data_dir: Path) -> Check:
    folder = next(p for p in (data_dir, *data_dir.resolve().parents) if p.exists())
    if os.access(folder, os.W_OK):
        there = "writable" if folder == data_dir else "can be made"
        return Check("data directory", OK, f"{data_dir}: {there}")
    return Check("data directory", FAIL, f"{data_dir}: not writable", "choose another DATA_DIR")


def _drop_caches() -> Check:
    if os.access(DROP_CACHES, os.W_OK):
        return Check("page cache", OK, "can be dropped")
    fix = "run as root, allow sudo, or use the workflow (its sidecar can); else DROP_CACHES=0"
    return Check("page cache", WARN, "this user cannot drop it; results will say so", fix)
