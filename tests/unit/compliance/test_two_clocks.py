"""A wall clock that was set inside a run, or times that were changed in its log, are found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from v05_log import Events, position, run

from trainbench.compliance.check import check_file
from trainbench.compliance.dialects.v05 import format_line
from trainbench.compliance.emit import emit, logging_to
from trainbench.compliance.parse import read_log
from trainbench.compliance.rules.levels import ruleset
from trainbench.compliance.stitch import stitch_run
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.two_clocks import (
    Clocks,
    Reading,
    beside,
    from_file,
    of_log,
    steps,
    times,
    to_line,
    unequal_lines,
)
from trainbench.trials.paths import RunDir

Change = Callable[[Events], Events]
RAW = "compliance_raw.log"


def readings(events: Events, log: str = RAW, *, rate: float = 1.0) -> tuple[Reading, ...]:
    """What the clocks showed at ``events``: a wall clock that was right, or ran at ``rate``."""
    zero = float(events[0].time)
    return tuple(
        Reading(
            log,
            event.key,
            event.timestamp,
            float(event.time) + 2e-5,
            1000 + (float(event.time) - zero) / rate + 2e-5,
        )
        for event in events
    )


def shifted(by_s: float, *, first: str = tags.EVAL_START) -> Change:
    """A log in which all lines from ``first`` on are dated earlier or later."""

    def change(events: Events) -> Events:
        place, by = position(events, first), Decimal(str(by_s))
        later = [replace(e, timestamp=f"{e.time + by:.9f}") for e in events[place:]]
        return [*events[:place], *later]

    return change


def write(folder: Path, events: Events, clocks: tuple[Reading, ...]) -> Path:
    """A raw log with its clock.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / RAW
    log.write_text("".join(f"{tags.RAW_PREFIX}{format_line(event)}\n" for event in events))
    beside(log).write_text("".join(map(to_line, clocks)))
    return log


def test_every_line_has_a_reading_of_both_clocks(tmp_path: Path) -> None:
    log = tmp_path / RAW
    before = time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    with logging_to(log, clock=beside(log)):
        emit(tags.RUN_START)
        emit(tags.SEED, 7)
        emit(tags.EVAL_ACCURACY, {"epoch": 0, "value": 0.5})
    after = time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    found, events = from_file(beside(log)), read_log(log).events
    assert found is not None
    assert [(r.log, r.tag, r.time) for r in found.readings] == [
        (RAW, event.key, event.timestamp) for event in events
    ]
    monotonic = [before, *(r.monotonic_s for r in found.readings), after]
    assert monotonic == sorted(monotonic)
    assert times(events, found).agree is True


def test_the_line_itself_is_the_same_with_and_without_a_clock(tmp_path: Path) -> None:
    lines = []
    for clock in (None, tmp_path / "clock.jsonl"):
        with logging_to(tmp_path / "log", clock=clock):
            emit(tags.SEED, 7)
        start, _, rest = (tmp_path / "log").read_text().splitlines()[-1].partition(" ncf ")
        lines.append((start, rest.split(" ", 1)[1]))
    assert lines[0] == lines[1]


@pytest.mark.parametrize("step_s", [-2.0, 0.3, 3600.0])
def test_a_wall_clock_that_is_set_inside_a_run_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    log, right = tmp_path / RAW, time.time
    with logging_to(log, clock=beside(log)):
        emit(tags.RUN_START)
        emit(tags.EVAL_START, 0)
        monkeypatch.setattr(time, "time", lambda: right() + step_s)
        emit(tags.EVAL_ACCURACY, {"epoch": 0, "value": 0.5})
        emit(tags.RUN_STOP, {"success": False})
    events, clocks = read_log(log).events, of_log(log)
    ((found, event),) = steps(events, clocks)
    assert event == events[2]
    side = "behind" if step_s < 0 else "ahead of"
    assert found == f"eval_accuracy {abs(step_s):.3f} s {side} the monotonic clock"
    shown = times(events, clocks)
    assert shown.wall_s is not None
    assert shown.monotonic_s is not None
    assert shown.wall_s - shown.monotonic_s == pytest.approx(step_s, abs=0.01)
    assert "sec. by the monotonic clock" in shown.sentence


