"""The folder that trainer and producer of one run share.

The trainer holds a kernel lock on a file in it. A folder whose lock is free belongs to a dead run,
however it died, and is removed by the next run. A folder whose lock is held is never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainbench.errors import MachineError

_LOCK = "lock"
_PREFIX = "ncf-"


@dataclass(frozen=True)
class WorkDir:
    """The names in a run's work folder."""

    root: Path

    @property
    def alive(self) -> Path:
        """Written by the producer before anything else."""
        return self.root / "alive"

    @property
    def flagfile(self) -> Path:
        """Written by the trainer after run_start: the producer may begin."""
        return self.root / "flagfile"

    @property
    def heartbeat(self) -> Path:
        """Touched by the producer while it makes progress."""
        return self.root / "heartbeat"

    @property
    def eval(self) -> Path:
        """Folder of the evaluation candidates."""
        return self.root / "eval"

    def cycle(self, number: int) -> Path:
        """Folder of a cycle that waits for the trainer."""
        return self.root / f"cycle_{number:05d}"

    def in_use(self, number: int) -> Path:
        """Folder of a cycle that the trainer has taken."""
        return self.root / f"in_use_{number:05d}"

    def epoch(self, cycle_folder: Path, epoch: int) -> Path:
        """Folder of one epoch of a cycle."""
        return cycle_folder / f"epoch_{epoch:05d}"

    def cycles_waiting(self) -> int:
        """How many finished cycles the trainer has not taken yet."""
        return sum(not path.name.endswith(".part") for path in self.root.glob("cycle_*"))


class Claim:
    """A work folder that this process owns until ``remove``."""

    def __init__(self, work_dir: WorkDir, lock: int) -> None:
        self.work_dir = work_dir
        self._lock: int | None = lock

    def remove(self) -> None:
        """Remove the folder and give up the lock; a second call does nothing."""
        if self._lock is None:
            return
        shutil.rmtree(self.work_dir.root, ignore_errors=True)
        os.close(self._lock)
        self._lock = None


def claim(parent: Path) -> Claim:
    """A new work folder in ``parent``, after those of dead runs have been removed.

    Raises:
        MachineError: ``parent`` cannot be written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(parent):
            remove_stale(parent)
            root = parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
            root.mkdir()
            return Claim(WorkDir(root), _locked(root / _LOCK))
    except OSError as error:
        raise MachineError(
            f"{error.filename or parent}: cannot be written ({error.strerror}); make it writable "
            "for this user or choose another folder with --data-dir"
        ) from None


def remove_stale(parent: Path) -> list[Path]:
    """Remove the work folders in ``parent`` that no living process holds; returns them."""
    stale = [root for root in sorted(parent.glob(_PREFIX + "*")) if not _held(root / _LOCK)]
    for root in stale:
        shutil.rmtree(root, ignore_errors=True)
    return stale


@contextlib.contextmanager
def _one_at_a_time(parent: Path) -> Iterator[None]:
    # Without it another process could remove a folder between its creation and its lock.
    descriptor = _opened(parent / ".lock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def _locked(path: Path) -> int:
    descriptor = _opened(path)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
