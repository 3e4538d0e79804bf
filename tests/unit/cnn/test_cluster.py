"""Roles, addresses and places of the processes of a run."""

from __future__ import annotations

import json
import socket
import time

import pytest
from processes import wait_until

from trainbench import cnn
from trainbench.cnn.cluster import cluster_of, own_files, place_of, with_chief
from trainbench.cnn.flags.params import ParamError
from trainbench.distribution import liveness
from trainbench.distribution.cluster import Cluster, Member
from trainbench.errors import MachineError

TWO = {"worker_hosts": "a:1,b:1", "ps_hosts": "c:1", "controller_host": "d:1"}
COLLECTIVE = {"variable_update": "collective_all_reduce", "all_reduce_spec": "collective"}
DRIVEN = {"variable_update": "distributed_all_reduce", "all_reduce_spec": "pscpu"}


def cluster(job: str = "worker", index: int = 0, **values: object) -> Cluster:
    flags = {**TWO, "job_name": job, "task_index": index, **values}
    found = cluster_of(cnn.make_params(**flags))
    assert found is not None
    return found


def test_without_a_job_name_there_is_one_process() -> None:
    assert cluster_of(cnn.make_params(**TWO)) is None


@pytest.mark.parametrize(
    ("job", "index", "values", "task", "jobs"),
    [
        ("worker", 1, COLLECTIVE, {"type": "worker", "index": 1}, {"worker": ["a:1", "b:1"]}),
        ("worker", 0, {"variable_update": "distributed_replicated"},
         {"type": "worker", "index": 0}, {"worker": ["a:1", "b:1"]}),
        ("ps", 0, {"controller_host": None}, {"type": "ps", "index": 0},
         {"worker": ["a:1", "b:1"], "ps": ["c:1"]}),
        ("controller", 0, DRIVEN, {"type": "chief", "index": 0},
         {"worker": ["a:1", "b:1"], "chief": ["d:1"]}),
    ],
)  # fmt: skip
def test_the_flags_become_tf_config(
    job: str, index: int, values: dict, task: dict, jobs: dict
) -> None:
    found = json.loads(cluster(job, index, **values).tf_config())
    assert found == {"cluster": jobs, "task": task, "rpc_layer": "grpc"}


@pytest.mark.parametrize(
    ("job", "index", "values", "chief", "serving", "needed"),
    [
        ("worker", 0, COLLECTIVE, True, False, ["worker 1 (b:1)"]),
        ("worker", 1, COLLECTIVE, False, False, ["worker 0 (a:1)"]),
        ("worker", 0, {"controller_host": None}, True, False,
         ["worker 1 (b:1)", "parameter server 0 (c:1)"]),
        ("worker", 1, {"controller_host": None}, False, True, ["worker 0 (a:1)"]),
        ("worker", 0, {}, False, True, ["controller (d:1)"]),
        ("ps", 0, {}, False, True, ["controller (d:1)"]),
        ("controller", 0, DRIVEN, True, False, ["worker 0 (a:1)", "worker 1 (b:1)"]),
        ("worker", 1, DRIVEN, False, True, ["controller (d:1)"]),
    ],
)  # fmt: skip
def test_one_process_prints_and_each_knows_whom_it_needs(
    job: str, index: int, values: dict, chief: bool, serving: bool, needed: list[str]
) -> None:
    found = cluster(job, index, **values)
    assert (found.is_chief, found.is_serving) == (chief, serving)
    assert [str(member) for member in found.needed()] == needed


def test_only_the_chief_has_files_to_write() -> None:
    files = {
        "train_dir": "/t", "trace_file": "/t/x", "result_json": "/t/r", "benchmark_log_dir": "/b",
    }  # fmt: skip
    for index, kept in ((0, True), (1, False)):
        params = cnn.make_params(job_name="worker", task_index=index, **TWO, **COLLECTIVE, **files)
        own = own_files(params, cluster("worker", index, **COLLECTIVE))
        assert [bool(getattr(own, name)) for name in files] == [kept] * 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"worker_hosts": ""}, "--job_name=worker requires --worker_hosts=HOST:PORT"),
        ({"task_index": 2}, "--task_index=2: --worker_hosts names 2 processes, so it is 0 to 1"),
        ({"job_name": "ps", "task_index": 1}, "--ps_hosts names 1 process, so it is 0 to 0"),
        ({"worker_hosts": "a,b:1"}, "worker 0: 'a' is a malformed address; wanted HOST:PORT"),
        ({"worker_hosts": "a:1,b:70000"}, "worker 1: 'b:70000' is a malformed address"),
        ({"worker_hosts": "a:1,b:0"}, "worker 1: 'b:0' is a malformed address"),
        ({"controller_host": "d:1,e:1"}, "controller: 'd:1,e:1' is a malformed address"),
        ({"worker_hosts": "a:1,a:1"}, "worker 1: a:1 is the address of worker 0 as well"),
        ({"ps_hosts": "a:1"}, "parameter server 0: a:1 is the address of worker 0 as well"),
        ({"ps_hosts": ""}, "variable_update=parameter_server requires --ps_hosts"),
        ({"job_name": "controller", **COLLECTIVE}, "--job_name=controller requires"),
    ],
)  # fmt: skip
def test_a_cluster_that_cannot_be_is_refused(values: dict, message: str) -> None:
    flags = {**TWO, "job_name": "worker", **values}
    with pytest.raises(ParamError) as raised:
        cluster_of(cnn.make_params(**flags))
    assert message in str(raised.value)


