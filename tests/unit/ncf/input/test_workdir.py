"""Work folders: those of dead runs go, those of living runs stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainbench.errors import MachineError
from trainbench.ncf.input.workdir import claim, remove_stale

HOLDER = """
import sys, time
from pathlib import Path
from trainbench.ncf.input.workdir import claim
held = claim(Path(sys.argv[1]))
print(held.work_dir.root, flush=True)
time.sleep(60)
"""


def test_a_claimed_folder_is_removed_once_and_for_all(tmp_path: Path) -> None:
    held = claim(tmp_path / "work")
    assert held.work_dir.root.is_dir()
    held.remove()
    held.remove()
    assert not held.work_dir.root.exists()


def test_the_folder_of_a_living_run_stays(tmp_path: Path) -> None:
    first = claim(tmp_path)
    second = claim(tmp_path)
    assert remove_stale(tmp_path) == []
    assert first.work_dir.root != second.work_dir.root
    assert first.work_dir.root.is_dir()
    first.remove()
    second.remove()


def test_the_folder_of_a_killed_run_goes(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        folder = Path(holder.stdout.readline().strip())
        assert remove_stale(tmp_path) == []
        os.kill(holder.pid, signal.SIGKILL)
    assert folder.is_dir()
    assert remove_stale(tmp_path) == [folder]
    assert not folder.exists()


def test_a_folder_without_a_lock_is_of_a_run_that_died_at_birth(tmp_path: Path) -> None:
    (tmp_path / "ncf-1-abc").mkdir()
    (tmp_path / "other").mkdir()
    assert [path.name for path in remove_stale(tmp_path)] == ["ncf-1-abc"]
    assert (tmp_path / "other").is_dir()


def test_a_work_folder_that_cannot_be_made_is_the_machines_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        claim(tmp_path / "file" / "work")
