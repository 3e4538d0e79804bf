"""A run of all five steps that is small, real and the same each time, and what it must leave."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import processes_in

from trainbench.trials.paths import DataDir, RunDir, TrialDir

COMMAND = [
    *(sys.executable, "-m", "trainbench", "pipeline", "--preset", "quick", "--seed", "7"),
    *("--no-drop-caches", "--division", "open"),
    *("--set", "synthetic=200x300x8000", "--set", "batch_size=512", "--set", "max_epochs=2"),
    *("--set", "eval_negatives=299", "--set", "target_hit_rate=0.08", "--set", "xla=false"),
    *("--set", "deterministic=true"),
]
LONGEST_S = 300
"""A guard against hanging; nothing is said about how long anything takes."""
SAME_EACH_TIME = ("epoch", "mean_loss", "hits", "users", "epoch_sha256", "first_batch_sha256")
GOOD = 5
"""The page cache is left alone, for the sake of others on this machine; so its log says too little
for level 2. All else of the run is as it should be."""
CODES = {0, 1, 5, 6, 130}
"""How a disturbed run may end by itself; a signal's number is negative."""


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to: its data folder, what it left, how long it took."""

    data: Path
    products: Mapping[str, Any]
    length_s: float

    @property
    def run(self) -> RunDir:
        """Its folder."""
        return RunDir(DataDir(self.data).latest.resolve())


def undisturbed(data: Path) -> Undisturbed:
    """The run that all others are compared with."""
    started = time.monotonic()
    found = finished(data)
    return Undisturbed(data, found, time.monotonic() - started)


def pipeline(data: Path, command: Sequence[str] = (), **more: Any) -> subprocess.Popen[str]:
    """The run in ``data``, behind the words of ``command``."""
    return subprocess.Popen(
        [*command, *COMMAND, "--data-dir", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        **more,
    )


def finished(data: Path) -> Mapping[str, Any]:
    """What an undisturbed run in ``data`` leaves: hashes, losses and hits, not times.

    Raises:
        AssertionError: it did not end as it should, or left a process.
    """
    process = pipeline(data)
    output, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == GOOD, f"the next run ended with {process.returncode}:\n{output}"
    assert not processes_in(data), f"a process is left: {processes_in(data)}"
    return products(data)


def products(data: Path) -> Mapping[str, Any]:
    """What is the same each time in the newest run of ``data``."""
    run = RunDir(DataDir(data).latest.resolve())
    record = json.loads(run.cache_record.read_text())
    return {
        "cache": {name: array["sha256"] for name, array in record["arrays"].items()},
        "test set": record["test_set_sha256"],
        "epochs": [_same(line) for line in run.trial(0).epochs.read_text().splitlines()],
        "state": json.loads(run.trial(0).status.read_text())["state"],
        "report": sorted(path.name for path in run.report.iterdir()),
    }


def _same(line: str) -> dict[str, Any]:
    record = json.loads(line)
    return {name: record[name] for name in SAME_EACH_TIME}


def require_whole(data: Path) -> None:
    """Every file under its final name is whole: JSON parses, lines end, a status is complete.

    Raises:
        AssertionError: one is not.
    """
    for path in data.rglob("*.json"):
        if path.parent.name != "workers":
            try:
                json.loads(path.read_bytes())
            except ValueError as error:
                raise AssertionError(f"{path} is half-written: {error}") from None
    for trial in (TrialDir(path) for path in data.glob("runs/*/trial_[0-9]")):
        if trial.status.exists():
            assert json.loads(trial.status.read_text())["state"], f"{trial.status} has no state"


def require_no_traceback(output: str, what: str) -> None:
    """The output of an ended process has no traceback.

    Raises:
        AssertionError: it has one.
    """
    assert "Traceback (most recent call last)" not in output, f"{what}: a traceback:\n{output}"


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for the data of one case."""
    return tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)
