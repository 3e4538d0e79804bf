"""junit.xml: a failure is a reason for the exit code; the rest is skipped, with its reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from run_dir import SYSTEM_NAME, build_run, change, change_config, relog

from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.junit import junit
from trainbench.reporting.verdict import judge
from trainbench.trials.paths import RunDir


def suites(run: RunDir) -> ET.Element:
    return ET.fromstring(junit(collect(run, NCF)))


def said(root: ET.Element, outcome: str) -> dict[str | None, str | None]:
    """By case, the message of those with this outcome."""
    found = ((case, case.find(outcome)) for case in root.iter("testcase"))
    return {case.get("name"): tag.get("message") for case, tag in found if tag is not None}


def test_every_rule_and_every_trial_is_one_case(run: RunDir) -> None:
    cases = [case.get("name") for case in suites(run).iter("testcase")]
    assert len(cases) == len(set(cases))
    assert {rule.rule for rule in collect(run, NCF).rules} <= set(cases)
    assert {f"trial {index} reached its target" for index in range(3)} <= set(cases)


def test_a_run_with_exit_code_0_has_no_failure(run: RunDir) -> None:
    assert judge(collect(run, NCF)).exit_code == 0
    root = suites(run)
    skipped = said(root, "skipped")
    broken = {f.rule for t in collect(run, NCF).trials if t.log for f in t.log.findings}
    assert said(root, "failure") == {}
    assert set(skipped) == broken | {"trial 2 reached its target"}
    assert (skipped["strict/value/eval_target"] or "").startswith(
        "by the preset's own settings (target_hit_rate): "
    )
    assert skipped["trial 2 reached its target"] == (
        "target not reached; target reached in 2 of 3 trials"
    )


def test_a_strict_finding_that_no_setting_explains_is_skipped_as_such(run: RunDir) -> None:
    change_config(run, target_hit_rate=0.635)
    reason = said(suites(run), "skipped")["strict/value/eval_target"] or ""
    assert reason.startswith("strict rules do not change the exit code: ")


def spoil(run: RunDir, code: int) -> None:
    if code == 1:
        change(run.trial(1).status, state="failed", message="bad \x00 \x1b \ud800 <&>")
    elif code == 4:
        shutil.rmtree(run.root)
        build_run(run.root, short=(0, 1, 2))
    else:
        relog(run, "run_clear_caches", "run_cleared_caches")


@pytest.mark.parametrize(
    ("code", "failed"),
    [
        (1, {"trial 1 reached its target"}),
        (4, {f"trial {index} reached its target" for index in range(3)}),
        (5, {"level2/at-least-one/run_clear_caches"}),
    ],
)
def test_another_exit_code_has_its_reasons_as_failures(
    run: RunDir, code: int, failed: set[str]
) -> None:
    spoil(run, code)
    assert judge(collect(run, NCF)).exit_code == code
    failures = said(suites(run), "failure")
    assert set(failures) == failed | {"the verdict is exit code 0"}
    assert (failures["the verdict is exit code 0"] or "").startswith(f"exit code {code}: ")


def test_a_log_alone_says_what_it_missed(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", trials=1, short=(0,))
    shutil.copytree(run.results(SYSTEM_NAME), tmp_path / "logs" / "results" / SYSTEM_NAME / "ncf")
    reason = said(suites(RunDir(tmp_path / "logs")), "failure")["trial 0 reached its target"] or ""
    assert reason.startswith("not converged: best 0.")
    assert f"in results/{SYSTEM_NAME}/ncf/result_0.txt" in reason


def test_a_trial_without_a_log_fails_by_the_verdict(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", trials=2)
    (run.results(SYSTEM_NAME) / "result_1.txt").unlink()
    reasons = {"the verdict is exit code 0", "chain/missing"}
    assert set(said(suites(run), "failure")) == reasons


def test_times_are_those_on_the_clock_and_add_up(run: RunDir) -> None:
    root = suites(run)
    trials = [t.time_on_clock_s or 0 for t in collect(run, NCF).trials]
    total = pytest.approx(sum(trials), abs=0.01)
    assert min(trials) > 0
    assert all(case.get("time") for case in root.iter("testcase"))
    assert float(root.get("time") or 0) == total
    (outcome,) = (s for s in root.iter("testsuite") if s.get("name") == "outcome")
    assert float(outcome.get("time") or 0) == total
    assert outcome.get("timestamp") == "2026-11-18T11:05:40"


def test_counts_are_those_of_the_cases(run: RunDir) -> None:
    spoil(run, 5)
    root = suites(run)
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        assert int(root.get(name) or -1) == len(list(root.iter(tag)))
        counted = sum(int(suite.get(name) or -1) for suite in root.iter("testsuite"))
        assert counted == len(list(root.iter(tag)))
