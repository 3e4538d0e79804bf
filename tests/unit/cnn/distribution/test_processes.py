"""Runs of several processes: what they compute, who prints, who writes, and how they end."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import process_runs
import pytest
from closed_form import DECAY, IMAGES, RATE, expected
from cnn_standins import losses
from process_runs import started
from processes import DEAD_PROXY

MOMENTUM = {"optimizer": "momentum", "weight_decay": DECAY, "init_learning_rate": RATE}
COLLECTIVE = {"variable_update": "collective_all_reduce", "all_reduce_spec": "collective"}
CONTROLLED = {"variable_update": "distributed_all_reduce", "all_reduce_spec": "pscpu:2k:xring"}
ENDLESS = {"num_batches": 10**6, "display_every": 10}
# Batches of two images: worker 0 begins at the first image, worker 1 in the middle.
INTERLEAVED = np.arange(16).reshape(2, 4, 2).transpose(1, 0, 2).ravel()


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of one process with as many devices and the same images in each step."""
    folder = tmp_path_factory.mktemp("alone")
    flags = {**MOMENTUM, "variable_update": "replicated", "num_gpus": 2}
    found = losses(process_runs.alone(folder, order=INTERLEAVED, **flags))
    assert len(found) == 4
    return found


@pytest.fixture(scope="module")
def equals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two workers that are equals: what they printed, and what they wrote."""
    folder = tmp_path_factory.mktemp("equals")
    with started(folder, "worker0", "worker1", **files(folder), **MOMENTUM, **COLLECTIVE) as runs:
        runs.require({"worker0": 0, "worker1": 0})
    return folder


def files(folder: Path) -> dict[str, str]:
    return {"train_dir": str(folder / "kept"), "result_json": str(folder / "result.json")}


def test_workers_that_are_equals_lose_what_one_process_loses(
    equals: Path, one_process: list[float]
) -> None:
    first, second = ((equals / f"worker{i}.log").read_text() for i in range(2))
    for text in (first, second):
        np.testing.assert_allclose(losses(text), one_process, rtol=1e-5)
        assert len(totals(text)) == 1


def test_worker_0_alone_writes_and_all_resume_with_its_values(equals: Path, tmp_path: Path) -> None:
    flags = {**MOMENTUM, **COLLECTIVE, **files(equals), "num_batches": 6}
    written = (equals / "result.json").stat().st_mtime_ns
    with started(tmp_path, "worker0", "worker1", **flags) as runs:
        runs.require({"worker0": 0, "worker1": 0})
    resumed = [losses(runs.text(role)) for role in ("worker0", "worker1")]
    # Worker 1 was told of no folder: it has the step and the values from worker 0.
    assert [len(each) for each in resumed] == [2, 2]
    assert resumed[0] == resumed[1]
    names = sorted(path.name for path in (equals / "kept").glob("*.index"))
    assert names == ["model.ckpt-4.index", "model.ckpt-6.index"]
    assert (equals / "result.json").stat().st_mtime_ns > written


def test_workers_that_are_driven_lose_what_one_process_loses(
    tmp_path: Path, one_process: list[float]
) -> None:
    roles = ("controller0", "worker0", "worker1")
    with started(tmp_path, *roles, **MOMENTUM, **CONTROLLED) as runs:
        runs.require(dict.fromkeys(roles, 0))
    np.testing.assert_allclose(losses(runs.text("controller0")), one_process, rtol=1e-5)
    assert "Starting worker 1" in runs.text("worker1")
    said = [totals(runs.text(role)) for role in roles]
    # What serves prints the coordinator's total, and no steps.
    assert said == [said[0]] * 3
    assert len(said[0]) == 1
    assert not losses(runs.text("worker0") + runs.text("worker1"))


@pytest.mark.parametrize("update", [COLLECTIVE, CONTROLLED])
def test_processes_meet_past_a_proxy_that_nothing_comes_through(
    update: dict[str, str], tmp_path: Path
) -> None:
    roles = ["worker0", "worker1", *(["controller0"] if update is CONTROLLED else [])]
    with started(tmp_path, *roles, env=DEAD_PROXY, **MOMENTUM, **update) as runs:
        runs.require(dict.fromkeys(roles, 0))


def test_distributed_replicated_applies_each_workers_mean_in_turn(tmp_path: Path) -> None:
    update = {"variable_update": "distributed_replicated", "num_gpus": 2}
    with started(tmp_path, "worker0", "worker1", "ps0", **MOMENTUM, **update) as runs:
        runs.require(dict.fromkeys(("worker0", "worker1", "ps0"), 0))
    assert "Running parameter server 0" in runs.text("ps0")
    wanted = in_turn(steps=4, devices=2)
    for role in ("worker0", "worker1"):
        np.testing.assert_allclose(losses(runs.text(role)), wanted, rtol=1e-5)


def totals(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"^total images/sec: ([\d.]+)$", text, re.M)]


def in_turn(*, steps: int, devices: int) -> list[float]:
    """The losses, in float64 from the rules: a mean for each worker, one update after the other."""
    value, velocity, reported = np.array([1.0, 2.0]), np.zeros(2), []
    for step in range(steps):
        grads, total = [], 0.0
        for worker in range(2):
            first = 8 * worker + step * devices * 2
            x = np.take(IMAGES, range(first, first + devices * 2), mode="wrap").mean()
            # The L2 term stands on the last device, times their number: once in the mean.
            grads.append(x * value[::-1] + DECAY * value)
            total += x * value.prod() + DECAY * (value**2).sum() / 2
        reported.append(total / 2)
        for grad in grads:
            velocity = 0.9 * velocity + grad
            value = value - RATE * (grad + 0.9 * velocity)
    return reported


def test_one_worker_with_a_parameter_server_loses_what_one_process_loses(tmp_path: Path) -> None:
    flags = {**MOMENTUM, "variable_update": "parameter_server", "num_gpus": 2}
    with started(tmp_path, "worker0", "ps0", workers=1, **flags) as runs:
        runs.require({"worker0": 0, "ps0": 0})
    wanted = expected("momentum", "mean", "total_loss")
    np.testing.assert_allclose(losses(runs.text("worker0")), wanted, rtol=1e-5)


@pytest.mark.parametrize("sync", [True, False])
def test_a_parameter_server_applies_every_workers_gradient_once(tmp_path: Path, sync: bool) -> None:
    # The sum does not depend on the order, which nothing decides.
    roles = ("worker0", "worker1", "ps0") + (() if sync else ("controller0",))
    with started(
        tmp_path, *roles, standin="slope", variable_update="parameter_server", weight_decay=0,
        init_learning_rate=RATE, cross_replica_sync=sync, train_dir=str(tmp_path / "kept"),
        save_summaries_steps=2, summary_verbosity=3,
    ) as runs:  # fmt: skip
        coordinator = "worker0" if sync else "controller0"
        runs.require(dict.fromkeys(roles, 0))
    assert len(losses(runs.text(coordinator))) == 4
    assert {len(totals(runs.text(role))) for role in roles} == {1}
    applied = sum(IMAGES.reshape(-1, 2).mean(axis=1))
    found = process_runs.kept(tmp_path / "kept", "a/kernel")
    np.testing.assert_allclose(found, 1 - RATE * applied, rtol=1e-5)


@pytest.mark.parametrize(
    ("roles", "flags", "victim", "named"),
    [
        (("worker0", "worker1"), COLLECTIVE, "worker1", "worker 1"),
        (("worker0", "worker1", "ps0"), {"variable_update": "parameter_server"}, "ps0",
         "parameter server 0"),
        (("worker0", "worker1", "controller0"), CONTROLLED, "controller0", "controller"),
        (("worker0", "worker1", "controller0"), CONTROLLED, "worker1", "worker 1"),
    ],
)  # fmt: skip
def test_a_process_that_is_killed_ends_the_others_with_its_name(
    tmp_path: Path, roles: tuple[str, ...], flags: dict, victim: str, named: str
) -> None:
    printing = "controller0" if "controller0" in roles else "worker0"
    with started(tmp_path, *roles, **MOMENTUM, **flags, **ENDLESS) as runs:
        runs.wait_for(printing, "images/sec:")
        runs.kill(victim)
        runs.require({role: -9 if role == victim else 6 for role in roles})
    last = runs.text(printing if printing != victim else "worker1").splitlines()[-1]
    assert last.startswith("error: ")
    assert f"{named} (127.0.0.1:" in last
    assert "is gone" in last


def test_a_worker_that_fails_by_itself_says_why_and_ends_the_others(tmp_path: Path) -> None:
    flags = {**MOMENTUM, **COLLECTIVE, **ENDLESS}
    with started(tmp_path, "worker0", "worker1", standin="ending", **flags) as runs:
        runs.require({"worker0": 6, "worker1": 1})
    assert "the input ended before the run did" in runs.text("worker1")
    assert "worker 0: worker 1 (127.0.0.1:" in runs.text("worker0").splitlines()[-1]


@pytest.mark.parametrize("flags", [COLLECTIVE, {"variable_update": "parameter_server"}])
def test_a_process_that_never_comes_is_named_after_the_stated_time(
    tmp_path: Path, flags: dict
) -> None:
    roles = ("worker0", "ps0") if "parameter_server" in flags.values() else ("worker0",)
    with started(tmp_path, *roles, **MOMENTUM, **flags, cluster_timeout_s=2) as runs:
        runs.require({"worker0": 6})
    last = runs.text("worker0").splitlines()[-1]
    assert re.search(r"worker 0: worker 1 \(127.0.0.1:\d+\) did not answer within 2.0 s", last)


@pytest.mark.parametrize(
    ("roles", "flags"),
    [
        (("worker0", "worker1"), {**COLLECTIVE, "num_gpus": 2}),
        (("worker0", "worker1"), {"variable_update": "distributed_replicated"}),
        (("controller0", "worker0", "worker1"), CONTROLLED),
    ],
)
def test_the_reductions_of_several_processes_are_timed(
    tmp_path: Path, roles: tuple[str, ...], flags: dict
) -> None:
    with started(tmp_path, *roles, **flags, reduces=True, num_batches=2) as runs:
        runs.require(dict.fromkeys(roles, 0))
    printed = [len(re.findall(r"Average time per step: [0-9.]+", runs.text(r))) for r in roles]
    assert printed == [1] + [0] * (len(roles) - 1)
