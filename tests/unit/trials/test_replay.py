"""A trial run again: what has to be equal, where, and what names a difference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from run_dir import change

from trainbench.benchmark import Repeated, find, load
from trainbench.errors import (
    ConfigError,
    DataIntegrityError,
    MachineError,
    ReplayDiffersError,
)
from trainbench.machine import system
from trainbench.trials.paths import DataDir, RunDir
from trainbench.trials.replay import Difference, compare, replay
from trainbench.trials.spec import SetSpec
from trainbench.trials.trial_set import run_set

FIELDS = Repeated(inputs=("sha256",), results=("hits", "loss"), share=("hits", "users"))
EPOCHS = [{"sha256": f"{n}", "hits": 100 + n, "users": 1_000, "loss": 0.5} for n in range(3)]


def compared(exact: bool, *epochs: dict[str, Any]) -> list[Difference]:
    return list(compare(EPOCHS[: len(epochs)], epochs, FIELDS, exact=exact))


@pytest.fixture
def run(toy: None, tmp_path: Path) -> RunDir:
    """Two toy trials whose seeds are from the system's entropy."""
    benchmark, data = find("toy"), DataDir(tmp_path / "data")
    data.root.mkdir()
    config = benchmark.with_settings(benchmark.preset("easy"), ["learning_rate=0.2"])
    load(benchmark.download)(config, data, None)
    load(benchmark.prepare)(config, data)
    return run_set(SetSpec(benchmark, config, data, runs=2))


def data_of(run: RunDir) -> DataDir:
    return DataDir(run.root.parents[1])


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_logged_seed_repeats_a_trial_of_a_set_without_a_seed(run: RunDir) -> None:
    data, seed = data_of(run), json.loads(run.trial(1).status.read_text())["seed"]
    again, found = replay(run, run.trial(1), data=data, epochs=None, command=["replay"])
    assert (found.same, found.differences, found.other_kind) == (True, (), ())
    assert lines_of(again.trial(0).epochs) == lines_of(run.trial(1).epochs)
    assert json.loads(again.trial(0).status.read_text())["seed"] == seed
    epochs = "1 epoch" if found.epochs == 1 else f"{found.epochs} epochs"
    assert str(found).splitlines() == [
        f"replay of trial 1 of run {run.root.name}, seed {seed}, {epochs}",
        "equal: points_sha256, r2",
    ]
    found.require_same()


def test_a_replay_says_that_it_is_one_and_is_not_the_latest_run(run: RunDir) -> None:
    again, found = replay(run, run.trial(0), data=data_of(run), epochs=1, command=["replay"])
    record = json.loads(again.run_file.read_text())
    assert record["replays"]["run_id"] == run.root.name
    assert record["replays"]["trial"] == 0
    status = json.loads(again.trial(0).status.read_text())
    assert "replay" in [note["code"] for note in status["degraded"]]
    assert ' degraded: "replay"\n' in again.trial(0).compliance_raw.read_text()
    assert data_of(run).latest.resolve() == run.root
    assert (found.epochs, len(lines_of(again.trial(0).epochs))) == (1, 1)
    assert json.loads(again.replay.read_text())["same"] is True


def test_another_seed_result_or_data_is_found_also_from_a_copy(run: RunDir, tmp_path: Path) -> None:
    copy = RunDir(tmp_path / "copy")
    shutil.copytree(run.root, copy.root)
    change(
        copy.trial(0).status,
        seed=str(int(json.loads(copy.trial(0).status.read_text())["seed"]) + 1),
    )
    _, found = replay(copy, copy.trial(0), data=data_of(run), epochs=1, command=[])
    with pytest.raises(ReplayDiffersError, match=r"otherwise: epoch 0: r2 is .*, recorded"):
        found.require_same()
    changed = [{**line, "points_sha256": "0"} for line in lines_of(copy.trial(1).epochs)]
    copy.trial(1).epochs.write_text("".join(json.dumps(line) + "\n" for line in changed))
    _, found = replay(copy, copy.trial(1), data=data_of(run), epochs=1, command=[])
    with pytest.raises(ReplayDiffersError, match=r"points_sha256 is [0-9a-f]{64}, recorded is 0"):
        found.require_same()
    change(copy.cache_record, points=199)
    with pytest.raises(ReplayDiffersError, match=r"data \(points\) is 200, recorded is 199"):
        replay(copy, copy.trial(0), data=data_of(run), epochs=1, command=[])


