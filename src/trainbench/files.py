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


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by ``content``; a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the folder is missing, not writable or full; ``path`` is then as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


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


def sync_folder(folder: Path) -> None:
    """Make the names inside ``folder`` durable, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # Some network file systems refuse; the rename is atomic all the same.
        pass
    finally:
        os.close(descriptor)
