"""The seconds before the steps, each counted in one phase."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cnn_standins
import pytest

from trainbench.cnn import startup
from trainbench.cnn.startup import Startup


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test moves by changing its one number."""
    now = [0.0]
    monkeypatch.setattr(startup.time, "perf_counter", lambda: now[0])
    return now


def test_a_phase_within_another_is_counted_once(clock: list[float]) -> None:
    found = Startup()
    with found.phase("build"):
        clock[0] += 1
    with found.phase("compile"):
        clock[0] += 2
        with found.phase("trace"):
            clock[0] += 4
        clock[0] += 8
    assert found.seconds() == {"build": 1, "trace": 4, "compile": 10}


def test_what_follows_the_first_step_is_no_start(
    clock: list[float], capsys: pytest.CaptureFixture
) -> None:
    found = Startup()
    function = found.traced(lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    function(3)
    found.finish()
    function(5)
    found.finish()
    assert found.seconds() == {"trace": 3}
    assert capsys.readouterr().err.count("start-up: trace 3.0 s\n") == 1


def test_a_long_phase_says_that_it_lasts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(startup, "BEAT_S", 0.01)
    with Startup().phase("freeze"):
        time.sleep(0.3)
    assert "still making the weights constants" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "phases"),
    [
        ({}, ["build", "trace", "compile"]),
        ({"forward_only": True}, ["build", "trace", "freeze", "compile"]),
    ],
)
def test_a_run_prints_its_start_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture, flags: dict, phases: list
) -> None:
    path = tmp_path / "result.json"
    cnn_standins.run(num_batches=2, num_warmup_batches=1, result_json=str(path), **flags)
    shown = capsys.readouterr()
    record = json.loads(path.read_text())
    assert list(record["startup_s"]) == phases
    assert all(seconds > 0 for seconds in record["startup_s"].values())
    assert record["startup_s"]["compile"] <= record["first_step_s"]
    assert shown.err.count("start-up: build ") == 1
    assert "start-up" not in shown.out
