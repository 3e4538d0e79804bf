"""The processes that the flags describe, and what each of them does.

    distributed_replicated, collective_all_reduce   workers are equals; worker 0 writes
    parameter_server, distributed_all_reduce        one process coordinates, all others serve it

The coordinator is the controller where there is one, otherwise worker 0.
"""

from __future__ import annotations

import dataclasses
import socket

from trainbench.cnn.flags.params import RUN_FILES, ParamError, Params
from trainbench.distribution.cluster import Cluster, Member, check_addresses, members_of
from trainbench.errors import ConfigError

COORDINATED = ("parameter_server", "distributed_all_reduce")
"""Updates where one process computes on the devices of all the others."""

_HOSTS = {"worker": "worker_hosts", "ps": "ps_hosts", "controller": "controller_host"}
_ONE_WRITER = (*RUN_FILES, "benchmark_log_dir", "result_json", "ml_perf_compliance_logging")
"""What only the chief writes."""


def cluster_of(params: Params) -> Cluster | None:
    """The cluster that ``params`` describe; ``None`` for a single process.

    Raises:
        ParamError: a role without hosts, an index beyond them, a malformed address.
    """
    if not params.job_name:
        return None
    named = {
        "worker": members_of("worker", _addresses(params.worker_hosts)),
        "ps": members_of("ps", _addresses(params.ps_hosts)),
        "controller": members_of("chief", filter(None, [params.controller_host])),
    }
    _check(params, named)
    members = named["worker"]
    if params.variable_update == "parameter_server":
        members += named["ps"]
    if is_coordinated(params):
        members += named["controller"]
    me = named[params.job_name][params.task_index]
    cluster = Cluster(me, members, protocol=params.server_protocol)
    lends = params.job_name == "ps" or (is_coordinated(params) and not cluster.is_chief)
    return dataclasses.replace(cluster, is_serving=lends)


def is_coordinated(params: Params) -> bool:
    """Whether one process computes on the devices of the others."""
    return params.variable_update in COORDINATED


def own_files(params: Params, cluster: Cluster | None) -> Params:
    """``params`` without the files that another process writes."""
    return params if cluster is None or cluster.is_chief else params.without(*_ONE_WRITER)


def place_of(params: Params) -> float:
    """Where in the data this process starts, as a share of all of it: task / workers."""
    workers = len(_addresses(params.worker_hosts))
    return params.task_index / workers if params.job_name == "worker" and workers else 0.0


def with_chief(cluster: Cluster) -> dict[str, list[str]]:
    """``jobs`` with the coordinator under an address where TensorFlow may listen."""
    jobs = cluster.jobs()
    if "chief" not in jobs:
        # Worker 0 serves as well as coordinates: its own address is taken by its server.
        host = cluster.chief.address.rpartition(":")[0]
        with socket.socket() as free:
            free.bind(("", 0))
            jobs["chief"] = [f"{host}:{free.getsockname()[1]}"]
    return jobs


def _check(params: Params, named: dict[str, tuple[Member, ...]]) -> None:
    job, index = params.job_name, params.task_index
    if not named["worker"]:
        raise ParamError(f"--job_name={job} requires --worker_hosts=HOST:PORT,HOST:PORT")
    if job == "controller" and not (is_coordinated(params) and named["controller"]):
        wanted = "--controller_host" if is_coordinated(params) else "a variable_update with one"
        raise ParamError(f"--job_name=controller requires {wanted}: {' or '.join(COORDINATED)}")
    if params.variable_update == "parameter_server" and not named["ps"]:
        raise ParamError("variable_update=parameter_server requires --ps_hosts=HOST:PORT")
    count = len(named[job])
    if not 0 <= index < count:
        raise ParamError(
            f"--task_index={index}: --{_HOSTS[job]} names {count} "
            f"process{'es' if count != 1 else ''}, so it is 0 to {count - 1} at most"
        )
    try:
        check_addresses([member for members in named.values() for member in members])
    except ConfigError as error:
        raise ParamError(str(error)) from None


def _addresses(hosts: str) -> list[str]:
    return [part.strip() for part in hosts.split(",") if part.strip()]
