"""NCF on several machines: real processes that meet on this one, and containers on a network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from checkout import CHECKOUT
from processes import DEAD_PROXY, PATIENCE_S, free_addresses, wait_until

from trainbench.ncf.benchmark import NCF
from trainbench.ncf.proof.prove import prove
from trainbench.reporting.collect import collect
from trainbench.reporting.page.render import markdown
from trainbench.trials.paths import DataDir, RunDir

SCRIPT = CHECKOUT / "examples" / "multi_machine" / "run.sh"
SMALL = {
    "synthetic": "203x121x6000",
    "eval_negatives": "30",
    "mf_dim": "8",
    "mlp_layer_sizes": "16,8",
    "batch_size": "512",
    "steps_per_call": "8",
    "eval_users_per_batch": "32",
    "division": "open",
    "drop_caches": "false",
    "devices": "cpu",
    "xla": "false",
    "target_hit_rate": "0.999",
    "max_epochs": "2",
}
TRAINED, FAILED, USAGE, NOT_REACHED, MACHINE = 0, 1, 2, 4, 6
READ: dict[str, Any] = {"capture_output": True, "text": True}


def words(data: Path, command: str, *more: str, **settings: str) -> list[str]:
    changed = {**SMALL, **settings}
    line = [sys.executable, "-m", "trainbench", command, "--data-dir", str(data)]
    return [*line, "--preset=quick", *(f"--set={k}={v}" for k, v in changed.items()), *more]


def tf_config(addresses: list[str], index: int) -> str:
    return json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    )


def start_worker(
    data: Path, log: Path, addresses: list[str], index: int, *more: str, **settings: str
) -> subprocess.Popen[bytes]:
    """A worker at a site with a proxy, which must not come between it and the others."""
    environment = {**os.environ, **DEAD_PROXY, "TF_CONFIG": tf_config(addresses, index)}
    with open(log, "wb") as out:
        return subprocess.Popen(
            words(data, "train", *more, **settings),
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def epochs(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.trial(0).epochs.read_text().splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machines")
    for step in ("download", "preprocess"):
        subprocess.run(words(folder, step), check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def one(data: Path) -> RunDir:
    done = subprocess.run(
        words(data, "train", "--seed=5"), check=False, capture_output=True, text=True
    )
    assert done.returncode == NOT_REACHED, done.stderr[-3_000:]
    assert "below the target 0.999" in done.stderr
    step = json.loads((data / "steps.jsonl").read_text().splitlines()[-1])
    assert step["exit_code"] == NOT_REACHED
    return RunDir(DataDir(data).latest.resolve())


def kill_trial(parent: subprocess.Popen[bytes]) -> None:
    """Kill the process that trains for ``parent``, as the kernel does when memory is short."""
    (trial,) = psutil.Process(parent.pid).children()
    trial.send_signal(signal.SIGKILL)


@dataclass(frozen=True)
class CutOff:
    """How a worker ended whose peer, at ``address``, was killed."""

    code: int
    text: str
    address: str
    run: RunDir


@pytest.fixture(scope="module")
def cut_off(data: Path, logs: Path) -> dict[int, CutOff]:
    """By the worker that was killed in the middle of training."""
    return {killed: cut_off_by(data, logs, killed) for killed in (0, 1)}


def cut_off_by(data: Path, logs: Path, killed: int) -> CutOff:
    addresses = free_addresses(2)
    log = [logs / f"killed_{killed}_{index}" for index in (0, 1)]
    workers = [
        start_worker(data, log[index], addresses, index, "--seed=5", max_epochs="1000000")
        for index in (0, 1)
    ]
    try:
        wait_until(lambda: "epoch 1/" in log[0].read_text(), process=workers[0])
        kill_trial(workers[killed])
        code = workers[1 - killed].wait(timeout=PATIENCE_S)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait(timeout=PATIENCE_S)
    run = RunDir(DataDir(data).latest.resolve())
    return CutOff(code, log[1 - killed].read_text(), addresses[killed], run)


@pytest.fixture(scope="module")
def two(data: Path, logs: Path, one: RunDir, cut_off: dict[int, CutOff]) -> RunDir:
    """Two workers in the folders of two that were cut off before."""
    addresses = free_addresses(2)
    workers = [
        start_worker(data, logs / f"{index}", addresses, index, "--seed=5") for index in (0, 1)
    ]
    codes = [worker.wait(timeout=PATIENCE_S) for worker in workers]
    text = "".join((logs / f"{index}").read_text()[-3_000:] for index in (0, 1))
    assert codes == [NOT_REACHED, TRAINED], text
    run = RunDir(DataDir(data).latest.resolve())
    assert run.root != one.root
    return run


def test_two_machines_train_as_one_does(one: RunDir, two: RunDir) -> None:
    alone, together = epochs(one), epochs(two)
    assert len(alone) == len(together) == 2
    for expected, found in zip(alone, together, strict=True):
        assert found["epoch_sha256"] == expected["epoch_sha256"]
        assert found["mean_loss"] == pytest.approx(expected["mean_loss"], rel=1e-5)
        assert found["hits"] == expected["hits"]
        assert found["users"] == expected["users"] == 203
        assert found["first_batch_sha256"] == expected["first_batch_sha256"]
        assert expected["traffic"] is None
        assert found["traffic"]["rows_per_step"] > 0


def test_the_weights_of_divided_tables_are_those_of_one_machine(one: RunDir, two: RunDir) -> None:
    expected, found = (np.load(run.trial(0).model / "weights.npz") for run in (one, two))
    assert set(found) == set(expected)
    for name in expected:
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(
            found[name], expected[name], rtol=0, atol=1e-3 * size, err_msg=name
        )


def test_the_hits_of_divided_tables_are_proved(data: Path, two: RunDir) -> None:
    proof = prove(two, two.trial(0), DataDir(data))
    assert (proof.proved, proof.hits) == (True, epochs(two)[-1]["hits"])


def test_what_two_workers_sent_is_in_the_report(two: RunDir) -> None:
    page = markdown(collect(two, NCF))
    assert "Sent to other workers in a step" in page
    sent = {epoch["traffic"]["dense_bytes_per_step"] for epoch in epochs(two)}
    # The gradients of two layers and the loss: a half goes, and the sum of the other.
    layers = 16 * 8 + 8 + (8 + 8) + 1
    assert sent == {4 * (layers + 1)}


def test_a_worker_makes_the_half_of_every_batch(two: RunDir) -> None:
    flags = (two.trial(0).generator_log).read_text()
    assert "first_slice=0, num_slices=32" in flags


def test_only_the_chief_writes_results_and_the_worker_its_spec_and_log(
    data: Path, one: RunDir, two: RunDir, cut_off: dict[int, CutOff]
) -> None:
    runs = [one, two, *(found.run for found in cut_off.values())]
    made = {path.name for path in DataDir(data).runs.iterdir()}
    assert made == {"latest", *(run.root.name for run in runs)}
    status = json.loads(two.trial(0).status.read_text())
    assert status["device"] == "2 x CPU, 2 workers"
    assert json.loads(two.trial(0).system.read_text())["workers"] == 2
    written = {path.name for path in (data / "workers").iterdir()}
    assert written == {"worker_1.json", "worker_1.log"}
    assert "epoch 2  hr@10" in (data / "workers" / "worker_1.log").read_text()


@pytest.mark.parametrize("killed", [0, 1])
def test_a_worker_that_is_killed_ends_the_other_with_its_name(
    cut_off: dict[int, CutOff], killed: int
) -> None:
    found = cut_off[killed]
    assert found.code == MACHINE, found.text[-3_000:]
    said = f"worker {1 - killed}: worker {killed} ({found.address}) is gone"
    told = [line for line in found.text.splitlines() if line.startswith(f"error: {said}")]
    assert told, found.text[-3_000:]
    if killed == 1:
        status = json.loads(found.run.trial(0).status.read_text())
        assert (status["state"], status["exit_code"]) == ("failed", MACHINE)
        assert status["message"].startswith(said)


def test_a_worker_that_never_comes_is_named_after_the_stated_time(data: Path, logs: Path) -> None:
    addresses, log = free_addresses(2), logs / "alone"
    worker = start_worker(data, log, addresses, 0, "--seed=5", "--join-timeout-s=3")
    assert worker.wait(timeout=PATIENCE_S) == MACHINE, log.read_text()
    said = f"worker 0: worker 1 ({addresses[1]}) did not answer within 3.0 s; start it"
    assert f"error: {said}" in log.read_text()
    assert "(--join-timeout-s waits longer)" in log.read_text()
    status = json.loads(RunDir(DataDir(data).latest.resolve()).trial(0).status.read_text())
    assert (status["state"], status["exit_code"]) == ("failed", MACHINE)
    assert status["message"].startswith(said)


def test_a_trial_that_diverges_on_all_machines_does_not_keep_them_from_the_next(
    data: Path, logs: Path
) -> None:
    addresses, log = free_addresses(2), [logs / f"diverges_{index}" for index in (0, 1)]
    more = ("--seed=5", "--runs=2", "--join-timeout-s=60")
    workers = [
        start_worker(data, log[index], addresses, index, *more, learning_rate="1e38")
        for index in (0, 1)
    ]
    try:
        codes = [worker.wait(timeout=PATIENCE_S) for worker in workers]
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait(timeout=PATIENCE_S)
    told = [path.read_text()[-3_000:] for path in log]
    assert codes == [FAILED, FAILED], "".join(told)
    run = RunDir(DataDir(data).latest.resolve())
    found = [json.loads(trial.status.read_text()) for trial in run.trials]
    assert [(one["state"], one["exit_code"]) for one in found] == [("failed", FAILED)] * 2
    assert all("the loss is nan" in one["message"] for one in found)
    assert "every trial failed" in told[0]
    assert "trial 0: the worker ended with exit code 1" in told[1]
    assert "worker 1, trial 2 of 2" in told[1]


def test_a_replay_on_divided_tables_is_the_run(data: Path, two: RunDir) -> None:
    changed = {"devices": "all", "cpu_devices": "2", "max_epochs": "1"}
    done = subprocess.run(
        words(data, "train", "--seed=5", **changed), check=False, capture_output=True, text=True
    )
    assert done.returncode == NOT_REACHED, done.stderr[-3_000:]
    run = RunDir(DataDir(data).latest.resolve())
    (first,), others = epochs(run), epochs(two)
    assert first["mean_loss"] == pytest.approx(others[0]["mean_loss"], rel=1e-5)
    line = [sys.executable, "-m", "trainbench", "replay", str(run.root), "--data-dir", str(data)]
    again = subprocess.run(line, check=False, capture_output=True, text=True)
    assert again.returncode == TRAINED, again.stdout[-2_000:] + again.stderr[-2_000:]
    refused = subprocess.run([*line[:4], str(two.root), *line[5:]], check=False, **READ)
    assert refused.returncode == USAGE
    assert "ran on 2 machines; only trials of one machine are replayed" in refused.stderr


@pytest.fixture
def docker_data(tmp_path: Path) -> Path:
    done = subprocess.run(
        ["docker", "image", "inspect", "trainbench-train:local"], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("no Docker engine with trainbench-train:local (scripts/run.sh builds it)")
    return tmp_path


@pytest.mark.docker
def test_two_containers_train_as_one_process_does(docker_data: Path, one: RunDir) -> None:
    settings = " ".join(f"{key}={value}" for key, value in SMALL.items())
    done = subprocess.run(
        [str(SCRIPT), "--seed=5"],
        env={**os.environ, "DATA_DIR": str(docker_data), "SETTINGS": settings, "PRESET": "quick"},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == NOT_REACHED, done.stdout[-2_000:] + done.stderr[-2_000:]
    together = epochs(RunDir(DataDir(docker_data).latest.resolve()))
    for expected, found in zip(epochs(one), together, strict=True):
        assert found["mean_loss"] == pytest.approx(expected["mean_loss"], rel=1e-5)
        assert found["hits"] == expected["hits"]