@pytest.mark.parametrize("by_s", [-2.0, 3600.0])
def test_a_step_is_found_by_strict_and_by_stitch_which_say_both_times(
    tmp_path: Path, by_s: float
) -> None:
    folder = RunDir(tmp_path)
    changed = shifted(by_s)(run())
    # As if the clock had been set: the readings have the times of the lines.
    clocks = tuple(
        replace(right, time=event.timestamp, wall_unix_s=float(event.time))
        for right, event in zip(readings(run()), changed, strict=True)
    )
    log = write(folder.trial(0).root, changed, clocks)
    (trial,) = stitch_run(folder, system="box").trials
    assert [f.rule for f in trial.stitch] == ["stitch/clock/step"]
    assert "strict/clock/step" in {f.rule for f in trial.levels["strict"]}
    assert f"MLPerf time: {154.1 + by_s:.1f} sec. (by the log's wall clock" in trial.summary
    assert "but 154.1 sec. by the monotonic clock" in trial.summary
    entry = json.loads(folder.findings.read_text())["trials"][0]
    assert entry["clocks_agree"] is False
    assert entry["monotonic_time_s"] == pytest.approx(154.1, abs=1e-3)
    for path in (log, folder.results("box") / "result_0.txt"):
        rules = {f.rule for f in check_file(path, ruleset("strict"))}
        assert "strict/clock/step" in rules
        assert not {f.rule for f in check_file(path, ruleset("2"))} & {"strict/clock/step"}


@pytest.mark.parametrize("by_s", [-2.0, 3600.0, -0.01])
def test_times_that_were_changed_in_the_log_are_found(tmp_path: Path, by_s: float) -> None:
    log = write(tmp_path, shifted(by_s)(run()), readings(run()))
    found = {f.rule: f for f in check_file(log, ruleset("strict"))}
    assert "in clock.jsonl" in found["strict/clock/lines"].found
    assert found["strict/clock/lines"].line_number is not None
    assert ("strict/clock/step" in found) == (abs(by_s) > 0.1)


def test_equal_times_are_not_called_different_where_a_line_does_not_agree() -> None:
    events = run()
    added = replace(events[-1], key="degraded")
    shown = times([*events, added], Clocks(readings(events)))
    assert shown.agree is False
    assert shown.sentence == "by the log's wall clock; not all of its lines agree with clock.jsonl"


def test_a_line_that_was_removed_or_added_is_found() -> None:
    events = run()
    clocks = Clocks(readings(events))
    ((found, _),) = unequal_lines([e for e in events if e.key != tags.EVAL_SIZE], clocks)
    assert found.startswith("no eval_size of ")
    added = replace(events[-1], key="degraded")
    assert list(unequal_lines([*events, added], clocks)) == [("degraded without a reading", added)]


def test_lines_of_preprocessing_need_no_reading() -> None:
    events = run()
    start = position(events, tags.RUN_CLEAR_CACHES)
    assert list(unequal_lines(events, Clocks(readings(events[start:])))) == []


@pytest.mark.parametrize(("rate", "found"), [(1 + 4e-4, 0), (1 - 4e-4, 0), (1 + 2e-3, 1)])
def test_what_ntp_may_slew_is_no_step(rate: float, found: int) -> None:
    events = run(epoch_s=600)
    assert len(list(steps(events, Clocks(readings(events, rate=rate))))) == found


def test_a_tenth_of_a_second_is_no_step() -> None:
    events = run()
    for by_s, found in ((0.09, 0), (0.3, 1)):
        assert len(list(steps(shifted(by_s)(events), Clocks(readings(events))))) == found


def test_a_process_that_was_stopped_between_line_and_reading_is_no_step() -> None:
    events = run()
    late = [replace(r, wall_unix_s=r.wall_unix_s + 5, monotonic_s=r.monotonic_s + 5)
            for r in readings(events)]  # fmt: skip
    clocks = Clocks((*readings(events)[:20], *late[20:]))
    assert times(events, clocks).agree is True


def test_without_monotonic_times_nothing_is_found_and_that_is_said(tmp_path: Path) -> None:
    log = write(tmp_path, run(), ())
    beside(log).unlink()
    assert of_log(log) is None
    assert not [f for f in check_file(log, ruleset("strict")) if "clock/" in f.rule[:14]]
    assert "no monotonic times" in times(run(), None).sentence


@pytest.mark.parametrize("line", [
    "", "{", "[]", '{"log": 1}',
    '{"log": "a", "tag": "b", "time": "x", "wall_unix_s": 1, "monotonic_s": 1}',
    '{"log": "a", "tag": "b", "time": "1.0", "wall_unix_s": 1e999, "monotonic_s": 1}',
    '{"log": "a", "tag": "b", "time": "1.0", "wall_unix_s": NaN, "monotonic_s": 1}',
])  # fmt: skip
def test_a_damaged_reading_is_named(tmp_path: Path, line: str) -> None:
    log = write(tmp_path, run(), readings(run()))
    beside(log).write_text(f"{line}\n{beside(log).read_text()}")
    found = [f.found for f in check_file(log, ruleset("strict")) if f.rule == "strict/clock/lines"]
    assert found
    assert found[0].startswith("clock.jsonl line 1: ")


def test_readings_of_another_log_of_the_folder_are_left_out(tmp_path: Path) -> None:
    others = readings(run(), "compliance_generator.log")
    log = write(tmp_path, run(), (*readings(run()), *others))
    assert of_log(log) == Clocks(readings(run()))
    assert of_log(tmp_path / "elsewhere.log") is None