def test_another_machine_is_named_with_what_differs(run: RunDir) -> None:
    path = run.trial(0).system
    record = json.loads(path.read_text())
    record["cpu"]["model"] = "Another CPU"
    record["packages"]["numpy"] = "1.0"
    del record["cpu"]["instruction_sets"]
    path.write_text(json.dumps(record))
    changed = [{**line, "r2": 0.123} for line in lines_of(run.trial(0).epochs)]
    run.trial(0).epochs.write_text("".join(json.dumps(line) + "\n" for line in changed))
    _, found = replay(run, run.trial(0), data=data_of(run), epochs=1, command=[])
    here = system.record(git={})
    assert f"cpu model: Another CPU, here {here['cpu']['model']}" in found.other_kind
    assert f"numpy: 1.0, here {here['packages']['numpy']}" in found.other_kind
    assert any(
        text.startswith("cpu instruction sets: not recorded, here") for text in found.other_kind
    )
    assert found.differences[0].allowed == "another kind of machine"
    assert found.same


def test_what_cannot_be_replayed_is_refused_before_anything_runs(
    run: RunDir, tmp_path: Path
) -> None:
    data = data_of(run)
    with pytest.raises(ConfigError, match="--epochs 99: the trial has"):
        replay(run, run.trial(0), data=data, epochs=99, command=[])
    elsewhere = DataDir(tmp_path / "elsewhere")
    wanted = "trainbench toy download --data-dir .* --preset easy .*--set learning_rate=0.2"
    with pytest.raises(MachineError, match=f"run prepare first. For this run: {wanted}"):
        replay(run, run.trial(0), data=elsewhere, epochs=None, command=[])
    run.trial(0).epochs.write_text('{"epoch": 0, "r2": 0.5}\n')
    with pytest.raises(DataIntegrityError, match="no hash of the input to compare with"):
        replay(run, run.trial(0), data=data, epochs=None, command=[])
    change(run.run_file, benchmark="resnet")
    with pytest.raises(ConfigError, match="a run of resnet, which is not replayed"):
        replay(run, run.trial(0), data=data, epochs=None, command=[])
    assert len(list(data.runs.glob("2*"))) == 1


def test_input_has_to_be_equal_on_every_machine() -> None:
    other = {**EPOCHS[0], "sha256": "x", "loss": 0.6}
    for exact in (True, False):
        first = compared(exact, other)[0]
        assert (first.field, first.allowed) == ("sha256", "")


def test_results_have_to_be_equal_on_the_same_kind_of_machine_only() -> None:
    other = {**EPOCHS[1], "loss": 0.5000001}
    (exact,) = compared(True, EPOCHS[0], other)
    assert (exact.epoch, exact.field, exact.allowed) == (1, "loss", "")
    (elsewhere,) = compared(False, EPOCHS[0], other)
    assert elsewhere.allowed == "another kind of machine"
    assert compared(True, *EPOCHS) == []


@pytest.mark.parametrize(("hits", "allowed"), [(101, True), (153, True), (154, False), (46, False)])
def test_elsewhere_hits_may_differ_by_four_standard_errors(hits: int, allowed: bool) -> None:
    """sqrt(2 * 1000 * 0.1 * 0.9) is 13.4, four of which are 53.7."""
    (difference,) = compared(False, {**EPOCHS[0], "hits": hits})
    assert bool(difference.allowed) == allowed
    assert compared(True, {**EPOCHS[0], "hits": hits})[0].allowed == ""


def test_an_epoch_that_is_missing_and_a_field_that_was_not_recorded() -> None:
    (missing,) = compare(EPOCHS, EPOCHS[:2], FIELDS, exact=True)
    assert str(missing) == "epoch 2: epoch is missing, recorded is there"
    old = [{"hits": 100, "users": 1_000}]
    assert list(compare(old, EPOCHS, FIELDS, exact=True)) == []
    assert compared(True, {"hits": 100, "users": 1_000, "loss": 0.5})[0].field == "sha256"
