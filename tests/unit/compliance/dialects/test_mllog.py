"""The modern dialect is what the tools of today read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from v05_log import lines, run

from trainbench.compliance.dialects import mllog
from trainbench.compliance.event import Event
from trainbench.compliance.outcome import outcome
from trainbench.compliance.parse import parse_line
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import MachineError

parser = pytest.importorskip("mlperf_logging.compliance_checker.mlp_parser")
constants = pytest.importorskip("mlperf_logging.mllog.constants")


@pytest.mark.parametrize("ruleset", ["0.7.0", "4.1.0", "6.0.0"])
def test_its_own_parser_reads_every_line(ruleset: str, tmp_path: Path) -> None:
    path = tmp_path / "result_0.txt"
    path.write_text("".join(f"{line}\n" for line in mllog.format_lines(run())))
    parsed, errors = parser.parse_file(str(path), ruleset=ruleset)
    assert errors == []
    assert len(parsed) == len(run())
    assert parsed[0].timestamp == float(run()[0].time * 1000)


def test_tags_with_a_modern_name_have_it() -> None:
    modern = {value for name, value in vars(constants).items() if name.isupper()}
    assert set(mllog.TAGS.values()) <= modern
    keys_written = {line.split('"key": "')[1].split('"')[0] for line in mllog.format_lines(run())}
    assert {"cache_clear", "seed", "opt_base_learning_rate", "epoch_start"} <= keys_written


def test_intervals_epochs_and_outcome_stand_where_they_stand_today() -> None:
    written = mllog.format_lines(
        [
            Event(tags.RUN_START, None, "1.5", "a.py", 1),
            Event(tags.TRAIN_EPOCH, 3, "2.5", "a.py", 2),
            Event(tags.EVAL_ACCURACY, {"epoch": 3, "value": 0.5}, "3.5", "a.py", 3),
            Event(tags.RUN_STOP, {"success": False}, "4.5", "a.py", 4),
        ]
    )
    assert written == [
        ':::MLLOG {"namespace": "", "time_ms": 1500, "event_type": "INTERVAL_START", '
        '"key": "run_start", "value": null, "metadata": {"file": "a.py", "lineno": 1}}',
        ':::MLLOG {"namespace": "", "time_ms": 2500, "event_type": "INTERVAL_START", '
        '"key": "epoch_start", "value": null, '
        '"metadata": {"file": "a.py", "lineno": 2, "epoch_num": 3}}',
        ':::MLLOG {"namespace": "", "time_ms": 3500, "event_type": "POINT_IN_TIME", '
        '"key": "eval_accuracy", "value": 0.5, '
        '"metadata": {"file": "a.py", "lineno": 3, "epoch_num": 3}}',
        ':::MLLOG {"namespace": "", "time_ms": 4500, "event_type": "INTERVAL_END", '
        '"key": "run_stop", "value": null, '
        '"metadata": {"file": "a.py", "lineno": 4, "status": "aborted"}}',
    ]


def test_outcome_survives_the_translation() -> None:
    told = outcome(parse_line(line) for line in mllog.format_lines(run()))  # type: ignore[misc]
    assert told == outcome(parse_line(line) for line in lines(run()))  # type: ignore[misc]


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_logging", None)
    with pytest.raises(MachineError, match=r"\[mllog\]"):
        mllog.format_lines(run())
