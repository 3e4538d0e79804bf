"""The doctor names every requirement, how it stands and how to fix it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainbench.machine import doctor


def test_every_requirement_is_one_line_with_a_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = doctor.run(tmp_path)
    *lines, summary = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in (doctor.OK, doctor.WARN, doctor.FAIL) for line in lines)
    assert summary.startswith(f"{len(lines)} requirements, ")
    assert code == (6 if any(line.startswith(doctor.FAIL) for line in lines) else 0)


def test_what_does_not_stand_comes_with_its_fix(tmp_path: Path) -> None:
    for check in doctor.checks(tmp_path):
        assert check.state == doctor.OK or check.fix, check.name
        assert ("->" in check.line()) == (check.state != doctor.OK)


def test_a_later_popper_is_a_failure_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.system, "version", lambda package: "2020.9.1")
    check = doctor._popper()
    assert check.state == doctor.FAIL
    assert "refuse settings.py" in check.line()
