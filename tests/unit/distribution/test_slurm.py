"""Slurm's variables are a cluster; what is no step of several tasks is none."""

from __future__ import annotations

import pytest

from trainbench.distribution.slurm import Step, cluster_of, expanded, step_of
from trainbench.errors import ConfigError

TASK = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "3",
    "SLURM_PROCID": "1",
    "SLURM_NODEID": "0",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
}


def step(above: str = "slurmstepd: [12.3]", **changed: str) -> Step | None:
    return step_of({**TASK, **changed}, lambda: iter(["bash", above]))


def ask(words: tuple[str, ...]) -> str:
    if words[1] == "hostnames":
        return "no-such-host-1\nno-such-host-2\n"
    return "".join(
        f"NodeName=no-such-host-{n} Arch=x86_64 NodeAddr=10.0.0.{n} Port=1\n" for n in (1, 2)
    )


def test_each_task_is_a_worker_at_a_port_of_its_own() -> None:
    found = step()
    assert found
    cluster = cluster_of(found, ask)
    assert [m.address for m in cluster.members] == [
        "10.0.0.1:20792",
        "10.0.0.1:20793",
        "10.0.0.2:20794",
    ]
    assert cluster.me.index == 1
    other = step(SLURM_JOB_ID="13", above="slurmstepd: [13.3]")
    assert other
    assert other.first_port != found.first_port


@pytest.mark.parametrize("tasks", [2, 8, 9, 32, 100, 7_000])
def test_steps_at_one_time_of_as_many_tasks_have_ports_of_their_own(tasks: int) -> None:
    near = max(1000 // tasks, 1) if tasks > 8 else 20
    apart = [
        Step(job, number, rank=0, count=tasks, node=0, nodes="n1", tasks=(tasks,)).first_port
        for job in range(4_711, 4_711 + min(near, 20))
        for number in range(min(8, 8000 // tasks))
    ]
    ports = [port for first in apart for port in range(first, first + tasks)]
    assert len(set(ports)) == len(ports)
    assert set(ports) <= set(range(20_000, 28_000))


def test_a_task_without_a_step_is_alone() -> None:
    assert step_of({}) is None
    batch = {k: v for k, v in TASK.items() if not k.startswith("SLURM_STEP")}
    assert step_of(batch) is None
    assert step(SLURM_STEP_NUM_TASKS="1") is None


@pytest.mark.parametrize("above", ["slurmstepd: [12.batch]", "slurmstepd: [15.batch]"])
def test_a_batch_script_that_inherited_a_step_is_in_none(above: str) -> None:
    assert step(above) is None


def test_tasks_that_go_round_the_nodes_are_found_and_another_order_is_refused() -> None:
    round_robin = step(SLURM_DISTRIBUTION="cyclic", SLURM_NODEID="1")
    assert round_robin
    addresses = [m.address for m in cluster_of(round_robin, ask).members]
    assert [a.partition(":")[0] for a in addresses] == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    unknown = step(SLURM_NODEID="1")
    assert unknown
    with pytest.raises(ConfigError, match="order that is not known"):
        cluster_of(unknown, ask)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SLURM_PROCID", "x"), ("SLURM_STEP_TASKS_PER_NODE", "many"), ("SLURM_NODEID", "")],
)
def test_a_variable_that_is_no_number_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}="):
        step(**{name: value})


def test_a_list_of_nodes_is_expanded_without_scontrol() -> None:
    assert expanded("n[1-3,05],m7,r[08-10]-ib") == [
        *("n1", "n2", "n3", "n05", "m7"),
        *("r08-ib", "r09-ib", "r10-ib"),
    ]
    with pytest.raises(ConfigError, match="cannot be read without scontrol"):
        expanded("rack[1-2]node[1-4]")
