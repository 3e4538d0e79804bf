"""Top operations of the first timed steps."""

from __future__ import annotations

import json
from pathlib import Path

import cnn_standins
import pytest
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from trainbench.cnn.measure import step_profile
from trainbench.cnn.measure.step_profile import Call, Profile


def run(path: Path, num_batches: int, **flags: object) -> None:
    cnn_standins.run(num_batches=num_batches, num_warmup_batches=1, tfprof_file=str(path), **flags)


def test_the_first_ten_timed_steps_are_profiled(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "new" / "profile.json"
    run(path, 12, result_json=str(tmp_path / "result.json"))
    out = capsys.readouterr().out
    assert out.index(f"Dumping profile to {path}\n") < out.index("total images/sec")
    record = json.loads(path.read_text())
    assert record["steps"] == 10
    calls = {row["name"]: row["calls"] for row in record["operations"] if "dense" in row["name"]}
    assert 10 in calls.values()
    assert any("MatMul" in row["type"] and row["calls"] >= 30 for row in record["types"])
    for rows in (record["types"], record["operations"]):
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert [row["cpu_s"] for row in rows] == sorted((r["cpu_s"] for r in rows), reverse=True)
    degraded = json.loads((tmp_path / "result.json").read_text())["degraded"]
    assert {"code": "watched", "text": "timed steps ran under --tfprof_file"} in degraded


def test_a_run_of_fewer_steps_has_a_profile_of_them_as_text(tmp_path: Path) -> None:
    path = tmp_path / "profile.txt"
    run(path, 2)
    assert path.read_text().startswith("Profile of 2 steps, ms per step\n\nType ")


def test_a_call_does_not_count_what_it_called() -> None:
    spans = [(0, 100, "outer"), (10, 30, "first"), (50, 20, "second"), (55, 5, "inner")]
    own = {what: duration for duration, what in step_profile.own_times(spans)}
    assert own == {"outer": 50, "first": 30, "second": 15, "inner": 5}


def test_accelerators_decide_the_order_where_there_are_any() -> None:
    calls = [
        Call("launch", "Conv2D", 9.0, accelerator=False),
        Call("launch", "Conv2D", 1.0, accelerator=True),
        Call("norm", "FusedBatchNormV3", 3.0, accelerator=True),
        Call("norm", "FusedBatchNormV3", 1.0, accelerator=False),
    ]
    first, second = Profile.of(calls, steps=1).operations
    assert (first.name, first.share, first.calls) == ("norm", 0.75, 2)
    assert (second.name, second.share, second.cpu_s) == ("launch", 0.25, 9.0)


def test_a_kernel_of_a_gpu_counts_for_the_operation_that_the_profiler_notes() -> None:
    space = xplane_pb2.XSpace()
    plane = space.planes.add(name="/device:GPU:0")
    plane.event_metadata[1].name = "volta_sgemm_128x64"
    plane.stat_metadata[1].name = "tf_op"
    plane.stat_metadata[2].name = "dense/MatMul:MatMul"
    event = plane.lines.add(name="Stream #14").events.add(metadata_id=1, duration_ps=2_000_000)
    event.stats.add(metadata_id=1, ref_value=2)
    (call,) = step_profile.calls(space.SerializeToString())
    assert call == Call("dense/MatMul", "MatMul", pytest.approx(2e-6), accelerator=True)
