"""The trace of a warm-up step."""

from __future__ import annotations

import json
from pathlib import Path

import cnn_standins
import pytest
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from trainbench.cnn.flags.params import ParamError


def run(path: Path, **flags: object) -> None:
    cnn_standins.run(
        **{"num_batches": 2, "num_warmup_batches": 2, "trace_file": str(path), **flags}
    )


def test_a_trace_is_json_of_events_with_times(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "new" / "trace.json"
    run(path)
    assert capsys.readouterr().out.count(f"Dumping trace to {path}\n") == 1
    events = check_format(path.read_text())
    products = [event for event in events if "MatMul" in event["name"]]
    assert all(event["args"]["op"] == event["name"] for event in products)
    assert any(event["args"]["name"].startswith("gradient_tape/dense") for event in products)


def check_format(text: str) -> list[dict]:
    """The complete events of ``text``, each checked against the trace event format.

    The rules are those of the format's description for the two kinds of events in use: X
    (complete) has a start and a duration in microseconds, M (metadata) names a process or thread.
    Every thread with events has a name, and a browser's numbers hold every number.
    """
    trace = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert trace["displayTimeUnit"] in ("ms", "ns")
    complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    named = [event for event in trace["traceEvents"] if event["ph"] == "M"]
    assert len(complete) + len(named) == len(trace["traceEvents"])
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str)
        assert 0 <= event["pid"] < 1 << 31
        assert 0 <= event["tid"] < 1 << 31
        for value in event.get("args", {}).values():
            assert not isinstance(value, int) or abs(value) < 1 << 53
    for event in complete:
        assert event["ts"] >= 0
        assert event["dur"] >= 0
    for event in named:
        assert event["name"] in ("process_name", "thread_name")
        assert event["args"]["name"]
    threads = {(e["pid"], e["tid"]) for e in named if e["name"] == "thread_name"}
    processes = {e["pid"] for e in named if e["name"] == "process_name"}
    assert {(e["pid"], e["tid"]) for e in complete} <= threads
    assert {e["pid"] for e in complete} <= processes
    return complete


def test_the_other_form_is_the_profilers_own(tmp_path: Path) -> None:
    path = tmp_path / "trace.pb"
    run(path, use_chrome_trace_format=False)
    assert xplane_pb2.XSpace.FromString(path.read_bytes()).planes


def test_too_few_warm_up_steps_are_an_error_not_silence(tmp_path: Path) -> None:
    with pytest.raises(ParamError, match="this run has 1; add --num_warmup_batches=2"):
        run(tmp_path / "trace.json", num_warmup_batches=1)
    assert list(tmp_path.iterdir()) == []
