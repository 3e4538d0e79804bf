"""Stitching: all raw logs of a trial become one, in order, complete, and judged."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from v05_log import HITS, Events, lines, run

from trainbench.compliance.check import check_file
from trainbench.compliance.dialects.v05 import format_line
from trainbench.compliance.event import Event
from trainbench.compliance.parse import parse_line, read_log
from trainbench.compliance.reading import CHECKERS
from trainbench.compliance.rules.levels import ruleset
from trainbench.compliance.stitch import stitch, stitch_files, stitch_run, stitch_trial
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import ConfigError, DataIntegrityError
from trainbench.trials.paths import RunDir, TrialDir

GENERATOR = (
    tags.INPUT_STEP_TRAIN_NEG_GEN,
    tags.INPUT_HP_NUM_NEG,
    tags.INPUT_HP_SAMPLE_TRAIN_REPLACEMENT,
    tags.INPUT_ORDER,
    tags.INPUT_SIZE,
    tags.INPUT_BATCH_SIZE,
    tags.INPUT_STEP_EVAL_NEG_GEN,
    tags.EVAL_SIZE,
)


def write_raw(trial: TrialDir, events: Events) -> list[str]:
    """The events as three processes would have logged them; returns every raw line."""
    trial.root.mkdir(parents=True)
    users = [event for event in events if event.key == tags.EVAL_HP_NUM_USERS]
    deferred = {
        id(event): replace(event, value=f"DEFERRED: {number}")
        for number, event in enumerate(users[1:])
    }
    files: dict[Path, list[str]] = {}
    for event in events:
        if event.key.startswith("preproc"):
            path = trial.compliance_preprocess
        elif event.key in GENERATOR or event is users[0]:
            path = trial.compliance_generator
        else:
            path = trial.compliance_raw
        line = tags.RAW_PREFIX + format_line(deferred.get(id(event), event))
        files.setdefault(path, []).append(line)
    for path, raw in files.items():
        path.write_text("".join(f"{line}\n" for line in raw))
    return [line for raw in files.values() for line in raw]


@pytest.fixture
def trial(tmp_path: Path) -> TrialDir:
    return TrialDir(tmp_path / "run" / "trial_0")


def test_three_raw_logs_become_the_log_of_one_run(trial: TrialDir, tmp_path: Path) -> None:
    write_raw(trial, run())
    result = stitch_trial(trial, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "".join(lines(run()))
    assert result.findings == ()


@pytest.mark.parametrize("checker", CHECKERS)
def test_stitched_log_passes_all_levels(trial: TrialDir, tmp_path: Path, checker: str) -> None:
    write_raw(trial, run())
    stitch_trial(trial, tmp_path / "out.txt")
    assert check_file(tmp_path / "out.txt", ruleset("strict", checker=checker)) == []


def test_time_is_from_run_start_to_run_stop(trial: TrialDir, tmp_path: Path) -> None:
    write_raw(trial, run())
    result = stitch_trial(trial, tmp_path / "out.txt")
    assert result.time_s == 154.1
    assert result.summary == "MLPerf time: 154.1 sec."


def test_preprocessing_of_another_day_comes_first(trial: TrialDir, tmp_path: Path) -> None:
    old = [
        replace(event, timestamp="1541000000.000000001") if "preproc" in event.key else event
        for event in run()
    ]
    write_raw(trial, old)
    result = stitch_trial(trial, tmp_path / "out.txt")
    assert [event.key for event in result.events[:4]] == [
        tags.PREPROC_HP_MIN_RATINGS,
        tags.PREPROC_HP_NUM_EVAL,
        tags.PREPROC_HP_SAMPLE_EVAL_REPLACEMENT,
        tags.RUN_CLEAR_CACHES,
    ]
    for checker in CHECKERS:
        assert check_file(tmp_path / "out.txt", ruleset(2, checker=checker)) == []


def test_lines_written_twice_are_in_the_log_once(trial: TrialDir, tmp_path: Path) -> None:
    write_raw(trial, run())
    trial.compliance_raw.write_text(trial.compliance_raw.read_text() * 2)
    stitch_trial(trial, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "".join(lines(run()))


def test_nothing_is_lost(trial: TrialDir, tmp_path: Path) -> None:
    raw = write_raw(trial, run())
    broken = ["NCF_RAW_:::MLPv0.5.0 ncf 154", "Killed", raw[4] + raw[5]]
    before = len(trial.compliance_raw.read_text().splitlines())
    with trial.compliance_raw.open("a") as file:
        file.write("\n".join(broken))
    result = stitch_trial(trial, tmp_path / "out.txt")
    assert len(result.lines) == len(raw)
    assert sorted((f.rule, f.line_number) for f in result.findings) == [
        ("parse/line", before + 1),
        ("parse/line", before + 3),
        ("parse/other", before + 2),
    ]
    assert all("compliance_raw.log" in finding.found for finding in result.findings)


def test_deferred_value_comes_from_the_other_process(trial: TrialDir, tmp_path: Path) -> None:
    write_raw(trial, run())
    result = stitch_trial(trial, tmp_path / "out.txt")
    users = [event.value for event in result.events if event.key == tags.EVAL_HP_NUM_USERS]
    assert users == [138_493] * (1 + len(HITS))


@pytest.mark.parametrize(
    ("others", "found"), [([], "no value"), ([5, 6], "different values"), ([True, 1], "different")]
)
def test_deferred_value_that_nobody_can_tell_is_a_finding(others: list[object], found: str) -> None:
    events = [
        Event("eval_hp_num_users", value, f"{i}.0")
        for i, value in enumerate(["DEFERRED: a", *others])
    ]
    result = stitch(events)
    (finding,) = result.findings
    assert finding.rule == "stitch/deferred/eval_hp_num_users"
    assert found in finding.found
    assert result.events[0].value == "DEFERRED: a"


def test_raw_log_of_any_bytes_is_stitched_or_found(trial: TrialDir, tmp_path: Path) -> None:
    write_raw(trial, run())
    line = trial.compliance_raw.read_bytes().splitlines()[0]
    with trial.compliance_raw.open("ab") as file:
        for byte in range(256):
            file.write(line.replace(b"trial.py", b"tr" + bytes([byte]) + b"al.py") + b"\n")
        for number in range(20_000):
            file.write(line.replace(b"run_clear_caches", b"input_size: %d" % number) + b"\n")
    result = stitch_trial(trial, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == result.text
    assert {"parse/line", "parse/encoding"} <= {finding.rule for finding in result.findings}


def test_stitching_a_stitched_log_changes_nothing(trial: TrialDir, tmp_path: Path) -> None:
    write_raw(trial, run())
    stitch_trial(trial, tmp_path / "once")
    stitch_files([tmp_path / "once"], tmp_path / "twice")
    assert (tmp_path / "twice").read_text() == (tmp_path / "once").read_text()


def test_log_of_a_killed_run_is_stitched_and_has_no_time(trial: TrialDir, tmp_path: Path) -> None:
    write_raw(trial, run()[:40])
    result = stitch_trial(trial, tmp_path / "out.txt")
    assert result.time_s is None
    assert result.summary.startswith("MLPerf time: none")


def test_line_cut_by_a_kill_is_a_finding(trial: TrialDir, tmp_path: Path) -> None:
    write_raw(trial, run())
    text = trial.compliance_raw.read_text()
    trial.compliance_raw.write_text(text[:-30])
    (finding,) = stitch_trial(trial, tmp_path / "out.txt").findings
    assert finding.rule == "parse/line"


def test_modern_lines_are_stitched_too() -> None:
    line = (
        ':::MLLOG {"namespace": "", "time_ms": 1541635650500, "event_type": "INTERVAL_START", '
        '"key": "run_start", "value": null, "metadata": {"file": "a.py", "lineno": 3}}'
    )
    event = parse_line(line)
    assert isinstance(event, Event)
    assert stitch([event]).lines == (":::MLPv0.5.0 ncf 1541635650.500000000 (a.py:3) run_start",)


def test_trial_without_raw_logs_is_an_error(trial: TrialDir, tmp_path: Path) -> None:
    with pytest.raises(DataIntegrityError, match="no raw compliance log"):
        stitch_trial(trial, tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()


@pytest.fixture
def three_trials(tmp_path: Path) -> RunDir:
    """Converged, killed, and without any log."""
    found = RunDir(tmp_path / "run")
    write_raw(found.trial(0), run(seed=1))
    write_raw(found.trial(1), run(seed=2, start=1_541_640_000)[:40])
    found.trial(2).root.mkdir()
    return found


def test_run_has_a_result_per_trial_and_findings(three_trials: RunDir) -> None:
    found = stitch_run(three_trials, system="laptop")
    folder = three_trials.results("laptop")
    assert sorted(path.name for path in folder.iterdir()) == ["result_0.txt", "result_1.txt"]
    content = json.loads(three_trials.findings.read_text())
    first, killed, silent = content["trials"]
    assert first["file"] == "results/laptop/ncf/result_0.txt"
    data = (folder / "result_0.txt").read_bytes()
    assert first["sha256"] == hashlib.sha256(data).hexdigest()
    assert (first["time_s"], first["converged"], first["success"]) == (154.1, True, True)
    assert first["levels"] == {"1": [], "2": [], "strict": []}
    assert killed["time_s"] is None
    assert killed["levels"]["1"][0]["rule"] == "level1/exactly-one/run_stop"
    assert silent["stitch"][0]["rule"] == "stitch/no-log"
    assert found.trials[0].summary == (
        "trial 0: MLPerf time: 154.1 sec. Converged; findings at level 1: 0, 2: 0, strict: 0"
    )
    assert "no raw compliance log" in found.trials[2].summary


def test_same_run_gives_the_same_bytes(three_trials: RunDir) -> None:
    stitch_run(three_trials, system="laptop")
    before = three_trials.findings.read_bytes()
    stitch_run(three_trials, system="laptop")
    assert three_trials.findings.read_bytes() == before


def test_modern_dialect_is_written_beside(three_trials: RunDir) -> None:
    stitch_run(three_trials, system="laptop", dialect="mllog")
    modern = three_trials.results("laptop").with_name("ncf_mllog") / "result_0.txt"
    assert modern.read_text().startswith(':::MLLOG {"namespace"')
    assert len(read_log(modern).events) == len(run())


@pytest.mark.parametrize("system", ["", "../x", "a b", ".hidden", "a/b"])
def test_system_that_is_no_folder_name_is_refused(three_trials: RunDir, system: str) -> None:
    with pytest.raises(ConfigError, match="system name"):
        stitch_run(three_trials, system=system)


def test_unknown_dialect_is_refused(three_trials: RunDir) -> None:
    with pytest.raises(ConfigError, match="dialect"):
        stitch_run(three_trials, system="laptop", dialect="v06")


def test_run_without_trials_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataIntegrityError, match="trial"):
        stitch_run(RunDir(tmp_path), system="laptop")
