"""A time beside the published ones: only of the same task, with the same statistic named."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from v05_log import many, write_results

from trainbench.compliance.score import score
from trainbench.compliance.tags import ncf as tags
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.page.published import parts, times_table
from trainbench.reporting.published import tables
from trainbench.reporting.published.beside import beside, sentences
from trainbench.trials.paths import RunDir


def logs_of(folder: Path, runs: int, converged: int) -> RunDir:
    write_results(folder / "results" / "system" / "ncf", many(runs, converged=converged))
    return RunDir(folder)


def test_a_run_of_the_task_stands_among_the_published_results(tmp_path: Path) -> None:
    results = collect(logs_of(tmp_path, 3, 2), NCF)
    found = beside(results)
    assert found.why_not == ()
    assert found.own_is == "mean of 2 runs"
    assert [row.system for row in found.rows][:1] == ["NVIDIA DGX-2H (16 V100)"]
    assert sorted(row.score_s for row in found.rows) == [row.score_s for row in found.rows]
    table = times_table(found, "this run")
    assert len(table.rows) == 5
    ratio = {row[0]: row[-1] for row in table.rows}
    assert ratio["this run"] == "1.00"
    assert "3 of 4 published results are faster." in " ".join(sentences(found))
    times, epochs = parts(results)
    assert [figure.name for figure in times.figures] == ["published"]
    assert epochs.figures == () or epochs.figures[0].name == "epochs"


def test_a_whole_set_is_compared_by_its_v05_statistic(tmp_path: Path) -> None:
    run = logs_of(tmp_path, 100, 60)
    found = beside(collect(run, NCF))
    assert found.own_is == "the v0.5 statistic"
    assert found.own_s == score(tmp_path / "results" / "system" / "ncf").mean_s


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (f"{tags.EVAL_TARGET}: ", "eval_target_of_old: ", "no log says the target"),
        ("138493", "6040", "6,040 users evaluated, not 138,493"),
        (": 999", ": 99", "99 negatives a user, not 999"),
        ("0.635", "0.62", "the target is HR@10 0.62, not 0.635"),
    ],
)
def test_another_task_or_target_is_not_compared(
    old: str, new: str, wanted: str, tmp_path: Path
) -> None:
    run = logs_of(tmp_path, 1, 1)
    (path,) = tmp_path.glob("results/*/ncf/*")
    path.write_text(path.read_text().replace(old, new))
    found = beside(collect(run, NCF))
    assert wanted in found.why_not
    assert found.rows == ()


def test_the_shipped_tables_are_those_of_the_public_logs(shared_dir: Path) -> None:
    with open(shared_dir / "data" / "published_v05.csv") as file:
        wanted = {row["folder"]: float(row["score_s"]) for row in csv.DictReader(file)}
        assert {row.folder: row.score_s for row in tables.results()} == wanted
    with open(shared_dir / "data" / "epochs_v05.csv") as file:
        epochs = [row["epoch_of_target"] for row in csv.DictReader(file)]
    assert [str(run.epoch_of_target or "") for run in tables.runs()] == epochs


def test_every_published_result_says_where_it_is_from() -> None:
    assert len(tables.results()) == 18
    assert len(tables.runs()) == 470
    with open(Path(tables.__file__).with_name("results_v05.csv")) as file:
        assert {row["source"] for row in csv.DictReader(file)} == {tables.SOURCE}
