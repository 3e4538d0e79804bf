from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from run_dir import build_run

from trainbench.paths import RunDir
from trainbench.report.render import write_report


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return build_run(tmp_path / "run")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_copied_run_gives_the_same_bytes(run: RunDir, tmp_path: Path) -> None:
    first = write_report(run, tmp_path / "first")
    copy = RunDir(Path(shutil.copytree(run.root, tmp_path / "elsewhere" / "copy")))
    second = write_report(copy, tmp_path / "second")
    assert contents(first.html.parent) == contents(second.html.parent)
    assert str(tmp_path) not in first.html.read_text()
