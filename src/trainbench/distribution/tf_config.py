"""The machines of a run: what ``TF_CONFIG`` says, without TensorFlow.

Each machine runs one worker, the same command with the same cluster and another index; worker 0 is
the chief.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainbench.errors import ConfigError, MachineError

JOIN_TIMEOUT_S = 300.0

WANTED = (
    'wanted {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": N}}; '
    "see docs/multi_machine.md"
)
_ADDRESS = re.compile(r"[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


@dataclass(frozen=True)
class Cluster:
    """``workers``: an address (host:port) each; ``index``: which of them this process is."""

    workers: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the results and judges."""
        return self.index == 0

    @property
    def own_name(self) -> str:
        """What messages call this worker."""
        return f"worker {self.index} of {len(self.workers)} ({self.workers[self.index]})"


def missing(cluster: Cluster, timeout_s: float) -> MachineError:
    """The error of a worker that has waited ``timeout_s`` for the others."""
    return MachineError(
        f"{cluster.own_name}: the workers were not all there after {timeout_s:.0f} s "
        f"({', '.join(cluster.workers)}); start the same command on every machine, and see that "
        "they reach each other at these addresses"
    )


def require_equal(what: str, values: Sequence[bytes]) -> None:
    """A ``MachineError`` that says who has what unless all workers have the same value."""
    if len(set(values)) > 1:
        found = ", ".join(f"worker {i} {value.hex()[:12]}" for i, value in enumerate(values))
        raise MachineError(
            f"the workers differ in {what}: {found}; start all of them with the same code, "
            "dataset, settings and --seed"
        )


def from_tf_config(text: str) -> Cluster | None:
    """The cluster that ``text``, the value of TF_CONFIG, describes; ``None`` for one machine.

    A ``chief`` job counts as the first worker.

    Raises:
        ConfigError: the text is not such a description, with what is wrong.
    """
    if not text.strip():
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"TF_CONFIG is not JSON ({error}); {WANTED}") from None
    jobs, task = _parts(found)
    workers = (*jobs.get("chief", ()), *jobs.get("worker", ()))
    _check_addresses(workers)
    index = _index(task, jobs)
    return Cluster(workers, index) if len(workers) > 1 else None


def _parts(found: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(found, dict):
        raise ConfigError(f"TF_CONFIG is {type(found).__name__}; {WANTED}")
    jobs, task = found.get("cluster"), found.get("task")
    if not isinstance(jobs, dict) or not isinstance(task, dict):
        missing = "cluster" if not isinstance(jobs, dict) else "task"
        raise ConfigError(f"TF_CONFIG has no {missing!r} object; {WANTED}")
    other = sorted(set(jobs) - {"chief", "worker"})
    if other:
        raise ConfigError(f"TF_CONFIG has the job {other[0]!r}; NCF trains with workers only")
    for job, addresses in jobs.items():
        if not isinstance(addresses, list):
            raise ConfigError(f"TF_CONFIG: {job} is {addresses!r}; {WANTED}")
    return jobs, task


def _check_addresses(workers: tuple[Any, ...]) -> None:
    if not workers:
        raise ConfigError(f"TF_CONFIG names no worker; {WANTED}")
    for address in workers:
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            raise ConfigError(f"TF_CONFIG: worker {address!r} is not HOST:PORT")
    if len(set(workers)) != len(workers):
        raise ConfigError(f"TF_CONFIG names a worker twice: {', '.join(workers)}")


def _index(task: dict[str, Any], jobs: dict[str, Any]) -> int:
    job, index = task.get("type"), task.get("index")
    if job not in jobs:
        raise ConfigError(f"TF_CONFIG: task type {job!r} is not a job of the cluster; {WANTED}")
    # Some schedulers write the number as a string.
    number = int(index) if isinstance(index, int | str) and str(index).isdigit() else -1
    if not 0 <= number < len(jobs[job]):
        raise ConfigError(
            f"TF_CONFIG: task index {index!r} is not one of the {len(jobs[job])} {job}(s)"
        )
    return number + (len(jobs.get("chief", ())) if job == "worker" else 0)
