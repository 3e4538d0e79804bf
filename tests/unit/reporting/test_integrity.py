"""Logs, records and sums of a run that do not fit together are found, each kind by its rule."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkout import CHECKOUT
from run_dir import SYSTEM_NAME, build_run, change, relog, seal

from trainbench.cli import pipeline
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.integrity import RULES
from trainbench.reporting.page.render import markdown, write_report
from trainbench.reporting.records import Contradiction
from trainbench.reporting.verdict import judge
from trainbench.trials.paths import RunDir

LOG = f"results/{SYSTEM_NAME}/ncf/result_0.txt"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run of one trial at its target, of a version that wrote no sums."""
    run = build_run(tmp_path / "run", trials=1)
    run.chain.unlink()
    return run


def found(run: RunDir) -> dict[str, Contradiction]:
    return {c.rule: c for c in collect(run, NCF).contradictions}


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def earlier(path: Path, tag: str, by_s: float) -> None:
    """Date the lines of a tag earlier."""
    lines = path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        words = line.split(" ")
        if words[4].rstrip(":\n") == tag:
            words[2] = f"{float(words[2]) - by_s:.9f}"
            lines[number] = " ".join(words)
    path.write_text("".join(lines))


def epochs(path: Path, number: int, **values: Any) -> None:
    """Change fields of a line of epochs.jsonl."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[number] |= values
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_that_fits_together_has_none_and_says_that_it_has_no_chain(run: RunDir) -> None:
    assert found(run) == {}
    assert judge(collect(run, NCF)).exit_code == 0
    assert "No chain: not checked." in markdown(collect(run, NCF))


def test_a_sealed_run_says_how_many_files_were_compared(run: RunDir) -> None:
    results = collect(seal(run), NCF)
    assert results.contradictions == ()
    assert "files are as their SHA-256 sums say." in markdown(results)


Change = Callable[[RunDir], None]
CHANGES: list[tuple[str, str, Change]] = [
    ("records/stitched", LOG, lambda run: earlier(run.root / LOG, "run_stop", 1.0)),
    ("records/stitched", LOG, lambda run: edit(run.root / LOG, '"value": 0.2321', '"value": 0.42')),
    ("records/stitched", LOG, lambda run: (run.root / LOG).write_text("")),
    ("records/time", "trial_0/status.json",
     lambda run: change(run.trial(0).status, time_to_train_s=291.65)),
    ("records/seed", "trial_0/status.json", lambda run: change(run.trial(0).status, seed="1")),
    ("records/target", "trial_0/status.json",
     lambda run: change(run.trial(0).status, target_hit_rate=0.2)),
    ("records/outcome", "trial_0/status.json",
     lambda run: change(run.trial(0).status, state="not_converged")),
    ("records/best", "trial_0/status.json",
     lambda run: change(run.trial(0).status, best_hit_rate=0.52)),
    ("records/epochs", "trial_0/status.json", lambda run: change(run.trial(0).status, epochs=3)),
    ("records/status", "trial_0/status.json",
     lambda run: edit(run.trial(0).status, '"state"', "'state'")),
    ("records/status", "trial_0/status.json",
     lambda run: change(run.trial(0).status, degraded=[1, None, {}])),
    ("records/status", "trial_0/status.json",
     lambda run: change(run.trial(0).status, degraded="no_gpu")),
    ("records/quality", "trial_0/epochs.jsonl",
     lambda run: epochs(run.trial(0).epochs, 2, hit_rate=0.52)),
    ("records/own", "trial_0", lambda run: epochs(run.trial(0).epochs, 2, hits=3)),
    ("records/epochs", "trial_0/epochs.jsonl",
     lambda run: edit(run.trial(0).epochs, '{"epoch": 0', '{"epoch": 0}\n{"epoch": 0')),
    ("records/elapsed", "trial_0/epochs.jsonl",
     lambda run: epochs(run.trial(0).epochs, 2, elapsed_s=1.0)),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "file", "change_run"), CHANGES)
def test_each_kind_is_found_by_its_rule_without_any_sums(
    run: RunDir, rule: str, file: str, change_run: Change
) -> None:
    change_run(run)
    assert rule in found(run)
    assert found(run)[rule].file.startswith(file)
    assert judge(collect(run, NCF)).exit_code == 5
    assert write_report(run, benchmark=NCF).exit_code == 5
    assert f"({rule})" in (run.report / "report.md").read_text().replace("\\", "")


def test_a_stitched_log_may_be_packed(run: RunDir) -> None:
    log = run.root / LOG
    log.with_name("result_0.txt.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    results = collect(run, NCF)
    assert results.contradictions == ()
    assert results.trials[0].log is not None
    assert results.trials[0].log.clocks_agree is True


def test_a_finding_names_file_found_and_wanted(run: RunDir) -> None:
    earlier(run.root / LOG, "run_stop", 1.0)
    (stitched, time) = collect(run, NCF).contradictions
    assert stitched.file.startswith(f"{LOG} line ")
    assert f"{float(stitched.found.split()[2]):.2f}" == "1795000291.65"
    assert f"{float(stitched.wanted.split()[2]):.2f}" == "1795000292.65"
    assert (time.file, time.found, time.wanted) == (
        "trial_0/status.json",
        "292.650 s",
        "291.650 s (log)",
    )


@pytest.mark.parametrize("by_s", [2.0, -3600.0])
def test_a_stepped_clock_is_seen_in_the_records_where_there_is_no_clock_file(
    run: RunDir, by_s: float
) -> None:
    trial = run.trial(0)
    for tag in ("eval_start", "eval_accuracy", "eval_stop", "run_stop", "run_final"):
        earlier(trial.compliance_raw, tag, by_s)
    shifted = trial.compliance_raw.read_text()
    trial.clock.unlink()
    pipeline.stitch(run)
    assert trial.compliance_raw.read_text() == shifted
    assert set(found(run)) == {"records/time", "records/elapsed"}
    assert judge(collect(run, NCF)).exit_code == 5


def test_degradations_that_the_log_names_are_shown_and_wanted_in_the_status(run: RunDir) -> None:
    codes = ("no_gpu", "generated_data", "busy_machine", "other_task")
    line = next(
        text for text in run.trial(0).compliance_raw.read_text().splitlines() if "seed" in text
    )
    more = [line.partition(" seed")[0] + f' degraded: "{code}"' for code in codes]
    relog(run, line, "\n".join([line, *more]))
    change(run.trial(0).status, degraded=[{"code": c, "text": c} for c in codes])
    assert found(run) == {}
    change(run.trial(0).status, degraded=[{"code": "no_gpu", "text": "trained on a CPU"}])
    assert found(run)["records/degraded"] == Contradiction(
        "records/degraded", "trial_0/status.json", "no_gpu", f"{', '.join(codes)} (log)"
    )
    shown = collect(run, NCF).degraded
    assert "busy_machine (the log alone says so)" in shown
    run.trial(0).status.unlink()
    assert "no_gpu (the log alone says so)" in collect(run, NCF).degraded


def test_a_clock_that_was_set_marks_the_run_and_both_times_are_shown(run: RunDir) -> None:
    trial = run.trial(0)
    for tag in ("run_stop", "run_final"):
        earlier(trial.compliance_raw, tag, 2.0)
    pipeline.stitch(run)
    results = collect(run, NCF)
    assert judge(results).exit_code == 5
    log = results.trials[0].log
    assert log is not None
    assert log.time_s == pytest.approx(290.65)
    assert log.monotonic_time_s == pytest.approx(292.65)
    assert "the wall clock, by which the log is written, was not right in the run" in (
        results.degraded
    )
    page = markdown(results)
    assert (
        "Trial 0: 290.6 s by the log's wall clock, but 292.6 sec. by the monotonic clock." in page
    )


def test_logs_alone_are_reported_without_a_chain(run: RunDir) -> None:
    for path in [*run.root.glob("*.json"), *run.root.glob("trial_*"), run.findings]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    results = collect(run, NCF)
    assert results.contradictions == ()
    assert judge(results).exit_code == 0
    assert results.chain == "no chain: not checked"


def test_a_sum_that_differs_is_the_reports_exit_code_and_is_printed(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    seal(run)
    edit(run.manifest, '"published": true', '"published": false')
    assert pipeline.report(run) == 5
    err = capsys.readouterr().err
    assert "report: manifest.json: sha256 " in err
    assert "(chain/sha256)" in err
    assert "files are as their SHA-256 sums say" in err


def test_every_rule_is_documented() -> None:
    page = (CHECKOUT / "docs" / "rules.md").read_text()
    for rule, wanted in RULES:
        assert f"| `{rule}` | {wanted} |" in page


@pytest.mark.parametrize(("untrained", "found_it"), [(0.225, True), (0.2249, False)])
def test_a_target_that_the_untrained_model_reached_is_no_result(
    run: RunDir, untrained: float, found_it: bool
) -> None:
    change(run.trial(0).status, initial_hit_rate=untrained)
    assert ("records/own" in found(run)) == found_it
    assert judge(collect(run, NCF)).exit_code == (5 if found_it else 0)


@pytest.mark.parametrize(
    "change_of",
    [{"weights_sha256": "0" * 64}, {"trial": 1}, {"hits": None}, {"recorded_hits": 3}, {}],
)
def test_a_proof_is_of_the_trials_own_weights_and_hits(
    run: RunDir, change_of: dict[str, Any]
) -> None:
    trial = run.trial(0)
    weights = trial.model / "weights.npz"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    hits = json.loads(trial.epochs.read_text().splitlines()[-1])["hits"]
    own = {"trial": 0, "recorded_hits": hits, "hits": hits, "findings": [], "proved": True}
    proof = {**own, "weights_sha256": hashlib.sha256(b"weights").hexdigest(), **change_of}
    trial.proof.write_text(json.dumps(proof))
    assert ("records/own" in found(run)) == bool(change_of)
