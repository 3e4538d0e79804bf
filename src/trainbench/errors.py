"""The errors a user can meet, each with its documented exit code.

A message is one line that says the file, what was found, what was wanted and what to do.
"""

from __future__ import annotations


class TrainbenchError(Exception):
    """A failure that a user can act on; everything else is a defect and keeps its traceback."""

    exit_code = 1


class ConfigError(TrainbenchError):
    """A wrong option, preset, dataset or key."""

    exit_code = 2


class DataIntegrityError(TrainbenchError):
    """Data that is damaged, hostile, incomplete or not what it claims to be."""

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


def system_text(error: OSError) -> str:
    """What the system says of a file, with the file's name: ``data/raw: Permission denied``."""
    return f"{error.filename or 'the system'}: {error.strerror or error}"
