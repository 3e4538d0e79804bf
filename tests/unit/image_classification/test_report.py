"""The report of image classification, from a run directory without a stitched log."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from images_run_dir import EVALUATION, build_images_run
from run_dir import START, build_run, change

from trainbench.errors import ConfigError, DataIntegrityError
from trainbench.image_classification.benchmark import RESNET
from trainbench.image_classification.report import Measured
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.page import plots
from trainbench.reporting.page.render import write_report
from trainbench.trials.paths import RunDir

SCHEMA = json.loads(
    resources.files("trainbench.reporting").joinpath("results.schema.json").read_text()
)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """One trial of preset quick that missed its target and was not stitched."""
    return build_images_run(tmp_path / "run")


def test_the_page_says_accuracy_target_and_speed(run: RunDir) -> None:
    files = write_report(run, benchmark=RESNET)
    assert files.exit_code == 5
    for page in (files.html.read_text(), files.markdown.read_text()):
        assert "Image classification report" in page
        assert "best top-1 0.8200, target 0.900" in page
        assert "123.4 images/s" in page
        assert "trained on a CPU, not on a GPU" in page
        assert "the preset imagenet with these settings changed" in page
        assert "result_0.txt: file not there" in page.replace("\\", "")


def test_accuracies_stand_where_the_records_of_all_benchmarks_have_the_quality(run: RunDir) -> None:
    found = collect(run, RESNET)
    (trial,) = found.trials
    assert (trial.best, trial.status.target, len(trial.epochs)) == (0.82, 0.9, 1)
    assert found.dataset["number_of_files"] == 2
    assert "files" not in found.dataset


def test_the_accuracy_is_published_under_its_own_name_alone(run: RunDir) -> None:
    files = write_report(run, benchmark=RESNET)
    record = json.loads(files.results_json.read_text())
    jsonschema.validate(record, SCHEMA)
    (trial,) = record["trials"]
    assert trial["best_top_1"] == trial["status"]["best_top_1"] == 0.82
    assert trial["status"]["target_top_1"] == 0.9
    assert record["measured"][0]["images_per_s"] == 123.4
    for path in (files.results_json, files.results_csv, files.epochs_csv):
        assert "hit_rate" not in path.read_text()


def test_two_runs_are_compared(run: RunDir, tmp_path: Path) -> None:
    other = build_images_run(tmp_path / "other")
    change(other.run_file, run_id="other")
    change(other.config, batch_size=100)
    change(other.trial(0).status, seed=8)
    change(other.trial(0).result, stats={"images_per_sec": 246.8})
    files = write_report(run, benchmark=RESNET, compare=[other])
    record = json.loads(files.results_json.read_text())
    jsonschema.validate(record, SCHEMA)
    compared = record["comparison"]
    outcomes = {outcome["name"]: outcome["values"] for outcome in compared["outcomes"]}
    assert outcomes["best_top_1"] == [0.82, 0.82]
    assert outcomes["images_per_s"] == [123.4, 246.8]
    (setting,) = compared["settings"]
    assert setting == {"name": "batch_size", "values": [50, 100], "known": [True, True]}
    (pair,) = compared["inputs"]
    assert (pair["trials"], pair["same_seed"], pair["shared_epochs"]) == ([0, 0], False, 0)
    assert '<td class="number">246.8</td>' in files.html.read_text()
    assert '<h2 id="comparison">' in files.html.read_text()


def test_runs_of_two_benchmarks_are_not_compared(run: RunDir, tmp_path: Path) -> None:
    other = build_run(tmp_path / "ncf", trials=1)
    for first, second, benchmark in ((run, other, RESNET), (other, run, NCF)):
        with pytest.raises(ConfigError, match="only runs of one benchmark are compared"):
            write_report(first, benchmark=benchmark, compare=[second])
        assert not first.report.exists()
    with pytest.raises(DataIntegrityError, match=r"nowhere: no run\.json"):
        write_report(run, benchmark=RESNET, compare=[RunDir(tmp_path / "nowhere")])


def test_the_configuration_is_told_as_a_difference_from_the_preset_imagenet(run: RunDir) -> None:
    differences = {d.key: (d.reference, d.this) for d in collect(run, RESNET).differences or ()}
    assert differences["generated_train"] == ("0", "4000")
    assert "preset" not in differences
    change(run.config, colour="blue")
    results = collect(run, RESNET)
    assert results.differences is None
    assert any("config.json: not a configuration of this version" in m for m in results.missing)


def test_its_test_cases_are_named_after_its_benchmark(run: RunDir) -> None:
    junit = write_report(run, benchmark=RESNET).junit.read_text()
    assert 'classname="resnet.outcome"' in junit
    assert "ncf" not in junit


def test_a_damaged_status_is_not_believed(run: RunDir) -> None:
    change(run.trial(0).status, best_top_1="high", degraded=["slow"])
    (trial,) = collect(run, RESNET).trials
    assert trial.status.best is None
    assert trial.status.degraded == ()


@pytest.mark.parametrize(
    "damage",
    [
        {"evaluations": [{"epoch": "one", "top_1_accuracy": None}, 7]},
        {"evaluations": {}, "stats": [], "batch_size": "many"},
        {"step_times_s": ["slow", -1, None], "stats": {"images_per_sec": "fast"}},
    ],
)
def test_a_damaged_measurement_is_not_believed_and_the_page_still_written(
    run: RunDir, damage: dict[str, object]
) -> None:
    change(run.trial(0).result, **damage)
    files = write_report(run, benchmark=RESNET)
    jsonschema.validate(json.loads(files.results_json.read_text()), SCHEMA)
    (trial,) = collect(run, RESNET).trials
    assert trial.best == 0.82
    assert isinstance(trial.measured, Measured)


def test_training_and_evaluation_have_phases_of_their_own(run: RunDir) -> None:
    trial = run.trial(0)
    phase = {"name": "train_and_evaluate", "epoch": None, "timed": True}
    phase |= {"start_unix_s": START + 5, "duration_s": 60.0}
    trial.phases.write_text(json.dumps(phase) + "\n")
    change(trial.result, startup_s={"build": 1.0, "trace": 2.0, "compile": 3.0})
    found = collect(run, RESNET)
    parts = found.sections.phases(found.trials[0])
    spans = [(p.name, (p.start_unix_s or 0) - START, p.duration_s) for p in parts]
    assert spans == [
        *(("build", 5, 1), ("trace", 6, 2), ("compile", 8, 3)),
        *(("train", 11, 46.5), ("evaluate", 57.5, 2.5), ("finish", 60, 5)),
    ]
    assert sum(length or 0 for _, _, length in spans) == 60
    change(trial.result, evaluations=[{**EVALUATION, "unix_s": START - 60}])
    found = collect(run, RESNET)
    assert [p.name for p in found.sections.phases(found.trials[0])] == ["train_and_evaluate"]


def test_an_accuracy_of_one_has_no_axis_beyond_it(run: RunDir) -> None:
    change(run.trial(0).result, evaluations=[{**EVALUATION, "top_5_accuracy": 1.0}])
    second = {f.name: f for f in plots.figures(collect(run, RESNET))}["second"].panels[0].svg
    assert ">1.00" in second
    assert ">1.0" + "1<" not in second
