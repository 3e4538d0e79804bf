from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from run_dir import SYSTEM_NAME, build_run, change

from trainbench.paths import RunDir
from trainbench.report.collect import collect
from trainbench.report.judge import judge, verdict


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return build_run(tmp_path / "run", trials=2)


def test_one_trial_at_its_target_is_enough(run: RunDir) -> None:
    change(run.trial(1).status, state="not_converged")
    assert verdict(collect(run)) == 0
    assert judge(collect(run)).headline == "Target reached in 1 of 2 trials"


def test_no_trial_at_its_target_exits_4(run: RunDir) -> None:
    for trial in run.trials:
        change(trial.status, state="not_converged")
    assert verdict(collect(run)) == 4


@pytest.mark.parametrize("state", ["failed", "aborted", "interrupted", "running", "unheard of"])
def test_a_trial_that_did_not_finish_exits_1_whatever_the_others_did(
    run: RunDir, state: str
) -> None:
    change(run.trial(1).status, state=state)
    assert verdict(collect(run)) == 1
    assert "1 did not finish" in judge(collect(run)).headline


def test_a_missing_trial_exits_1(run: RunDir) -> None:
    change(run.run_file, runs=3)
    assert verdict(collect(run)) == 1


def test_a_run_without_trials_exits_1(run: RunDir) -> None:
    for trial in run.trials:
        shutil.rmtree(trial.root)
    assert verdict(collect(run)) == 1
    assert judge(collect(run)).headline == "No trial finished"


def test_logs_that_were_never_stitched_are_not_compliant(run: RunDir) -> None:
    shutil.rmtree(run.root / "results")
    assert verdict(collect(run)) == 5


def test_one_trial_without_a_log_is_not_compliant(run: RunDir) -> None:
    (run.results(SYSTEM_NAME) / "result_1.txt").unlink()
    assert verdict(collect(run)) == 5


def test_a_level_2_finding_exits_5_even_at_the_target(run: RunDir) -> None:
    log = run.results(SYSTEM_NAME) / "result_0.txt"
    log.write_text(log.read_text().replace("run_clear_caches", "run_cleared_caches"))
    assert verdict(collect(run)) == 5
    assert judge(collect(run)).headline == "Target reached in 2 of 2 trials, not compliant"


def test_strict_findings_do_not_change_the_exit_code(run: RunDir) -> None:
    results = collect(run)
    assert judge(results).level_findings["strict"]
    assert verdict(results) == 0
