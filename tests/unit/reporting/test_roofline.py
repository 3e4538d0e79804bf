"""Rates stand beside what the machine allows, as far as the run measured it; nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from images_run_dir import build_images_run
from run_dir import change

from trainbench.image_classification.benchmark import RESNET
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.page.render import html, markdown
from trainbench.reporting.page.roofline import UNKNOWN, Roofline, roofline
from trainbench.reporting.sections import Rate
from trainbench.trials.paths import RunDir


def beside(run: RunDir, benchmark: object = NCF) -> Roofline:
    found = roofline(collect(run, benchmark))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_training_and_evaluation_stand_beside_matrix_rate_and_memory(run: RunDir) -> None:
    table = beside(run).table
    assert table is not None
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["Trial"], row["Work"]) for row in rows[:2]] == [
        *(("0", "training"), ("0", "evaluation")),
    ]
    training, evaluation = rows[:2]
    # 120 GFLOP/s at 600 kFLOP a sample allow 200,000 samples/s; memory would allow 3.1 million.
    assert (training["Bound by"], training["Allowed"]) == ("matrix products", "200.0 k samples/s")
    assert training["Share"] == "65.3 %"
    assert evaluation["Allowed"] == "1.46 M pairs/s"
    assert (training["One needs"], training["At best"]) == (
        *("600 kFLOP, 8 kB", "120 GFLOP/s, 25 GB/s"),
    )


def test_the_lower_of_both_limits_counts() -> None:
    rate = Rate(0, "training", "samples/s", 1.0, 100.0, 100.0, 1_000.0, 500.0)
    assert rate.bounds == {"matrix products": 10.0, "memory": 5.0}
    assert Rate(0, "training", "samples/s", 1.0, 100.0, None, 1_000.0, 500.0).bounds == {
        "matrix products": 10.0
    }
    assert Rate(0, "training", "samples/s", 1.0, 0.0, -1.0, 1_000.0, 500.0).bounds == {}


def test_the_figure_has_the_roof_and_both_kinds_of_work(run: RunDir) -> None:
    figure = beside(run).figure
    assert figure is not None
    assert [key.label for key in figure.keys][1:] == ["training", "evaluation"]
    assert "training at 65.3 %; evaluation at" in figure.alt


def test_a_run_that_measured_no_limits_says_so_and_guesses_nothing(run: RunDir) -> None:
    for trial in run.trials:
        trial.limits.unlink()
    assert beside(run) == Roofline(UNKNOWN)
    for page in (html(collect(run, NCF)), markdown(collect(run, NCF))):
        assert UNKNOWN in page
        assert "at best" in page
        assert "GB/s" not in page


@pytest.mark.parametrize("value", [None, "fast", -1.0, 0])
def test_a_limit_that_is_no_rate_bounds_nothing(run: RunDir, value: object) -> None:
    for trial in run.trials:
        change(trial.limits, gflop_per_s=value, gbyte_per_s=value)
    assert beside(run) == Roofline(UNKNOWN)


def test_images_have_three_times_the_operations_of_a_forward_pass(tmp_path: Path) -> None:
    run = build_images_run(tmp_path / "run")
    assert beside(run, RESNET) == Roofline(UNKNOWN)
    change(run.trial(0).result, flops_per_image=60_127_496, peak_flops_per_s=7.1e10)
    found = beside(run, RESNET)
    assert found.table is not None
    assert found.figure is None  # what an image moves through memory is not known
    [row] = found.table.rows
    assert row == (
        *("0", "training", "123 images/s", "394 images/s", "31.4 %", "matrix products"),
        *("180 MFLOP", "71 GFLOP/s"),
    )


def test_nothing_stands_where_no_rate_is_known(run: RunDir) -> None:
    for trial in run.trials:
        trial.epochs.unlink()
    assert roofline(collect(run, NCF)) is None
