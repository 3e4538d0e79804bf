"""Text and formulas, as in tf_cnn_benchmarks."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cnn_standins import Listed, Synthetic, Trivial, step_rows

from trainbench import cnn
from trainbench.cnn import console

TIMES = [0.1, 0.2, 0.1, 0.4]


def test_mean_uncertainty_and_jitter() -> None:
    found = console.speed(32, TIMES)
    assert found.mean == pytest.approx(160.0)
    assert found.uncertainty == pytest.approx(51.96152, abs=1e-5)
    assert found.jitter == pytest.approx(118.608)
    assert str(found) == "images/sec: 160.0 +/- 52.0 (jitter = 118.6)"


def test_a_moving_mean_changes_the_mean_only() -> None:
    plain, moving = console.speed(32, TIMES), console.speed(32, TIMES, ewma=0.5)
    assert moving.mean == pytest.approx(117.07317, abs=1e-5)
    assert (moving.uncertainty, moving.jitter) == (plain.uncertainty, plain.jitter)
    assert console.speed(32, TIMES, ewma=1.0).mean == pytest.approx(32 / 0.4)
    assert console.speed(32, TIMES, ewma=0.0).mean == plain.mean


def test_a_step_line_has_nine_fields_or_eleven() -> None:
    line = console.step_line(10, console.speed(32, TIMES), 2.5264)
    assert line == "10\timages/sec: 160.0 +/- 52.0 (jitter = 118.6)\t2.526"
    assert len(line.split()) == 9
    assert line.split()[8] == "2.526"
    line = console.step_line(10, console.speed(32, TIMES), 2.5264, (0.25, 1.0))
    assert line.split()[8:] == ["2.526", "0.250", "1.000"]


def test_the_digits_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOSS_AND_ACCURACY_DIGITS_TO_SHOW", 15)
    line = console.step_line(1, console.speed(1, [1.0]), 1 / 3)
    assert line.split("\t")[2] == "0.333333333333333"


def test_an_accuracy_line_has_twelve_fields() -> None:
    line = console.accuracy_line(1 / 6, 0.75, 12)
    assert line == "Accuracy @ 1 = 0.1667 Accuracy @ 5 = 0.7500 [12 examples]"
    fields = line.split()
    assert (len(fields), fields[4], fields[9]) == (12, "0.1667", "0.7500")


def test_progress_of_an_evaluation() -> None:
    assert re.fullmatch(r"\d+\t[0-9.]+ examples/sec", console.eval_line(20, 529.84))


def test_the_totals_stand_between_two_rules() -> None:
    assert console.totals(28.913).splitlines() == ["-" * 64, "total images/sec: 28.91", "-" * 64]


def test_the_header_names_the_loss_and_the_accuracies() -> None:
    assert console.header(cnn.make_params()) == "Step\tImg/sec\ttotal_loss"
    with_accuracy = "Step\tImg/sec\tbase_loss\ttop_1_accuracy\ttop_5_accuracy"
    for name in ("print_training_accuracy", "forward_only"):
        params = cnn.make_params(loss_type_to_report="base_loss", **{name: True})
        assert console.header(params) == with_accuracy


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({"batch_group_size": 2}, ["             2 batches per prepocessing group"]),
        ({"rewriter_config": '{"remapping": false}'}, ['RewriterConfig: {"remapping": false}']),
        ({"variable_update": "replicated"},
         ["Variables:   replicated", "AllReduce:   None"]),
        ({"variable_update": "distributed_all_reduce", "all_reduce_spec": "xring"},
         ["SingleSess:  True", "AllReduce:   xring"]),
        ({"num_gpus": 2}, ["Batch size:  8 global", "             4 per device",
                           "Devices:     ['/cpu:0', '/cpu:1']"]),
    ],
)  # fmt: skip
def test_optional_lines_of_the_information_block(
    capsys: pytest.CaptureFixture, values: dict, lines: list
) -> None:
    params = cnn.make_params(device="cpu", batch_size=4, **values)
    cnn.BenchmarkCNN(params, dataset=Synthetic(), model=Trivial()).print_info()
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line in lines] == lines


def test_the_first_timed_step_is_always_printed(capsys: pytest.CaptureFixture) -> None:
    _run(num_batches=7, display_every=3)
    assert [row[0] for row in step_rows(capsys.readouterr().out)] == ["1", "3", "6"]


def test_identical_images_cannot_all_be_right(capsys: pytest.CaptureFixture) -> None:
    dataset = Listed(np.ones((10, 8, 8, 3)), np.arange(10), num_classes=11)
    for values in ({"print_training_accuracy": True}, {"forward_only": True}):
        params = _params(batch_size=10, num_batches=3, init_learning_rate=0.01, **values)
        cnn.BenchmarkCNN(params, dataset=dataset, model=Trivial()).run()
        for row in step_rows(capsys.readouterr().out):
            assert float(row[9]) <= 0.1
            assert float(row[10]) <= 0.5


def test_tied_logits_count_as_wrong(capsys: pytest.CaptureFixture) -> None:
    dataset = Listed(np.zeros((4, 8, 8, 3)), np.arange(4), num_classes=11)
    stats = cnn.BenchmarkCNN(
        _params(num_batches=1, forward_only=True), dataset=dataset, model=Trivial()
    ).run()
    row = step_rows(capsys.readouterr().out)[0]
    assert row[8:] == ["0.000", "0.000", "0.000"]
    assert "last_average_loss" not in stats


def test_the_statistics_hold_what_the_totals_are_made_of(capsys: pytest.CaptureFixture) -> None:
    stats = _run(num_batches=5, display_every=1)
    assert sorted(stats) == [
        "average_wall_time", "images_per_sec", "last_average_loss", "num_steps", "num_workers",
    ]  # fmt: skip
    assert (stats["num_workers"], stats["num_steps"]) == (1, 5)
    assert stats["images_per_sec"] * stats["average_wall_time"] == pytest.approx(4)
    text = capsys.readouterr().out
    assert f"total images/sec: {stats['images_per_sec']:.2f}" in text
    assert f"{stats['last_average_loss']:.3f}" == step_rows(text)[-1][8]


def _params(**values: object) -> cnn.Params:
    return cnn.make_params(
        **{
            "device": "cpu", "batch_size": 4, "num_warmup_batches": 1, "display_every": 1,
            "weight_decay": 0, **values,
        }
    )  # fmt: skip


def _run(**values: object) -> dict:
    return cnn.BenchmarkCNN(_params(**values), dataset=Synthetic(), model=Trivial()).run()
