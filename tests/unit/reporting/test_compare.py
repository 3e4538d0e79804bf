from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_dir import build_run, change, change_config

from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.compare import Comparison, compare_runs
from trainbench.reporting.render import write_report
from trainbench.reporting.tables import Table
from trainbench.trials.paths import RunDir


@pytest.fixture
def pair(tmp_path: Path) -> tuple[RunDir, RunDir]:
    return build_run(tmp_path / "a", trials=1), build_run(tmp_path / "b", trials=1, run_id="other")


def compared(pair: tuple[RunDir, RunDir]) -> Comparison:
    return compare_runs([collect(run, NCF) for run in pair])


def rows(table: Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table.rows}


def test_equal_runs_differ_in_no_setting_and_have_equal_input(pair: tuple[RunDir, RunDir]) -> None:
    found = compared(pair)
    assert found.settings.rows == ()
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


def test_the_comparison_is_on_the_page_and_in_the_results(pair: tuple[RunDir, RunDir]) -> None:
    files = write_report(pair[0], compare=[pair[1]], benchmark=NCF)
    assert '<h2 id="comparison">' in files.html.read_text()
    assert "## Comparison" in files.markdown.read_text()
    assert json.loads(files.results_json.read_text())["comparison"]["inputs"]["rows"]
