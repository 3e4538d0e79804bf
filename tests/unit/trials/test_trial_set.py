"""A set of trials: what is continued, what starts anew, and what ends the set."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from run_dir import change

from trainbench.benchmark import find, load
from trainbench.errors import (
    ConfigError,
    DataIntegrityError,
    TargetNotReachedError,
    TrainbenchError,
)
from trainbench.trials import chain
from trainbench.trials.paths import DataDir, RunDir, TrialDir
from trainbench.trials.spec import SetSpec, TrialSpec, benchmark_of
from trainbench.trials.status import Status, read_status
from trainbench.trials.trial_set import require_target, run_set, trial_seed

MakeSet = Callable[..., SetSpec]


@pytest.fixture
def make_set(toy: None, tmp_path: Path) -> MakeSet:
    """A set of toy trials whose data is there; ``settings`` change its configuration."""
    benchmark = find("toy")

    def make_set(*settings: str, **given: object) -> SetSpec:
        config = benchmark.with_settings(benchmark.preset("easy"), ["drop_caches=false", *settings])
        data = DataDir(tmp_path)
        for step in (benchmark.download, benchmark.prepare):
            arguments = (config, data, None) if step == benchmark.download else (config, data)
            load(step)(*arguments)
        spec = SetSpec(benchmark, config, data, **{"seed": 3, **given})  # type: ignore[arg-type]
        return spec

    return make_set


def status_of(run: RunDir, index: int) -> Status:
    return read_status(run.trial(index).status, find("toy").quality)


def states(spec: SetSpec) -> list[str | None]:
    run = spec.data.run(spec.data.latest.resolve().name)
    return [status_of(run, index).state for index in range(spec.runs)]


def test_each_trial_has_a_seed_of_its_own_and_finished_ones_are_left_alone(
    make_set: MakeSet,
) -> None:
    spec = make_set(runs=3)
    run = run_set(spec)
    found = [status_of(run, index).seed for index in range(3)]
    assert found == [str(trial_seed(3, index)) for index in range(3)]
    assert len(set(found)) == 3
    assert "epoch 1" in run.trial(0).stdout.read_text()
    (run.trial(2).status).unlink()
    before = run.trial(0).status.stat().st_mtime_ns
    assert run_set(spec) == run
    assert run.trial(0).status.stat().st_mtime_ns == before
    assert states(spec) == ["converged"] * 3


def test_a_trial_is_its_spec_file(make_set: MakeSet) -> None:
    run = run_set(make_set(runs=1))
    written = json.loads(run.trial(0).spec.read_text())
    assert written["entry"] == "trainbench.trials.child:trial"
    spec = TrialSpec.from_json(written["arguments"])
    assert (spec.benchmark, spec.index, spec.seed) == ("toy", 0, trial_seed(3, 0))
    assert benchmark_of(run).name == "toy"


def test_seeds_are_text_in_every_json_file_and_numbers_are_still_read(make_set: MakeSet) -> None:
    spec = make_set(runs=2)
    run, wanted = run_set(spec), str(trial_seed(3, 1))
    assert json.loads(run.run_file.read_text())["seed"] == "3"
    assert json.loads(run.trial(1).status.read_text())["seed"] == wanted
    assert json.loads(run.trial(1).spec.read_text())["arguments"]["seed"] == wanted
    assert f" seed: {wanted}\n" in run.trial(1).compliance_raw.read_text()
    change(run.run_file, seed=3)
    change(run.trial(0).status, seed=int(wanted))
    assert status_of(run, 0).seed == wanted
    run.trial(1).status.unlink()
    assert run_set(spec) == run


@pytest.mark.parametrize("other", [{"runs": 1}, {"seed": None}, {"fresh": True}])
def test_an_interrupted_set_is_continued_only_by_the_same_request(
    make_set: MakeSet, other: dict[str, object]
) -> None:
    spec = make_set(runs=2)
    run = run_set(spec)
    run.trial(1).status.unlink()
    assert run_set(replace(spec, **other)) != run  # type: ignore[arg-type]


def test_another_configuration_begins_a_new_run(make_set: MakeSet) -> None:
    spec = make_set(runs=1)
    run = run_set(spec)
    run.trial(0).status.unlink()
    assert run_set(make_set("learning_rate=0.2", runs=1)) != run


def test_a_trial_that_was_cut_off_starts_anew_beside_its_remains(make_set: MakeSet) -> None:
    spec = make_set(runs=1)
    run = run_set(spec)
    run.trial(0).status.write_text('{"state": "running"}')
    assert run_set(spec) == run
    assert status_of(run, 0).state == "converged"
    remains = run.root / "trial_0.aborted-0" / "status.json"
    assert json.loads(remains.read_text()) == {"state": "running"}


def test_remains_are_numbered_above_the_highest_whatever_was_deleted(make_set: MakeSet) -> None:
    spec = make_set(runs=1)
    run = run_set(spec)
    for name in ("0", "2", "10", "kept", "2b"):
        (run.root / f"trial_0.aborted-{name}").mkdir()
    (run.root / "trial_0.aborted-0").rmdir()
    run.trial(0).status.write_text('{"state": "running"}')
    assert run_set(spec) == run
    remains = run.root / "trial_0.aborted-11" / "status.json"
    assert json.loads(remains.read_text()) == {"state": "running"}


def test_a_trial_that_ended_has_its_sums_and_they_hold(make_set: MakeSet) -> None:
    run = run_set(make_set(runs=2))
    sums = chain.of_run(run)
    assert sums.breaks == ()
    assert sums.without == ()
    ended = ("status.json", "compliance_raw.log", "clock.jsonl", "stdout.log", "spec.json")
    assert {f"trial_1/{name}" for name in ended} <= sums.equal


def test_a_trial_that_was_killed_before_its_sums_is_run_again(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_set(runs=1)

    def killed(run: RunDir, trial: TrialDir) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(chain, "seal_trial", killed)
        with pytest.raises(KeyboardInterrupt):
            run_set(spec)
    run = spec.data.run(spec.data.latest.resolve().name)
    assert status_of(run, 0).state == "converged"
    assert [b.rule for b in chain.of_run(run).breaks] == ["chain/missing"]
    assert run_set(spec) == run
    assert chain.of_run(run).breaks == ()
    assert (run.root / "trial_0.aborted-0").is_dir()


def test_a_run_of_an_earlier_version_is_continued_without_sums(make_set: MakeSet) -> None:
    spec = make_set(runs=2)
    run = run_set(spec)
    record = json.loads(run.run_file.read_text())
    del record["chain"]
    run.run_file.write_text(json.dumps(record))
    for trial in run.trials:
        trial.chain.unlink()
    run.trial(1).status.unlink()
    assert run_set(spec) == run
    assert chain.of_run(run).sentence == "no chain: not checked"


def test_a_process_that_dies_is_a_failed_trial_with_its_signal(make_set: MakeSet) -> None:
    run = run_set(make_set("ends=killed", runs=1))
    status = status_of(run, 0)
    assert status.state == "failed"
    assert "signal 9 (often the kernel, out of memory" in str(status.message)
    with pytest.raises(TrainbenchError, match="every trial failed"):
        require_target(run, find("toy").quality)


def test_two_busy_loops_beside_a_trial_mark_it(make_set: MakeSet) -> None:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        run = run_set(make_set(runs=1))
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    (text,) = [d.text for d in status_of(run, 0).degraded or () if d.code == "busy_machine"]
    assert re.match(
        r"the machine was busy: while the clock ran, other processes took \d", text or ""
    )


def test_a_failure_that_the_next_trial_would_share_ends_the_set(make_set: MakeSet) -> None:
    spec = make_set("ends=damaged", runs=2)
    with pytest.raises(DataIntegrityError, match="trial 0 failed: points"):
        run_set(spec)
    assert states(spec) == ["failed", None]


def test_a_target_that_no_trial_reached_is_named_with_the_best(make_set: MakeSet) -> None:
    run = run_set(make_set("target_r2=1.1", runs=1))
    with pytest.raises(TargetNotReachedError, match=r"best R2 0\.9\d* is below the target 1\.1"):
        require_target(run, find("toy").quality)


def test_a_run_of_a_benchmark_that_is_not_installed_is_refused_by_name(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.run_file.write_text('{"benchmark": "chess"}')
    with pytest.raises(ConfigError, match="unknown benchmark 'chess'"):
        benchmark_of(run)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null"])
def test_a_run_that_names_no_benchmark_is_of_that_of_its_logs_or_of_ncf(
    tmp_path: Path, text: str
) -> None:
    run = RunDir(tmp_path)
    run.run_file.write_text(text)
    assert benchmark_of(run).name == "ncf"
    run.results("system", "resnet").mkdir(parents=True)
    assert benchmark_of(run).name == "resnet"
