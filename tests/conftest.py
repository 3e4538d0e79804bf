"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from checkout import CHECKOUT

from trainbench.benchmark import registered
from trainbench.trials.paths import DataDir

# A change is judged by the same cases each time; HYPOTHESIS_PROFILE=default searches for others.
hypothesis.settings.register_profile("same cases", derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same cases"))


def pytest_configure() -> None:
    """Let the processes that tests start hear the signals that ``&`` and ``nohup`` ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            # Children inherit that a signal is ignored, but not what else is done about it.
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the real ratings and logs, which their licence keeps out of the project."""
    folder = Path(os.environ.get("TRAINBENCH_SHARED", CHECKOUT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real ratings and logs not found at {folder} (set TRAINBENCH_SHARED)")
    return folder


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy benchmark of tests/toy is registered, here and in processes started from here."""
    folder = str(CHECKOUT / "tests" / "toy")
    paths = [folder, os.environ.get("PYTHONPATH", "")]
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
    registered.cache_clear()
    yield
    registered.cache_clear()


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """An empty data directory."""
    folder = tmp_path / "data"
    folder.mkdir()
    return DataDir(folder)