def test_worker_3_of_4_starts_three_quarters_into_the_data() -> None:
    hosts = "a:1,b:1,c:1,d:1"
    for index, wanted in ((0, 0.0), (3, 0.75)):
        params = cnn.make_params(job_name="worker", task_index=index, worker_hosts=hosts)
        assert place_of(params) == wanted
    assert place_of(cnn.make_params(worker_hosts=hosts)) == 0.0


def test_the_process_that_drives_listens_where_it_may() -> None:
    assert with_chief(cluster("controller", **DRIVEN))["chief"] == ["d:1"]
    (address,) = with_chief(cluster(controller_host=None))["chief"]
    host, port = address.split(":")
    assert host == "a"
    assert int(port) > 1


def watched(address: str, timeout_s: float) -> tuple[liveness.Liveness, list[MachineError]]:
    found = cluster(**COLLECTIVE, worker_hosts=f"here:1,{address}")
    errors: list[MachineError] = []
    return liveness.Liveness(
        found, timeout_s=timeout_s, option="--wait", lost=errors.append
    ), errors


def first_of(errors: list[MachineError]) -> str:
    wait_until(lambda: errors)
    return str(errors[0])


def test_a_process_that_never_comes_is_named_after_the_stated_time() -> None:
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        address = f"localhost:{unused.getsockname()[1]}"
        looking, errors = watched(address, timeout_s=0.3)
        looking.start()
        said = first_of(errors)
    assert said.startswith(f"worker 0: worker 1 ({address}) did not answer within 0.3 s; start it")
    assert errors[0].exit_code == 6


def test_a_process_that_answered_once_and_does_no_more_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "PROBE_INTERVAL_S", 0.05)
    monkeypatch.setattr(liveness, "LOST_AFTER_S", 0.2)
    server = socket.create_server(("localhost", 0))
    address = f"localhost:{server.getsockname()[1]}"
    looking, errors = watched(address, timeout_s=60)
    looking.start().wait()
    assert not errors
    server.close()
    assert first_of(errors).startswith(f"worker 0: worker 1 ({address}) is gone; look at its own")


def test_a_silence_before_the_watch_is_armed_is_not_a_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Between meeting and joining, a worker closes one port and opens it again.
    monkeypatch.setattr(liveness, "PROBE_INTERVAL_S", 0.02)
    monkeypatch.setattr(liveness, "LOST_AFTER_S", 0.05)
    with socket.create_server(("localhost", 0)) as server:
        looking, errors = watched(f"localhost:{server.getsockname()[1]}", timeout_s=60)
        looking.start(armed=False).wait()
    time.sleep(0.2)
    assert errors == []
    looking.arm()
    assert "is gone" in first_of(errors)


def test_a_watch_that_has_stopped_lets_the_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "PROBE_INTERVAL_S", 0.02)
    monkeypatch.setattr(liveness, "LOST_AFTER_S", 0.05)
    with socket.create_server(("localhost", 0)) as server:
        looking, errors = watched(f"localhost:{server.getsockname()[1]}", timeout_s=60)
        looking.start().wait()
        looking.stop()
    time.sleep(0.3)
    assert errors == []


def test_an_error_of_tensorflow_is_put_down_to_the_process_that_does_not_answer() -> None:
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        address = f"localhost:{unused.getsockname()[1]}"
        found = cluster(**COLLECTIVE, worker_hosts=f"here:1,{address}")
        error = liveness.blame(found, RuntimeError("Socket closed\nmore"))
    assert str(error).startswith(f"worker 0: worker 1 ({address}) is gone (RuntimeError); look at")
    assert Member("worker", 1, address) == found.needed()[0]


def test_a_process_that_hangs_with_its_port_open_is_named_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "LOST_AFTER_S", 0.2)
    with (
        socket.create_server(("localhost", 0)) as hangs,
        socket.create_server(("localhost", 0)) as ended,
    ):
        ports = [server.getsockname()[1] for server in (hangs, ended)]
        ended.close()
        hosts = f"here:1,localhost:{ports[0]},localhost:{ports[1]}"
        error = liveness.blame(cluster(**COLLECTIVE, worker_hosts=hosts), RuntimeError())
    assert str(error).startswith(
        f"worker 0: worker 1 (localhost:{ports[0]}), worker 2 (localhost:{ports[1]}) are gone"
    )
