"""The processes of a run: what each of them does and where it listens.

    distributed_replicated, collective_all_reduce   workers are peers; worker 0 writes and prints
    parameter_server, distributed_all_reduce        one process drives, all others serve it

The one that drives is the controller where there is one, otherwise worker 0.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trainbench.cnn.flags.params import ParamError, Params

DRIVEN = ("parameter_server", "distributed_all_reduce")
"""Updates where one process computes on the devices of all the others."""

_ADDRESS = re.compile(r"\S+:(\d{1,5})")
_ONE_WRITER = {
    "train_dir": None,
    "trace_file": "",
    "tfprof_file": None,
    "graph_file": None,
    "partitioned_graph_file_prefix": None,
    "benchmark_log_dir": None,
    "result_json": None,
    "ml_perf_compliance_logging": False,
}
"""What only the chief writes, with the value that asks for nothing."""


@dataclass(frozen=True)
class Member:
    """One process: its role as it is printed, and host:port."""

    role: str
    address: str

    def __str__(self) -> str:
        return f"{self.role} ({self.address})"


@dataclass(frozen=True)
class Cluster:
    """The processes of a run, seen from one of them.

    Attributes:
        job, index: which of them this is.
        update: how gradients are combined, ``--variable_update``.
        protocol: between TensorFlow's servers.
    """

    job: str
    index: int
    update: str
    workers: tuple[str, ...]
    servers: tuple[str, ...] = ()
    controller: str | None = None
    protocol: str = "grpc"

    @classmethod
    def of(cls, params: Params) -> Cluster | None:
        """The cluster that ``params`` describe; ``None`` for a single process.

        Raises:
            ParamError: a role without hosts, an index beyond them, a malformed address.
        """
        if not params.job_name:
            return None
        cluster = cls(
            params.job_name,
            params.task_index,
            params.variable_update,
            _addresses(params, "worker_hosts"),
            _addresses(params, "ps_hosts"),
            params.controller_host or None,
            params.server_protocol,
        )
        cluster._check()
        return cluster

    @property
    def num_workers(self) -> int:
        """Workers, which share the images of a step."""
        return len(self.workers)

    @property
    def is_driven(self) -> bool:
        """Whether one process computes on the devices of the others."""
        return self.update in DRIVEN

    @property
    def chief(self) -> Member:
        """The process that prints and writes; where workers are equals, worker 0."""
        if self.is_driven and self.controller:
            return Member("controller", self.controller)
        return Member("worker 0", self.workers[0])

    @property
    def is_chief(self) -> bool:
        """Whether this process prints the totals and writes the files."""
        return self.me == self.chief

    @property
    def is_serving(self) -> bool:
        """Whether this process only lends its devices."""
        return self.job == "ps" or (self.is_driven and not self.is_chief)

    @property
    def me(self) -> Member:
        """This process."""
        if self.job == "controller":
            return Member("controller", self.controller or "")
        hosts = self.workers if self.job == "worker" else self.servers
        name = "worker" if self.job == "worker" else "parameter server"
        return Member(f"{name} {self.index}", hosts[self.index])

    def needed(self) -> tuple[Member, ...]:
        """The other processes that this one cannot go on without."""
        workers = [Member(f"worker {i}", host) for i, host in enumerate(self.workers)]
        servers = [Member(f"parameter server {i}", host) for i, host in enumerate(self.servers)]
        if not self.is_driven:
            return tuple(member for member in workers if member != self.me)
        if self.is_serving:
            return (self.chief,)
        used = servers if self.update == "parameter_server" else []
        return tuple(member for member in [*workers, *used] if member != self.me)

    def jobs(self) -> dict[str, list[str]]:
        """Job to addresses, as TensorFlow's cluster specification has them."""
        jobs = {"worker": list(self.workers)}
        if self.update == "parameter_server":
            jobs["ps"] = list(self.servers)
        return jobs

    def tf_config(self) -> str:
        """The value of TF_CONFIG for this process."""
        jobs = self.jobs()
        if self.is_driven and self.controller:
            jobs["chief"] = [self.controller]
        job = "chief" if self.job == "controller" else self.job
        task = {"type": job, "index": self.index}
        return json.dumps({"cluster": jobs, "task": task, "rpc_layer": self.protocol})

    def own(self, params: Params) -> Params:
        """``params`` without the files that another process writes."""
        return params if self.is_chief else params.replace(**_ONE_WRITER)

    def places(self, params: Params) -> Iterator[Params]:
        """``params`` of each worker that this process feeds, by its place in the data."""
        if not self.is_driven:
            yield params
            return
        for index in range(self.num_workers):
            yield params.replace(job_name="worker", task_index=index)

    def _check(self) -> None:
        if not self.workers:
            raise ParamError(f"--job_name={self.job} requires --worker_hosts=HOST:PORT,HOST:PORT")
        if self.job == "controller" and not (self.is_driven and self.controller):
            wanted = "--controller_host" if self.is_driven else "a variable_update that it drives"
            raise ParamError(f"--job_name=controller requires {wanted}: {' or '.join(DRIVEN)}")
        if self.update == "parameter_server" and not self.servers:
            raise ParamError("variable_update=parameter_server requires --ps_hosts=HOST:PORT")
        flags = {"worker": "worker_hosts", "ps": "ps_hosts", "controller": "controller_host"}
        hosts = {"worker": self.workers, "ps": self.servers, "controller": (self.controller,)}
        count = len(hosts[self.job])
        if not 0 <= self.index < count:
            raise ParamError(
                f"--task_index={self.index}: --{flags[self.job]} names {count} "
                f"process{'es' if count != 1 else ''}, so it is 0 to {count - 1} at most"
            )
        self._check_addresses()

    def _check_addresses(self) -> None:
        every = [*self.workers, *self.servers, *([self.controller] if self.controller else [])]
        for address in every:
            found = _ADDRESS.fullmatch(address)
            if not found or not 0 < int(found[1]) < 65536:
                raise ParamError(f"{address}: not an address; processes are named as HOST:PORT")
        if len(set(every)) < len(every):
            twice = next(address for address in every if every.count(address) > 1)
            raise ParamError(f"{twice}: named for two processes; give each a port of its own")


def with_chief(cluster: Cluster) -> dict[str, list[str]]:
    """``jobs`` with the driving process under an address where TensorFlow may listen."""
    address = cluster.controller
    if address is None:
        # Worker 0 serves as well as drives: its own address is taken by its server.
        host = cluster.workers[0].rpartition(":")[0]
        with socket.socket() as free:
            free.bind(("", 0))
            address = f"{host}:{free.getsockname()[1]}"
    return {**cluster.jobs(), "chief": [address]}


def place_of(params: Params) -> float:
    """Where in the data this process starts, as a share of all of it (task / workers)."""
    workers = len(_addresses(params, "worker_hosts"))
    return params.task_index / workers if params.job_name == "worker" and workers else 0.0


def _addresses(params: Any, flag: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in getattr(params, flag).split(",") if part.strip())
