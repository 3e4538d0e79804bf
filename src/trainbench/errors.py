"""The errors a user can meet, each with its documented exit code.

A message is one line that says the file, what was found, what was wanted and what to do.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from trainbench.display.secrets import without_secrets
from trainbench.display.visible import one_line

_AGAIN = ", or choose another disk, then run again"
_ADVICE = {
    errno.EDQUOT: ": {}; free some of this user's space",
    errno.EFBIG: ": {}; raise the limit of this process (ulimit -f)",
    errno.EIO: ": check the disk and its connection",
}
_LITTLE_BYTES = 1 << 20  # what a disk that is full may still have


class TrainbenchError(Exception):
    """A failure that a user can act on; everything else is a defect and keeps its traceback.

    The message is one line that may be shown and stored: passwords in addresses are left out of
    it, and characters that steer a terminal are made visible.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(without_secrets(message)))


class NotFiniteError(TrainbenchError):
    """What a network computes is NaN or infinity, so that it means nothing."""


class ConfigError(TrainbenchError):
    """A wrong option, preset, dataset or key."""

    exit_code = 2


class DataIntegrityError(TrainbenchError):
    """Data that is damaged, hostile, incomplete or not what it claims to be."""

    exit_code = 3


class ReplayDiffersError(TrainbenchError):
    """A trial run again has other input or other results than the record of the first time."""

    exit_code = 3


class TargetNotReachedError(TrainbenchError):
    """Training ended at its epoch cap below the quality target."""

    exit_code = 4


class NotCompliantError(TrainbenchError):
    """A compliance log breaks the rules it was checked against."""

    exit_code = 5


class MachineError(TrainbenchError):
    """Something the machine lacks: Docker, a GPU, disk space, a mounted volume."""

    exit_code = 6


class RegressionError(TrainbenchError):
    """A result is significantly worse than the one it was compared with."""

    exit_code = 7


class Interrupted(TrainbenchError):
    """The user or the system asked the process to stop."""

    exit_code = 130


def system_text(error: OSError, needed_bytes: int = 0) -> str:
    """What the system says of a file, with the file's name: ``data/raw: Permission denied``.

    Args:
        needed_bytes: what was to be written, where that is known.
    """
    name = str(error.filename or "the system")
    needed = f"{needed_bytes:,} bytes needed" if needed_bytes else "more is needed"
    said = f"{name}: {error.strerror or error}"
    if error.errno == errno.ENOSPC:
        said += _full(name, needed_bytes, needed) + _AGAIN
    elif error.errno in _ADVICE:
        said += _ADVICE[error.errno].format(needed) + _AGAIN
    return one_line(without_secrets(said))


def _full(name: str, needed_bytes: int, needed: str) -> str:
    """Of what a disk has no more: bytes, files or what it does not say."""
    folder = next((p for p in Path(name).absolute().parents if p.is_dir()), Path("/"))
    try:
        disk = os.statvfs(folder)
    except (OSError, AttributeError):  # Windows has no such call.
        return f": {needed}; free some space"
    free = disk.f_bavail * disk.f_frsize
    if disk.f_files and not disk.f_favail:
        return (
            f": the disk can hold no more files, all {disk.f_files:,} are used ({free:,} bytes are "
            "free); remove some files"
        )
    if free > max(needed_bytes, _LITTLE_BYTES):
        return f", though {free:,} bytes are free: {needed}; look for a quota or another limit"
    return f": disk full: {needed}, {free:,} bytes free; free some space"
