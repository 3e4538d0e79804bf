"""Where the first NaN comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cnn_standins
import pytest
import tensorflow as tf
from cnn_standins import Trivial

from trainbench.cnn.flags.params import ParamError
from trainbench.cnn.measure import numerics
from trainbench.errors import NotFiniteError, TrainbenchError


class Logarithm(Trivial):
    """A loss that takes the logarithm of numbers below zero."""

    def loss_function(self, labels: Any, logits: Any) -> Any:
        """Never finite."""
        return tf.reduce_mean(tf.math.log(logits - tf.reduce_max(logits) - 1))


def run(model: Trivial, **flags: object) -> dict:
    return cnn_standins.run(model=model, num_batches=2, **flags)[1]


def test_the_first_nan_ends_the_run_and_names_its_operation_and_line() -> None:
    with pytest.raises(
        TrainbenchError,
        match=r'"Log", shape \(4, 11\), made at trainbench/cnn/train/network.py:\d+$',
    ):
        run(Logarithm(), debugger="cli")
    # The switch is off again: the same loss now ends the run without the name of the operation.
    with pytest.raises(NotFiniteError, match=r"^step 1: the loss is nan; lower the learning rate"):
        run(Logarithm())


def test_the_check_changes_no_number() -> None:
    assert (
        run(Trivial(), debugger="cli")["last_average_loss"] == run(Trivial())["last_average_loss"]
    )


def test_the_dump_has_the_files_of_tensorboards_debugger(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    run(Trivial(), debug_dump_dir=str(tmp_path / "dump"), result_json=str(result))
    kinds = {path.suffix for path in (tmp_path / "dump").iterdir()}
    assert {".metadata", ".graphs", ".graph_execution_traces", ".source_files"} <= kinds
    assert [d["code"] for d in json.loads(result.read_text())["degraded"]][-1] == "watched"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"debugger": "localhost:6064"}, "TensorBoard takes no sessions of TensorFlow 2"),
        ({"debugger": "cli", "xla_compile": True}, "leave out --xla and --xla_compile"),
        (
            {"debugger": "cli", "use_fp16": True, "fp16_enable_auto_loss_scale": True},
            "overflows on purpose",
        ),
    ],
)
def test_what_the_check_does_not_go_with_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ParamError, match=message):
        run(Trivial(), **values)


@pytest.mark.parametrize("folders", ["", "trainbench/", "a trainbench/trainbench/"])
def test_the_line_is_the_innermost_of_the_package_whatever_the_folders_above_are_called(
    monkeypatch: pytest.MonkeyPatch, folders: str
) -> None:
    package = Path(f"/home/{folders}src/trainbench")
    monkeypatch.setattr(numerics, "PACKAGE", package)
    report = (
        '!!! Detected Infinity or NaN in output 0 of graph op "Log" (# of outputs: 1) !!!\n'
        "  shape: (4, 11)\n"
        f"    + {package}/cnn/train/step.py (L7) run\n"
        f"    + {package}/cnn/train/network.py (L80) loss\n"
        f"    + /home/{folders}.venv/trainbench/ops.py (L9) log\n"
    )
    assert (
        numerics.summary(report) == 'Infinity or NaN in output 0 of operation "Log", '
        "shape (4, 11), made at trainbench/cnn/train/network.py:80"
    )


def test_another_error_is_not_taken_for_a_nan() -> None:
    assert numerics.summary("logits and labels must have the same first dimension") is None
