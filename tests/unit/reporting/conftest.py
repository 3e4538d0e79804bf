"""The run that reports are made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_dir import build_run

from trainbench.trials.paths import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A finished run of three trials, of which the last missed the target."""
    return build_run(tmp_path / "run")
