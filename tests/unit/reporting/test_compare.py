from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from run_dir import build_run, change, change_config

from trainbench.errors import ConfigError
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.compare import NOT_KNOWN, ComparisonTables, compare_runs, shown_tables
from trainbench.reporting.page.render import write_report
from trainbench.reporting.page.tables import Table
from trainbench.trials.paths import RunDir
from trainbench.trials.spec import benchmark_of


@pytest.fixture
def pair(tmp_path: Path) -> tuple[RunDir, RunDir]:
    return build_run(tmp_path / "a", trials=1), build_run(tmp_path / "b", trials=1, run_id="other")


def compared(pair: tuple[RunDir, RunDir]) -> ComparisonTables:
    runs = [collect(run, NCF) for run in pair]
    return shown_tables(compare_runs(runs), runs[0])


def rows(table: Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table.rows}


def test_equal_runs_differ_in_no_setting_and_have_equal_input(pair: tuple[RunDir, RunDir]) -> None:
    found = compared(pair)
    assert found.settings.rows == ()
    assert found.unknown == ()
    assert found.inputs.rows == (("other", "0 and 0", "equal", "6 of 6 epochs"),)


def test_what_differs_is_shown_side_by_side(pair: tuple[RunDir, RunDir]) -> None:
    change_config(pair[1], batch_size=4_096)
    change(pair[1].trial(0).system, memory_bytes=8 * 2**30)
    found = rows(compared(pair).settings)
    assert found["batch_size"] == ("2,048", "4,096")
    assert set(found) == {"batch_size", "system memory_bytes"}


def test_an_epoch_with_other_input_is_counted(pair: tuple[RunDir, RunDir]) -> None:
    epochs = pair[1].trial(0).epochs
    lines = [json.loads(line) for line in epochs.read_text().splitlines()]
    lines[3]["epoch_sha256"] = "0" * 64
    epochs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert compared(pair).inputs.rows[0][-1] == "5 of 6 epochs"


def test_trials_are_paired_by_seed_before_index(tmp_path: Path) -> None:
    a, b = build_run(tmp_path / "a", trials=1), build_run(tmp_path / "b", trials=2, run_id="other")
    seed = json.loads(a.trial(0).status.read_text())["seed"]
    change(b.trial(0).status, seed=1)
    change(b.trial(1).status, seed=seed)
    assert compared((a, b)).inputs.rows[0][1:3] == ("0 and 1", "equal")


def test_a_run_compared_with_itself_has_two_names(pair: tuple[RunDir, RunDir]) -> None:
    names = compared((pair[0], pair[0])).outcomes.columns[1:]
    assert len(set(names)) == 2


def test_runs_without_hashes_are_not_said_to_be_equal(pair: tuple[RunDir, RunDir]) -> None:
    for run in pair:
        run.trial(0).epochs.unlink()
    assert compared(pair).inputs.rows[0][-1] == "n/a"


def logs_alone(run: RunDir) -> RunDir:
    """The run as a submission has it: nothing but stitched logs."""
    for path in run.root.iterdir():
        if path.name != "results":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return run


def relogged(run: RunDir, *changes: tuple[str, str]) -> None:
    (log,) = run.root.glob("results/*/ncf/result_0.txt")
    text = log.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    log.write_text(text)


def test_what_only_the_logs_say_is_compared(pair: tuple[RunDir, RunDir]) -> None:
    """Google's and NVIDIA's logs: batch sizes 98,304 and 1,048,576, and no config.json."""
    for run in pair:
        logs_alone(run)
    relogged(pair[0], ("input_batch_size: 2048", "input_batch_size: 98304"))
    relogged(
        pair[1],
        ("input_batch_size: 2048", "input_batch_size: 1048576"),
        ("opt_learning_rate: 0.0005", "opt_learning_rate: 0.0045"),
        ("opt_hp_Adam_beta1: 0.9\n", "opt_hp_Adam_beta1: 0.25\n"),
        ("model_hp_mf_dim: 64", "model_hp_mf_dim"),
        ('opt_name: "adam"', 'opt_name: "Adam"'),
    )
    found = compared(pair)
    assert rows(found.settings) == {
        "batch_size": ("98,304", "1,048,576"),
        "learning_rate": ("0.0005", "0.0045"),
        "beta1": ("0.9", "0.25"),
        "mf_dim": ("64", "not known"),
    }
    assert {"precision", "dataset sha256", "system cpu", "any other setting"} <= set(found.unknown)


def test_logs_beside_a_whole_run_have_no_unknown_setting_called_equal(
    pair: tuple[RunDir, RunDir],
) -> None:
    logs_alone(pair[1])
    found = compared(pair)
    settings = rows(found.settings)
    assert "batch_size" not in settings
    assert settings["last_batch"] == ("pad", "not known")
    assert settings["dataset published"] == ("yes", "not known")
    assert found.unknown == ()


