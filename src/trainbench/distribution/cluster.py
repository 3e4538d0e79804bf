"""The processes of a run: who they are, where they listen, and TF_CONFIG, which says both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainbench.errors import ConfigError
from trainbench.files import parse_json

WANTED = (
    'wanted {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": N}}; '
    "see docs/multi_machine.md"
)
# A host that is an IPv6 address stands in brackets, or its last part would pass for the port.
_ADDRESS = re.compile(r"([^\s:/\[\]]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")
_GRPC_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_ROLES = {"worker": "worker {}", "ps": "parameter server {}", "chief": "controller"}


@dataclass(frozen=True)
class Member:
    """One process: its job and its number in it, as TensorFlow counts them, and HOST:PORT."""

    job: str
    index: int
    address: str

    @property
    def role(self) -> str:
        """What messages call it: ``worker 0``, ``parameter server 1``, ``controller``."""
        return _ROLES[self.job].format(self.index)

    @property
    def host_and_port(self) -> tuple[str, int]:
        """The address as sockets take it."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)

    def __str__(self) -> str:
        return f"{self.role} ({self.address})"


@dataclass(frozen=True)
class Cluster:
    """The processes of a run, seen from one of them.

    Attributes:
        me: this process.
        members: all processes, this one among them, in the order of their jobs and numbers.
        is_serving: whether this one only lends its devices to the chief.
        protocol: between TensorFlow's servers.
    """

    me: Member
    members: tuple[Member, ...]
    is_serving: bool = False
    protocol: str = "grpc"

    @property
    def num_workers(self) -> int:
        """Workers, which share the samples of a step."""
        return sum(member.job == "worker" for member in self.members)

    @property
    def chief(self) -> Member:
        """The process that writes the results: the controller if there is one, or worker 0."""
        controllers = [member for member in self.members if member.job == "chief"]
        return (*controllers, *self.members)[0]

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the results."""
        return self.me == self.chief

    def needed(self) -> tuple[Member, ...]:
        """The other processes that this one cannot go on without."""
        if self.is_serving:
            return (self.chief,)
        return tuple(member for member in self.members if member != self.me)

    def jobs(self) -> dict[str, list[str]]:
        """Job to addresses, as TensorFlow's cluster specification has them."""
        jobs: dict[str, list[str]] = {}
        for member in self.members:
            jobs.setdefault(member.job, []).append(member.address)
        return jobs

    def tf_config(self) -> str:
        """The value of TF_CONFIG for this process."""
        task = {"type": self.me.job, "index": self.me.index}
        return json.dumps({"cluster": self.jobs(), "task": task, "rpc_layer": self.protocol})


def past_proxies(cluster: Cluster, env: Mapping[str, str]) -> dict[str, str]:
    """What ``env`` lacks for the processes to reach each other where a proxy is set.

    TensorFlow's servers speak gRPC, which sends everything through the proxy of the environment,
    loopback included. A proxy for the web refuses that, and TensorFlow waits without an end. What
    is exempt gRPC reads from ``no_grpc_proxy``, or else from ``no_proxy``: the first is changed,
    since the second is everybody's. Set it before TensorFlow is imported.
    """
    if not any(env.get(name) for name in _GRPC_PROXIES):
        return {}
    before = env.get("no_grpc_proxy") or env.get("no_proxy") or env.get("NO_PROXY") or ""
    listed = [part.strip() for part in before.split(",") if part.strip()]
    hosts = (member.host_and_port[0] for member in cluster.members)
    return {"no_grpc_proxy": ",".join(dict.fromkeys([*listed, *hosts]))}


def members_of(job: str, addresses: Iterable[str]) -> tuple[Member, ...]:
    """The processes of ``job``, numbered in the order of their ``addresses``."""
    return tuple(Member(job, index, address) for index, address in enumerate(addresses))


def cluster_of_workers(addresses: Iterable[str], index: int) -> Cluster:
    """Workers that are equals, seen from number ``index``; worker 0 is the chief."""
    members = members_of("worker", addresses)
    return Cluster(members[index], members)


def check_addresses(members: Sequence[Member]) -> None:
    """A ``ConfigError`` that names the process whose address is malformed or another's, too."""
    owners: dict[str, Member] = {}
    for member in members:
        address: Any = member.address
        found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if not found or not 0 < int(found[2]) < 65536:
            raise ConfigError(
                f"{member.role}: {address!r} is a malformed address; wanted HOST:PORT, with a port "
                "from 1 to 65535 and an IPv6 address in brackets"
            )
        if address in owners:
            raise ConfigError(
                f"{member.role}: {address} is the address of {owners[address].role} as well; give "
                "each process a port of its own"
            )
        owners[address] = member


def from_tf_config(text: str) -> Cluster | None:
    """The workers that ``text``, the value of TF_CONFIG, describes; ``None`` for one machine.

    A ``chief`` job counts as the first worker.

    Raises:
        ConfigError: the text is not such a description, with what is wrong.
    """
    if not text.strip():
        return None
    try:
        found = parse_json(text)
    except ValueError as error:
        raise ConfigError(f"TF_CONFIG is not JSON ({error}); {WANTED}") from None
    jobs, task = _parts(found)
    addresses = (*jobs.get("chief", ()), *jobs.get("worker", ()))
    if not addresses:
        raise ConfigError(f"TF_CONFIG names no worker; {WANTED}")
    try:
        check_addresses(members_of("worker", addresses))
    except ConfigError as error:
        raise ConfigError(f"TF_CONFIG: {error}") from None
    index = _index(task, jobs)
    return cluster_of_workers(addresses, index) if len(addresses) > 1 else None


def _parts(found: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(found, dict):
        raise ConfigError(f"TF_CONFIG is {type(found).__name__}; {WANTED}")
    for name in ("cluster", "task"):
        if not isinstance(found.get(name), dict):
            raise ConfigError(f"TF_CONFIG has no {name!r} object; {WANTED}")
    jobs, task = found["cluster"], found["task"]
    other = sorted(set(jobs) - {"chief", "worker"})
    if other:
        raise ConfigError(f"TF_CONFIG has the job {other[0]!r}; only workers can train together")
    for job, addresses in jobs.items():
        if not isinstance(addresses, list):
            raise ConfigError(f"TF_CONFIG: {job} is {addresses!r}; {WANTED}")
    return jobs, task


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
