"""The file of --result_json."""

from __future__ import annotations

import json
from pathlib import Path

import cnn_standins
import pytest

from trainbench.cnn.measure import results


def run(**flags: object) -> dict:
    return cnn_standins.run(**{"num_warmup_batches": 1, "num_batches": 4, **flags})[1]


def test_the_result_holds_the_numbers_and_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    stats = run(result_json=str(path), optimizer="momentum")
    record = json.loads(path.read_text())
    assert record["stats"] == stats
    assert record["params"]["optimizer"] == "momentum"
    assert record["step_s"]["min"] <= record["step_s"]["p50"] <= record["step_s"]["p99"]
    assert record["first_step_s"] > record["step_s"]["p50"]
    assert record["compile_s"] == pytest.approx(
        record["first_step_s"] - record["step_s"]["p50"], rel=1e-3
    )
    assert record["peak_memory_bytes"] > 1 << 20
    # Two dense layers: 2 * (192 * 4 + 4 * 11) multiplications and additions, and the biases.
    assert record["flops_per_image"] == pytest.approx(2 * (192 * 4 + 4 * 11), rel=0.2)
    assert 0 < record["percent_of_measured_peak"] < 100
    assert record["percent_of_measured_peak_reason"] is None
    assert {"code": "generated_data", "text": "synthetic images"} in record["degraded"]
    assert record["environment"]["cpu"]["threads"] > 0
    assert record["forms"] == ["folded_16_bit_normalization"]


def test_the_result_holds_every_step_and_the_accuracy_curve(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    stats = run(
        result_json=str(path), num_batches=4, eval_during_training_every_n_steps=2,
        num_eval_batches=3,
    )  # fmt: skip
    record = json.loads(path.read_text())
    assert len(record["step_times_s"]) == record["num_batches"] == 4
    assert record["step_s"]["max"] == pytest.approx(max(record["step_times_s"]), abs=1e-8)
    curve = record["evaluations"]
    # One warm-up step, so that the evaluations follow global steps 3 and 5.
    assert [point["global_step"] for point in curve] == [3, 5]
    assert [point["epoch"] for point in curve] == [3 * 4 / 50_000, 5 * 4 / 50_000]
    assert [point["examples"] for point in curve] == [12, 12]
    assert curve[-1]["top_1_accuracy"] == stats["top_1_accuracy"]
    assert curve[0]["unix_s"] <= curve[1]["unix_s"] <= record["created_unix_s"]


def test_percentiles_of_step_times() -> None:
    found = results.percentiles([float(n) for n in range(1, 101)])
    assert (found["p50"], found["min"], found["max"]) == (50.5, 1, 100)
    assert results.percentiles([]) == {}
