"""What one stored run measured, on what machine, of what task: the same record for every kind.

A run's folder, the results.json of a report and a file of ``trainbench cnn --result_json`` are read
into ``Measured``. Nothing here needs more than the files, and what they do not say is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from trainbench.reporting.text import shown

# More than any time, speed or size; beyond it, arithmetic fails.
_MOST = 1e18


@dataclass(frozen=True)
class Quantity:
    """Something measured of a run.

    Attributes:
        key: its name in files, with the unit: ``time_to_train_s``.
        smaller_is_better: whether a larger value is a worse one.
    """

    key: str
    label: str
    unit: str
    smaller_is_better: bool = False
    digits: int = 2

    def worse(self, percent: float) -> float:
        """By how many percent a change of ``percent`` is for the worse; below 0 for the better."""
        return percent if self.smaller_is_better else -percent


TIME = Quantity("time_to_train_s", "Time to train", "s", smaller_is_better=True, digits=1)
SAMPLES = Quantity("samples_per_s", "Training speed", "samples/s", digits=0)
IMAGES = Quantity("images_per_s", "Training speed", "images/s")
QUANTITIES = {quantity.key: quantity for quantity in (TIME, SAMPLES, IMAGES)}


def quality(key: str, name: str) -> Quantity:
    """The best quality of a trial, such as HR@10."""
    return Quantity(key, f"Best {name}", "", digits=4)


@dataclass(frozen=True)
class Measured:
    """One stored run.

    Attributes:
        kind: ``run`` of trials, or ``cnn``: a result of the harness.
        task: what was computed, by setting; only runs of equal tasks are comparable.
        machine: what the fingerprint is made of.
        software: what may change from run to run: revision, packages, kernel, driver.
        values: samples of each quantity: of the trials, or of repeats.
        blocks: of a single run without repeats, speeds of blocks of its steps or of its epochs.
        steps: of a result of the harness, how many were timed.
        trials, ended, reached: how many there are, ended, and reached their target.
        left_out: why it is no part of a trend; empty if it is.
    """

    name: str
    place: Path
    kind: str
    benchmark: str
    created_unix_s: float | None
    task: Mapping[str, Any]
    machine: Mapping[str, Any]
    software: Mapping[str, Any]
    values: Mapping[str, tuple[float, ...]]
    quantities: Mapping[str, Quantity]
    blocks: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    title: str = ""
    steps: int = 0
    trials: int = 0
    ended: int = 0
    reached: int = 0
    targetless: bool = False
    degraded: tuple[str, ...] = ()
    left_out: str = ""
    report: Path | None = None
    note: str = ""
    tags: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Twelve digits that are equal for machines of one kind; ``unknown`` where none is told."""
        return digest(self.machine) if any(self.machine.values()) else "unknown"

    @cached_property
    def task_key(self) -> str:
        """Twelve digits that are equal for equal tasks."""
        return digest({"benchmark": self.benchmark, **self.task})

    @property
    def revision(self) -> str | None:
        """Git revision of the code; with a mark where it had uncommitted changes."""
        found = self.software.get("git revision")
        return found if isinstance(found, str) else None


def digest(value: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of ``value`` as JSON."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def machine_of(system: Mapping[str, Any]) -> dict[str, Any]:
    """What of a system.json makes it another machine: what computes, and how much of it.

    Memory counts in whole GiB, because kernels keep different amounts to themselves. Software does
    not count: what it changes is to be found.
    """
    cpu = _mapping(system.get("cpu"))
    memory = number(system.get("memory_bytes"))
    gpus = [_mapping(gpu) for gpu in items(system.get("gpus")) if isinstance(gpu, Mapping)]
    found = {
        "cpu": cpu.get("model"),
        "sockets": cpu.get("sockets"),
        "cores": cpu.get("cores"),
        "threads": cpu.get("threads"),
        "cpu quota": _mapping(system.get("cgroup")).get("cpus"),
        "memory GiB": None if memory is None else round(memory / 2**30),
        "gpus": sorted(str(gpu.get("name")) for gpu in gpus),
        "device": system.get("device"),
        "machines": system.get("workers"),
    }
    return {key: value for key, value in found.items() if value not in (None, [], "")}


def software_of(system: Mapping[str, Any], version: Any = None) -> dict[str, Any]:
    """What of a system.json may differ from run to run on one machine."""
    git = _mapping(system.get("git"))
    gpus = [_mapping(gpu) for gpu in items(system.get("gpus")) if isinstance(gpu, Mapping)]
    found = {
        "git revision": git.get("revision"),
        "uncommitted changes": git.get("dirty"),
        "trainbench": version,
        **{key: value for key, value in _mapping(system.get("packages")).items() if value},
        "python": system.get("python"),
        "kernel": system.get("kernel"),
        "os": system.get("os"),
        "driver": next((gpu.get("driver") for gpu in gpus), None),
        "cuda": system.get("cuda"),
        "images": [_mapping(image).get("digest") for image in items(system.get("images"))],
        "instruction sets": _mapping(system.get("cpu")).get("instruction_sets"),
    }
    return {key: value for key, value in found.items() if value not in (None, [], "")}


def describe(machine: Mapping[str, Any]) -> str:
    """A machine in a few words."""
    if not machine:
        return "a machine that is not recorded"
    gpus = machine.get("gpus") or []
    words = [str(machine.get("cpu") or "unknown CPU")]
    if machine.get("threads"):
        words.append(f"{machine['threads']} threads")
    if machine.get("memory GiB"):
        words.append(f"{machine['memory GiB']} GiB")
    if gpus:
        words.append(f"{gpus[0]} x{len(gpus)}")
    if machine.get("machines"):
        words.append(f"{machine['machines']} machines")
    return ", ".join(words)


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value in ``one``, value in ``other``) of what is not the same."""
    names = dict.fromkeys([*one, *other])
    pairs = ((name, shown(one.get(name)), shown(other.get(name))) for name in names)
    return [(name, a, b) for name, a, b in pairs if a != b]


def items(value: Any) -> Sequence[Any]:
    """``value`` where it is a list; of anything else in a damaged file, nothing."""
    return value if isinstance(value, list | tuple) else ()


def number(value: Any) -> Any:
    """``value`` where it is a number that may have been measured, else ``None``."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return value if usable and -_MOST < value < _MOST else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
