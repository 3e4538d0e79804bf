"""The folder that trainer and producer of one run share.

The trainer holds a kernel lock on a file in it. A folder whose lock is free belongs to a dead run,
however it died, and is removed by the next run. A folder whose lock is held is never touched. On a
disk that machines share, a lock may hold on its own machine alone: there the folder of another
machine, or of another boot of this one, is removed once nothing in it has changed for a day.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from trainbench.errors import MachineError
from trainbench.files import text_or_empty

_LOCK = "lock"
_PREFIX = "ncf-"
_BOOT = text_or_empty(Path("/proc/sys/kernel/random/boot_id"))[:8]
_DEAD_AFTER_S = 86_400.0
_SHARED = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "9p", "fuse", "afs", "pvfs")
COME_WITHIN_S = 600.0
EXTERNAL = "external"
"""Name of the folder in which a trainer meets a generator that was started by hand."""


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
    def lock(self) -> Path:
        """Held by the trainer while it lives."""
        return self.root / _LOCK

    @property
    def ended(self) -> Path:
        """Written by a generator started by hand when it ends: how."""
        return self.root / "ended"

    @property
    def trainer(self) -> Path:
        """Written by a trainer that waits for a generator started by hand: who it is."""
        return self.root / "trainer"

    @property
    def trainer_heartbeat(self) -> Path:
        """Touched by such a trainer every second."""
        return self.root / "trainer_heartbeat"

    @property
    def trainer_ended(self) -> Path:
        """Written by such a trainer when it ends: how."""
        return self.root / "trainer_ended"

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
    """A work folder that this process owns until ``remove``, or until the claim is forgotten."""

    def __init__(self, work_dir: WorkDir, lock: FileLock) -> None:
        self.work_dir = work_dir
        self._lock = lock

    def remove(self) -> None:
        """Remove the folder and give up the lock; a second call does nothing."""
        if self._lock.is_locked:
            shutil.rmtree(self.work_dir.root, ignore_errors=True)
            self._lock.release()


def claim(parent: Path, *, external: bool = False) -> Claim:
    """A new work folder in ``parent``, after those of dead runs have been removed.

    The folder of an ``external`` generator has a fixed name, and the generator may be in it.

    Raises:
        MachineError: ``parent`` cannot be written, or another trainer is in the external folder.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        # One at a time: another process could remove a folder between its creation and its lock.
        with _lock(parent / ".lock"):
            remove_stale(parent)
            own = f"{_PREFIX}{_BOOT}-{os.getpid()}-{secrets.token_hex(4)}"
            root = parent / (EXTERNAL if external else own)
            root.mkdir(exist_ok=external)
            lock = _lock(root / _LOCK)
            lock.acquire(blocking=False)
            return Claim(WorkDir(root), lock)
    except Timeout:
        raise MachineError(f"{parent / EXTERNAL}: another trainer waits here") from None
    except OSError as error:
        raise MachineError(
            f"{error.filename or parent}: cannot be written ({error.strerror}); make it writable "
            "for this user or choose another folder with --data-dir"
        ) from None


def remove_stale(parent: Path) -> list[Path]:
    """Remove the work folders in ``parent`` that no living process holds; returns them."""
    folders = sorted(parent.glob(_PREFIX + "*"))
    if is_shared(parent):
        folders = [root for root in folders if _is_of_this_boot(root) or _rests(root)]
    stale = [root for root in folders if not _held(root / _LOCK)]
    for root in stale:
        shutil.rmtree(root, ignore_errors=True)
    return stale


def is_shared(folder: Path) -> bool:
    """Whether ``folder`` is on a file system that other machines may have mounted as well."""
    place = folder.resolve()
    mounts = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
    found = next((mounts[p] for p in (place, *place.parents) if p in mounts), "")
    return found.startswith(_SHARED)


def _is_of_this_boot(root: Path) -> bool:
    return root.name.startswith(f"{_PREFIX}{_BOOT}-")


def _rests(root: Path) -> bool:
    try:
        newest = max(path.lstat().st_mtime for path in (root, *root.rglob("*")))
    except OSError:
        return False
    return time.time() - newest > _DEAD_AFTER_S


def _lock(path: Path) -> FileLock:
    # A thread other than the one that made the claim may give it up.
    return FileLock(path, thread_local=False, fallback_to_soft=False)


def _held(path: Path) -> bool:
    try:
        with _lock(path).acquire(blocking=False):
            return False
    except Timeout:
        return True
