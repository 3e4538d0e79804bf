"""The files that the environment asks for: what is refused before a run, and what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainbench.errors import ConfigError, MachineError
from trainbench.trials.exports import RAW, STITCHED, export_raw_log, require_possible
from trainbench.trials.paths import TrialDir


def test_the_raw_log_has_the_lines_of_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = TrialDir(tmp_path / "trial_0")
    trial.root.mkdir()
    for path in (trial.compliance_generator, trial.compliance_raw):
        path.write_text(f"{path.stem}\n")
    monkeypatch.setenv(RAW, str(tmp_path / "raw.log"))
    export_raw_log(trial)
    assert (tmp_path / "raw.log").read_text() == "compliance_raw\ncompliance_generator\n"


@pytest.mark.parametrize("name", [RAW, STITCHED])
def test_one_file_for_several_trials_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "file.log"))
    require_possible(1)
    with pytest.raises(ConfigError, match=rf"{name}=.* names one file, and each of 3 trials"):
        require_possible(3)


def test_a_raw_log_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raw.log").write_text("of yesterday\n")
    monkeypatch.setenv(RAW, str(tmp_path / "raw.log"))
    with pytest.raises(ConfigError, match="there is a log already; name a new file"):
        require_possible(1)


def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STITCHED, str(tmp_path / "none" / "out.log"))
    with pytest.raises(MachineError, match=r"none/out\.log: its folder is not there"):
        require_possible(1)


def test_nothing_asked_for_is_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RAW, raising=False)
    export_raw_log(TrialDir(tmp_path))
    require_possible(100)
    assert list(tmp_path.iterdir()) == []
