"""Event files and summaries by verbosity, and the benchmark's logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cnn_standins
import numpy as np
import pytest
import tensorflow as tf

from trainbench.cnn.measure.tensorboard import EventFile, histogram


def run(folder: Path, **flags: object) -> None:
    given = {
        "num_warmup_batches": 2, "num_batches": 4, "train_dir": str(folder),
        "save_summaries_steps": 2, "init_learning_rate": 0.5,
        "loss_type_to_report": "base_loss", **flags,
    }  # fmt: skip
    cnn_standins.run(**given)


def records(folder: Path) -> dict[int, dict[str, Any]]:
    """Step to tag to value, of the only event file in ``folder``."""
    (path,) = folder.glob("events.out.tfevents.*")
    found: dict[int, dict[str, Any]] = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            found.setdefault(event.step, {})[value.tag] = value
    return found


def test_verbosity_0_summarises_nothing(tmp_path: Path) -> None:
    run(tmp_path, summary_verbosity=0)
    run(tmp_path / "b", summary_verbosity=3, save_summaries_steps=0)
    assert list(tmp_path.rglob("events*")) == []


def test_verbosity_1_summarises_few_scalars_warm_up_included(tmp_path: Path) -> None:
    run(tmp_path, summary_verbosity=1, print_training_accuracy=True)
    found = records(tmp_path)
    assert sorted(found) == [2, 4, 6]
    assert sorted(found[2]) == ["base_loss", "learning_rate", "top_1_accuracy", "top_5_accuracy"]
    assert found[2]["learning_rate"].simple_value == 0.5


def test_verbosity_2_adds_the_logarithms_of_gradients(tmp_path: Path) -> None:
    run(tmp_path, summary_verbosity=2)
    values = records(tmp_path)[2]
    assert sorted(values) == ["base_loss", "learning_rate", "log_gradients"]
    assert values["log_gradients"].histo.num > 0


def test_verbosity_3_adds_variables_gradients_and_images(tmp_path: Path) -> None:
    run(tmp_path, summary_verbosity=3)
    values = records(tmp_path)[2]
    for name in ("dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"):
        assert values[name].histo.num > 0
        assert f"{name}/gradients" in values
    picture = tf.io.decode_png(values["images/image/0"].image.encoded_image_string)
    assert picture.shape == (8, 8, 3)


def test_the_loss_scale_is_summarised(tmp_path: Path) -> None:
    run(tmp_path, summary_verbosity=1, use_fp16=True, fp16_enable_auto_loss_scale=True)
    values = records(tmp_path)[2]
    assert values["loss_scale"].simple_value == 128
    assert values["loss_scale_normal_steps"].simple_value == 2


def test_an_evaluation_is_summarised_in_its_own_folder(tmp_path: Path) -> None:
    run(tmp_path / "train")
    run(tmp_path / "train", eval=True, eval_dir=str(tmp_path / "eval"), num_batches=2)
    found = records(tmp_path / "eval")
    assert sorted(found) == [6]
    assert sorted(found[6]) == ["eval/Accuracy@1", "eval/Accuracy@5"]


def test_a_histogram_holds_every_finite_value() -> None:
    found = histogram(np.array([1.0, 2.0, 3.0, np.nan, np.inf]))
    assert (found.num, found.sum, found.min, found.max) == (3, 6, 1, 3)
    assert sum(found.bucket) == 3
    assert histogram(np.array([np.nan])).num == 0


def test_no_host_is_named_in_an_event_file(tmp_path: Path) -> None:
    EventFile(str(tmp_path)).close()
    (path,) = tmp_path.iterdir()
    assert path.name.endswith(".trainbench")


def test_the_benchmarks_logs_hold_the_run_and_its_metrics(tmp_path: Path) -> None:
    run(
        tmp_path / "train", benchmark_log_dir=str(tmp_path / "log"), benchmark_test_id="mine",
        eval_during_training_every_n_steps=2, num_eval_batches=2, display_every=2,
    )  # fmt: skip
    described = json.loads((tmp_path / "log" / "benchmark_run.log").read_text())
    assert described["test_id"] == "mine"
    parameters = {p["name"]: p["value"] for p in described["run_parameters"]}
    assert parameters["mode"] == "training + evaluation"
    assert parameters["batch_size_per_device"] == 4
    lines = [json.loads(line) for line in (tmp_path / "log" / "metric.log").open()]
    assert sorted({line["name"] for line in lines}) == [
        "average_examples_per_sec", "current_examples_per_sec", "eval_average_examples_per_sec",
        "eval_top_1_accuracy", "eval_top_5_accuracy",
    ]  # fmt: skip
    speeds = [line for line in lines if line["name"] == "current_examples_per_sec"]
    assert [line["global_step"] for line in speeds] == [1, 2, 4]
    assert all(set(line) == {"name", "value", "unit", "global_step", "timestamp", "extras"}
               for line in lines)  # fmt: skip


def test_a_graph_is_written_as_text_or_binary(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, form in (("graph.pbtxt", "text"), ("graph.pb", "binary")):
        path = tmp_path / "graphs" / name
        run(tmp_path / name, graph_file=str(path))
        assert f"Writing GraphDef as {form} to {path}\n" in capsys.readouterr().out
        assert path.stat().st_size > 1000
        graph = tf.compat.v1.GraphDef()
        if form == "binary":
            graph.ParseFromString(path.read_bytes())
            assert any(node.op == "ResourceApplyGradientDescent" for node in _nodes(graph))


def _nodes(graph: Any) -> list[Any]:
    return [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
