from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from run_dir import SYSTEM_NAME, build_run, change, seal, write_raw

from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.junit import junit
from trainbench.reporting.page.render import html
from trainbench.reporting.summary import summary
from trainbench.reporting.verdict import judge
from trainbench.trials.paths import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return build_run(tmp_path / "run", trials=2)


def test_one_trial_at_its_target_is_enough(tmp_path: Path) -> None:
    found = judge(collect(build_run(tmp_path / "run", trials=2, short=(1,)), NCF))
    assert found.exit_code == 0
    assert found.headline == "Target reached in 1 of 2 trials"


def test_no_trial_at_its_target_exits_4(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", trials=2, short=(0, 1))
    assert judge(collect(run, NCF)).exit_code == 4


def test_the_log_decides_whether_the_target_was_reached(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", trials=1, short=(0,))
    change(run.trial(0).status, state="converged", time_to_train_s=1.0)
    results = collect(run, NCF)
    assert not results.trials[0].reached
    assert results.trials[0].time_s is None
    assert judge(results).exit_code == 5
    said = "trial_0/status.json: converged, wanted not_converged (log) (records/outcome)."
    assert said in summary(results).compliance


def without_target(run: RunDir, *, logged: bool) -> RunDir:
    """``run`` as if it had trained for a number of epochs."""
    change(run.config, target_hit_rate=None)
    for trial in run.trials:
        change(trial.status, state="completed", target_hit_rate=None, time_to_train_s=None)
        text = trial.compliance_raw.read_text()
        if logged:
            text = re.sub(r'("epoch": \d+, "value": )0\.225', r"\1null", text)
        write_raw(trial, text)
    return seal(run)


def test_a_run_without_a_target_exits_0_and_has_reached_nothing(run: RunDir) -> None:
    results = collect(without_target(run, logged=True), NCF)
    found = judge(results)
    assert (found.exit_code, found.outcome, found.reached) == (0, "completed", 0)
    assert found.headline == "Trained without a target"
    assert summary(results).answers[0].answer == "no target"
    assert 'failures="0"' in junit(results).split("</testsuite>")[0]


def test_a_status_without_a_target_does_not_outweigh_a_log_with_one(tmp_path: Path) -> None:
    run = without_target(build_run(tmp_path / "run", trials=2, short=(0, 1)), logged=False)
    found = judge(collect(run, NCF))
    assert (found.exit_code, found.outcome, found.reached) == (5, "contradicted", 0)


def test_logs_alone_are_judged_and_give_their_epochs(run: RunDir) -> None:
    for path in [*run.root.glob("*.json"), *run.root.glob("trial_*"), run.findings]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    results = collect(run, NCF)
    assert judge(results).exit_code == 0
    assert results.target == 0.225
    assert [len(t.epochs) for t in results.trials] == [6, 6]
    assert results.trials[0].time_s == pytest.approx(292.65)
    assert "trial_1: folder not there, only its log" in results.missing
    assert "HR@10" in html(results)


@pytest.mark.parametrize("state", ["failed", "aborted", "interrupted", "running", "unheard of"])
def test_a_trial_that_did_not_finish_exits_1_whatever_the_others_did(
    run: RunDir, state: str
) -> None:
    change(run.trial(1).status, state=state)
    assert judge(collect(run, NCF)).exit_code == 1
    assert "1 did not finish" in judge(collect(run, NCF)).headline


def test_a_missing_trial_exits_1(run: RunDir) -> None:
    change(run.run_file, runs=3)
    assert judge(collect(run, NCF)).exit_code == 1


def test_a_run_without_trials_exits_1(run: RunDir) -> None:
    for folder in [*(trial.root for trial in run.trials), run.root / "results"]:
        shutil.rmtree(folder)
    assert judge(collect(run, NCF)).exit_code == 1
    assert judge(collect(run, NCF)).headline == "No trial finished"


def test_logs_that_were_never_stitched_are_not_compliant(run: RunDir) -> None:
    shutil.rmtree(run.root / "results")
    assert judge(collect(run, NCF)).exit_code == 5


def test_one_trial_without_a_log_is_not_compliant(run: RunDir) -> None:
    (run.results(SYSTEM_NAME) / "result_1.txt").unlink()
    assert judge(collect(run, NCF)).exit_code == 5


def test_a_level_2_finding_exits_5_even_at_the_target(run: RunDir) -> None:
    log = run.results(SYSTEM_NAME) / "result_0.txt"
    log.write_text(log.read_text().replace("run_clear_caches", "run_cleared_caches"))
    found = judge(collect(run, NCF))
    assert found.exit_code == 5
    assert found.headline == "Target reached in 2 of 2 trials, not compliant"


def test_strict_findings_do_not_change_the_exit_code(run: RunDir) -> None:
    results = collect(run, NCF)
    assert judge(results).level_findings["strict"]
    assert judge(results).exit_code == 0
