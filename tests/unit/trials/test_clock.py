"""A phase is on the clock exactly when the clock runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from trainbench.trials.clock import TrialClock, timed_span


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


def test_a_phase_says_how_long_its_work_ran_beside_those_before_it(tmp_path: Path) -> None:
    clock = TrialClock(tmp_path / "phases.jsonl")
    with clock.phase("wait_compile", beside_s=1.5), clock.phase("eval"):
        pass
    lines = [json.loads(line) for line in (tmp_path / "phases.jsonl").read_text().splitlines()]
    assert [line.get("beside_s") for line in lines] == [None, 1.5]


def test_the_clock_starts_once(tmp_path: Path) -> None:
    clock = TrialClock(tmp_path / "phases.jsonl")
    clock.start()
    with pytest.raises(AssertionError):
        clock.start()


def phase(start: object, duration: object, timed: object = True) -> str:
    return json.dumps({"timed": timed, "start_unix_s": start, "duration_s": duration}) + "\n"


def test_the_span_on_the_clock_is_that_of_the_lines_that_say_it(tmp_path: Path) -> None:
    lines = [phase(1.0, 1.0, timed=False), phase(2.0, 1.0), phase(3, 4.5), phase(9.0, 1.0, False)]
    damaged = [
        phase("a", "b"),
        phase(10**400, 1),
        phase(None, 1.0),
        phase(1.0, 0.5, 1),
        "[]\n",
        "{",
    ]
    path = tmp_path / "phases.jsonl"
    path.write_text("".join([*lines, *damaged]) + "\n")
    path.write_bytes(path.read_bytes() + b"\xff\xfe")
    assert timed_span(path) == (2.0, 7.5)


def test_what_is_no_file_of_phases_has_no_span(tmp_path: Path) -> None:
    path = tmp_path / "phases.jsonl"
    assert timed_span(path) is None
    path.write_bytes(b"\xff")
    assert timed_span(path) is None
    path.unlink()
    path.mkdir()
    assert timed_span(path) is None
    path.rmdir()
    os.mkfifo(path)
    assert timed_span(path) is None
    other = tmp_path / "other.jsonl"
    other.write_text(phase(1.0, 1.0))
    path.unlink()
    path.symlink_to(other)
    assert timed_span(path) is None
