"""Graphs as files: of the step, of each device, and frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cnn_standins
import numpy as np
import pytest
import tensorflow as tf
from cnn_standins import Listed
from google.protobuf import text_format

from trainbench import cnn


def run(dataset: Any = None, **flags: object) -> cnn.BenchmarkCNN:
    return cnn_standins.run(dataset, **{"num_batches": 1, **flags})[0]


def test_the_graph_is_text_if_its_name_ends_in_txt(tmp_path: Path) -> None:
    for name, parse in (
        ("graph.pbtxt", lambda data: text_format.Parse(data, tf.compat.v1.GraphDef())),
        ("graph.pb", tf.compat.v1.GraphDef.FromString),
    ):
        run(graph_file=str(tmp_path / "new" / name))
        graph = parse((tmp_path / "new" / name).read_bytes())
        assert any(node.op == "MatMul" for node in graph.node)
        assert any("ResourceApply" in node.op or "Assign" in node.op for node in graph.node)


def test_a_frozen_graph_loads_without_variables_and_gives_the_same_numbers(tmp_path: Path) -> None:
    path = tmp_path / "frozen.pb"
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    dataset = Listed(images, [0, 1, 2, 3], num_classes=11)
    benchmark = run(dataset, forward_only=True, freeze_when_forward_only=True, graph_file=str(path))
    graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    assert not any("Var" in node.op for node in graph.node)
    inputs = [f"{node.name}:0" for node in graph.node if node.op == "Placeholder"]
    (logits,) = [node.input[0] for node in graph.node if node.op == "IsFinite"][:1]

    # A graph of its own: what is loaded knows nothing of the run that wrote it.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph, name="")
        other = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32)
        fed = dict(zip(inputs, (other, np.arange(4, dtype=np.int32)), strict=True))
        found = session.run(logits if ":" in logits else f"{logits}:0", fed)
    expected = benchmark.session.network.model(other, training=False)
    assert found == pytest.approx(np.asarray(expected), abs=1e-5)


def test_each_device_has_a_graph_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(partitioned_graph_file_prefix=str(tmp_path / "new" / "part.pbtxt"))
    files = sorted((tmp_path / "new").iterdir())
    assert files[0].name.startswith("part_job_localhost_replica_0_task_0_device_CPU_")
    for file in files:
        assert f"Writing partitioned GraphDef as text to {file}\n" in capsys.readouterr().out
        graph = text_format.Parse(file.read_bytes(), tf.compat.v1.GraphDef())
        (device,) = {node.device for node in graph.node}
        assert device.replace("/", "_").replace(":", "_") in file.name


def test_only_the_first_step_of_a_process_hands_out_its_graphs(tmp_path: Path) -> None:
    prefix = tmp_path / "again"
    for _ in range(2):
        run(partitioned_graph_file_prefix=str(prefix))
    assert len(list(tmp_path.iterdir())) == 1
