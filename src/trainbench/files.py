"""Files on disk: written whole or not at all, hashed, refused early on a full disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainbench.errors import MachineError

BLOCK_BYTES = 4 << 20


UNFINISHED = ".unfinished-"
"""How the name of a folder begins while ``whole_folder`` fills it."""


@contextmanager
def whole_file(path: Path, part: Path | None = None) -> Iterator[Path]:
    """Where to write what becomes ``path`` by one rename when the body ends.

    A reader sees the old file or the new one, never a part. When the body fails, ``path`` is as it
    was and no part is left. ``part`` names the file to write to; a part of a fixed name that a
    killed process left is written over by the next one.
    """
    part = part or path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        _sync(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, part: Path | None = None, *, durable: bool = True) -> Iterator[Path]:
    """An empty folder to fill; it becomes ``folder`` by a rename when the body ends.

    An older ``folder`` goes. When the body fails, ``folder`` is as it was and no part is left; what
    a killed process left is removed. Without ``durable`` the files may be lost with the machine's
    power.
    """
    part = part or folder.with_name(UNFINISHED + folder.name)
    old = folder.with_name(f"{UNFINISHED}old-{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        for path in (*part.rglob("*"), part) if durable else ():
            _sync(path)
        if folder.exists():
            # A folder cannot be renamed over a full one. Between the two renames there is none,
            # which reads as never made, and never a mixture of both.
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(part, folder)
        shutil.rmtree(old, ignore_errors=True)
        if durable:
            _sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by ``content``; a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the folder is missing, not writable or full; ``path`` is then as it was.
    """
    with whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise ``MachineError`` if the disk of ``folder`` has less than ``needed_bytes`` free."""
    if shutil.disk_usage(folder).free < needed_bytes:
        raise MachineError(_no_space(folder, needed_bytes))


@contextmanager
def disk_errors_told(folder: Path, needed_bytes: int) -> Iterator[None]:
    """Turn a full or read-only disk met while writing below ``folder`` into ``MachineError``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise MachineError(_no_space(folder, needed_bytes)) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise MachineError(
                f"{error.filename or folder}: not allowed to write here ({error.strerror}); "
                "give the data directory to this user or choose another with --data-dir"
            ) from None
        raise


def _no_space(folder: Path, needed_bytes: int) -> str:
    free = shutil.disk_usage(folder).free
    return (
        f"{folder}: disk full: {needed_bytes:,} bytes needed, {free:,} bytes free; free some "
        "space or choose another disk with --data-dir, then run again"
    )


def write_json(path: Path, value: Any, *, sort_keys: bool = True) -> None:
    """Write ``value`` as indented JSON; a reader sees the old file or the whole new one.

    Without ``sort_keys`` what a person looks for first stands first.
    """
    write_atomically(path, json.dumps(value, indent=2, sort_keys=sort_keys) + "\n")


def _sync(path: Path) -> None:
    """Make a file, or the names inside a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except (
        OSError
    ):  # Some network file systems refuse for folders; a rename is atomic all the same.
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
