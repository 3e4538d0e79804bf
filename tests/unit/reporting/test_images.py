"""The report of image classification, from a run directory without a stitched log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_dir import CACHE_DROP, START, SYSTEM, change, phase_records, run_record, write

from trainbench import configuration
from trainbench.image_classification.config import imagenet, quick
from trainbench.reporting.images import collect, write_report
from trainbench.trials.paths import RunDir

STATUS = {
    "state": "not_converged",
    "exit_code": 4,
    "message": "best top-1 0.8200 stayed below the target 0.9",
    "seed": 7,
    "target_top_1": 0.9,
    "precision": "fp32",
    "device": "/cpu:0",
    "num_parameters": 8_057_803,
    "best_top_1": 0.82,
    "evaluations": 1,
    "time_to_train_s": None,
    "degraded": [{"code": "no_gpu", "text": "trained on a CPU, not on a GPU"}],
}
EVALUATION = {
    "epoch": 1.0,
    "global_step": 80,
    "unix_s": START + 60,
    "top_1_accuracy": 0.82,
    "top_5_accuracy": 0.99,
    "images_per_sec": 400.0,
}
RESULT = {
    "batch_size": 50,
    "stats": {"images_per_sec": 123.4},
    "step_times_s": [0.5, 0.4, 0.4, 0.4],
    "evaluations": [EVALUATION],
}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """One trial of preset quick that missed its target and was not stitched."""
    run = RunDir(tmp_path / "run")
    trial = run.trial(0)
    trial.root.mkdir(parents=True)
    write(run.run_file, {**run_record("20261118-093320-quick", 1), "benchmark": "resnet"})
    run.config.write_text(configuration.to_json(quick()))
    write(run.manifest, {"dataset": "generated", "files": {"train": {}, "validation": {}}})
    write(run.cache_record, {"key": "images-0a1b", "files": {"train": {}}})
    write(trial.status, STATUS)
    write(trial.result, RESULT)
    write(trial.system, SYSTEM)
    write(trial.cache_drop, CACHE_DROP)
    trial.phases.write_text("".join(json.dumps(p) + "\n" for p in phase_records(START, [])))
    return run


def test_the_page_says_accuracy_target_and_speed(run: RunDir) -> None:
    files = write_report(run, reference=imagenet())
    assert files.exit_code == 5
    for page in (files.html.read_text(), files.markdown.read_text()):
        assert "Image classification report" in page
        assert "best top-1 82.0 %, target 90.0 %" in page
        assert "123.4 images/s" in page
        assert "trained on a CPU, not on a GPU" in page
        assert "the preset imagenet with these settings changed" in page
        assert "result_0.txt: file not there" in page.replace("\\", "")


def test_accuracies_stand_where_the_records_of_all_benchmarks_have_the_quality(run: RunDir) -> None:
    found = collect(run, imagenet())
    (trial,) = found.results.trials
    assert (trial.best_hit_rate, trial.status.target_hit_rate, trial.status.epochs) == (
        0.82,
        0.9,
        1,
    )
    assert found.results.dataset["number_of_files"] == 2
    assert "files" not in found.results.dataset


def test_the_configuration_is_told_as_a_difference_from_the_preset_imagenet(run: RunDir) -> None:
    differences = {
        d.key: (d.reference, d.this) for d in collect(run, imagenet()).results.differences or ()
    }
    assert differences["generated_train"] == ("0", "4000")
    assert "preset" not in differences
    change(run.config, colour="blue")
    results = collect(run, imagenet()).results
    assert results.differences is None
    assert any("config.json: not a configuration of this version" in m for m in results.missing)


def test_its_test_cases_are_named_after_its_benchmark(run: RunDir) -> None:
    junit = write_report(run, reference=imagenet()).junit.read_text()
    assert 'classname="resnet.outcome"' in junit
    assert "ncf" not in junit


def test_a_damaged_status_is_not_believed(run: RunDir) -> None:
    change(run.trial(0).status, best_top_1="high", degraded=["slow"])
    (trial,) = collect(run, imagenet()).results.trials
    assert trial.best_hit_rate is None
    assert trial.status.degraded == ()
