"""Workers of the CNN benchmark in containers on a private network, as on machines of their own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from checkout import CHECKOUT
from processes import DEAD_PROXY, PATIENCE_S, wait_until

IMAGE = "trainbench-train:local"
FLAGS = (
    "--device=cpu --model=trivial --data_name=cifar10 --batch_size=4 --num_warmup_batches=1 "
    "--variable_update=collective_all_reduce --all_reduce_spec=collective --display_every=1 "
    "--job_name=worker --cluster_timeout_s=120"
)
pytestmark = pytest.mark.docker

Start = Callable[..., list[Any]]


@pytest.fixture
def start(client: docker.DockerClient) -> Iterator[Start]:
    """Starts two machines with the same flags; they and their network do not outlive the test."""
    name = f"trainbench-{uuid.uuid4().hex[:8]}"
    network = client.networks.create(name, driver="bridge", internal=True)
    machines: list[Any] = []

    def both(*flags: str) -> list[Any]:
        hosts = ",".join(f"{name}-{index}:2222" for index in range(2))
        common = [*FLAGS.split(), f"--worker_hosts={hosts}", *flags]
        for index in range(2):
            machine = client.containers.run(
                IMAGE,
                ["python", "-m", "trainbench", "cnn", *common, f"--task_index={index}"],
                # The engine's own name service knows containers by their names.
                name=f"{name}-{index}",
                network=name,
                environment=DEAD_PROXY,
                volumes=[f"{CHECKOUT}:/workspace:ro"],
                detach=True,
            )
            machines.append(machine)
        return machines

    yield both
    for machine in machines:
        machine.remove(force=True)
    network.remove()


def step_losses(text: str) -> list[str]:
    rows = (line.split() for line in text.splitlines())
    return [row[8] for row in rows if len(row) >= 9 and row[1] == "images/sec:"]


def test_two_machines_step_together_and_each_prints_the_total(start: Start) -> None:
    machines = start("--num_batches=5")
    codes = [machine.wait(timeout=PATIENCE_S)["StatusCode"] for machine in machines]
    first, second = (machine.logs().decode() for machine in machines)
    assert codes == [0, 0], first + second
    assert len(step_losses(first)) == 5
    assert step_losses(first) == step_losses(second)
    assert (first.count("total images/sec:"), second.count("total images/sec:")) == (1, 1)
    assert "Batch size:  8 global" in first


def test_a_machine_that_is_killed_ends_the_other(start: Start) -> None:
    first, second = start("--num_batches=1000000")
    wait_until(lambda: "images/sec:" in first.logs().decode())
    second.kill()
    code = first.wait(timeout=PATIENCE_S)["StatusCode"]
    last = first.logs().decode().splitlines()[-1]
    assert code == 6
    assert last.startswith(f"error: worker 0: worker 1 ({second.name}:2222) is gone")
