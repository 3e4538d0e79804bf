"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from checkout import CHECKOUT


def pytest_configure() -> None:
    """Let the processes that tests start hear SIGINT, which a shell's ``&`` makes them ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the real ratings and logs, which their licence keeps out of the project."""
    folder = Path(os.environ.get("TRAINBENCH_SHARED", CHECKOUT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real ratings and logs not found at {folder} (set TRAINBENCH_SHARED)")
    return folder
