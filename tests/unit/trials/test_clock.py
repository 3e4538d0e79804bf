"""A phase is on the clock exactly when the clock runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainbench.trials.clock import TrialClock


def test_phases_are_timed_between_start_and_stop_only(tmp_path: Path) -> None:
    clock = TrialClock(tmp_path / "phases.jsonl")
    with clock.phase("drop_caches"):
        assert clock.elapsed_s == 0.0
    clock.start()
    with clock.phase("train_epoch", epoch=0):
        pass
    stopped = clock.stop()
    with clock.phase("save_model"):
        pass
    lines = [json.loads(line) for line in (tmp_path / "phases.jsonl").read_text().splitlines()]
    assert [(p["name"], p["timed"]) for p in lines] == [
        ("drop_caches", False),
        ("train_epoch", True),
        ("save_model", False),
    ]
    assert clock.elapsed_s == stopped >= lines[1]["duration_s"]


def test_a_phase_that_fails_is_recorded_too(tmp_path: Path) -> None:
    clock = TrialClock(tmp_path / "phases.jsonl")
    with pytest.raises(ValueError, match="broken"), clock.phase("compile"):
        raise ValueError("broken")
    assert json.loads((tmp_path / "phases.jsonl").read_text())["name"] == "compile"


def test_the_clock_starts_once(tmp_path: Path) -> None:
    clock = TrialClock(tmp_path / "phases.jsonl")
    clock.start()
    with pytest.raises(AssertionError):
        clock.start()
