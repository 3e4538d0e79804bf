"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the real ratings and logs, which their licence keeps out of the project."""
    folder = Path(os.environ.get("TRAINBENCH_SHARED", CHECKOUT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real ratings and logs not found at {folder} (set TRAINBENCH_SHARED)")
    return folder
