"""The trace of a warm-up step (facts 1.14, K90)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cnn_standins import Synthetic, Trivial
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from trainbench import cnn
from trainbench.cnn.params import ParamError


def run(path: Path, **values: object) -> None:
    params = cnn.make_params(
        **{
            "device": "cpu", "batch_size": 4, "num_batches": 2, "num_warmup_batches": 2,
            "trace_file": str(path), **values,
        }
    )  # fmt: skip
    cnn.BenchmarkCNN(params, dataset=Synthetic(), model=Trivial()).run()


def test_90_a_trace_is_json_of_events_with_times(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "new" / "trace.json"
    run(path)
    assert capsys.readouterr().out.count(f"Dumping trace to {path}\n") == 1
    events = json.loads(path.read_text())["traceEvents"]
    complete = [event for event in events if event["ph"] == "X"]
    assert {"ts", "dur", "name", "pid", "tid"} <= set(complete[0])
    assert any("MatMul" in event["name"] for event in complete)
    assert any(event["name"] == "process_name" for event in events)


def test_90_the_other_form_is_the_profilers_own(tmp_path: Path) -> None:
    path = tmp_path / "trace.pb"
    run(path, use_chrome_trace_format=False)
    assert xplane_pb2.XSpace.FromString(path.read_bytes()).planes


def test_too_few_warm_up_steps_are_an_error_not_silence(tmp_path: Path) -> None:
    with pytest.raises(ParamError, match="this run has 1; add --num_warmup_batches=2"):
        run(tmp_path / "trace.json", num_warmup_batches=1)
    assert list(tmp_path.iterdir()) == []
