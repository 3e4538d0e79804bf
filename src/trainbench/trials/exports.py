"""The raw log and the result of a run where the environment says, as in the 2018 system.

COMPLIANCE_FILE gets the raw lines of all processes of a trial when it has ended, however it ended,
and STITCHED_COMPLIANCE_FILE its result. The folder of the run has both as well.
"""

from __future__ import annotations

import os
from pathlib import Path

from trainbench.errors import ConfigError, MachineError
from trainbench.files import write_atomically
from trainbench.trials.paths import TrialDir

RAW, STITCHED = "COMPLIANCE_FILE", "STITCHED_COMPLIANCE_FILE"


def destination(name: str) -> Path | None:
    """The file that the environment variable ``name`` asks for."""
    path = os.environ.get(name)
    return Path(path).absolute() if path else None


def require_possible(runs: int) -> None:
    """Raise unless what the environment asks for can be written after ``runs`` trials.

    Raises:
        ConfigError: one file for several trials, or a raw log that is there already.
        MachineError: a folder that is not there or cannot be written.
    """
    for name in (RAW, STITCHED):
        path = destination(name)
        if path is None:
            continue
        if runs > 1:
            raise ConfigError(
                f"{name}={path} names one file, and each of {runs} trials has its own log; unset "
                "it (the logs are in the run's folder), or run trial by trial"
            )
        if name == RAW and path.exists() and path.stat().st_size:
            raise ConfigError(f"{name}={path}: there is a log already; name a new file")
        if not os.access(path.parent, os.W_OK):
            raise MachineError(f"{name}={path}: its folder is not there or cannot be written")


def export_raw_log(trial: TrialDir) -> None:
    """Write the raw lines of all processes of ``trial`` to COMPLIANCE_FILE, if that is set."""
    path = destination(RAW)
    if path is not None and trial.raw_logs:
        text = "".join(log.read_text(encoding="utf-8", errors="replace") for log in trial.raw_logs)
        write_atomically(path, text)