def test_seeds_that_no_log_has_are_not_known(pair: tuple[RunDir, RunDir]) -> None:
    for run in pair:
        logs_alone(run)
    assert compared(pair).inputs.rows == (("two-core-laptop (2)", "0 and 0", "equal", "n/a"),)
    for run in pair:
        relogged(run, (") seed: 2914067315\n", ") run_seedless\n"))
    assert compared(pair).inputs.rows[0][2] == NOT_KNOWN
    relogged(pair[0], (") run_seedless\n", ") run_set_random_seed: 5\n"))
    assert compared(pair).inputs.rows[0][2] == NOT_KNOWN
    relogged(pair[1], (") run_seedless\n", ") seed: 5\n"))
    assert compared(pair).inputs.rows[0][2] == "equal"


def test_a_null_that_was_recorded_is_a_value(pair: tuple[RunDir, RunDir]) -> None:
    """Generated ratings have no archive: that is known."""
    change(pair[0].manifest, sha256=None)
    assert rows(compared(pair).settings)["dataset sha256"][0] == "none"
    change(pair[1].manifest, sha256=None)
    assert "dataset sha256" not in {*rows(compared(pair).settings), *compared(pair).unknown}
    change(pair[0].manifest, ratings_sha256="ab" * 32)
    assert rows(compared(pair).settings)["dataset ratings_sha256"] == ("ab" * 32, "not known")
    for run in pair:
        change(run.trial(0).system, git={}, cpu=None)
    assert set(compared(pair).unknown) == {"system git", "system cpu"}


def test_what_is_not_known_is_said_on_the_page(pair: tuple[RunDir, RunDir]) -> None:
    for run in pair:
        logs_alone(run)
    files = write_report(pair[0], compare=[pair[1]], benchmark=NCF)
    for page in (files.html, files.markdown):
        text = page.read_text()
        assert "Nothing of what is known." in text
        assert "Not known of any of them: precision" in text
    record = json.loads(files.results_json.read_text())
    assert record["logged"]["input_batch_size"] == [2048]
    assert "precision" in record["comparison"]["unknown"]


def test_logs_of_another_benchmark_are_refused_wherever_they_lie(
    pair: tuple[RunDir, RunDir],
) -> None:
    logs_alone(pair[1])
    relogged(pair[1], (" ncf ", " resnet "))
    for run, other in (pair, pair[::-1]):
        with pytest.raises(ConfigError, match="logs of resnet where those of ncf should be"):
            write_report(run, compare=[other], benchmark=NCF)


def test_a_run_is_of_the_benchmark_that_its_trials_were_started_for(tmp_path: Path) -> None:
    ncf, images = build_run(tmp_path / "ncf", trials=1), RunDir(tmp_path / "images")
    images.trial(0).root.mkdir(parents=True)
    images.trial(0).spec.write_text(json.dumps({"arguments": {"benchmark": "resnet"}}))
    assert benchmark_of(images).name == "resnet"
    with pytest.raises(ConfigError, match=r"a run of resnet, but .* is one of ncf"):
        write_report(ncf, compare=[images], benchmark=NCF)


def test_the_comparison_is_on_the_page_and_in_the_results(pair: tuple[RunDir, RunDir]) -> None:
    files = write_report(pair[0], compare=[pair[1]], benchmark=NCF)
    assert '<h2 id="comparison">' in files.html.read_text()
    assert "## Comparison" in files.markdown.read_text()
    assert json.loads(files.results_json.read_text())["comparison"]["inputs"]


def test_the_results_have_values_with_units_and_no_text_made_for_people(
    pair: tuple[RunDir, RunDir],
) -> None:
    change_config(pair[1], batch_size=4_096, mlp_layer_sizes=[256, 256, 64])
    files = write_report(pair[0], compare=[pair[1]], benchmark=NCF)
    comparison = json.loads(files.results_json.read_text())["comparison"]
    assert comparison["runs"][1] == "other"
    outcomes = {outcome["name"]: outcome for outcome in comparison["outcomes"]}
    time = outcomes["time_to_train_s"]
    assert time["unit"] == "s"
    assert all(isinstance(value, float) for value in time["values"])
    assert outcomes["best_hit_rate"]["unit"] == "HR@10"
    assert outcomes["samples_per_s"]["unit"] == "samples/s"
    settings = {setting["name"]: setting["values"] for setting in comparison["settings"]}
    assert settings["batch_size"] == [2_048, 4_096]
    assert settings["mlp_layer_sizes"] == [[256, 256, 128, 64], [256, 256, 64]]
    (pairing,) = comparison["inputs"]
    assert pairing == {
        "run": 1,
        "trials": [0, 0],
        "same_seed": True,
        "equal_epochs": 6,
        "shared_epochs": 6,
    }
