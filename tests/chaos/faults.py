"""Disks that fill up, files that cannot be opened or grow, and writes that fail, in every process.

Full disks, limits on open files and on their length are real: a small file system and the kernel's
limits. Input and output errors come from Debian's libfiu, which fails calls of the C library.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import processes_in
from undisturbed import (
    CODES,
    LONGEST_S,
    Undisturbed,
    finished,
    pipeline,
    require_no_traceback,
    require_whole,
    scratch,
)

COUNT = 8
ENOUGH_BYTES = 64 << 20
"""A file system on which the whole run fits."""
EIO = 5
CALLS = ("posix/io/rw/write", "posix/io/rw/pwrite", "posix/io/sync/fsync", "posix/io/dir/rename")
LIMITS = {"EMFILE": resource.RLIMIT_NOFILE, "EFBIG": resource.RLIMIT_FSIZE}


@dataclass(frozen=True)
class Case:
    """An error of the system, and where it comes: a size, a limit or a probability."""

    error: str
    amount: float
    call: str = ""

    def __str__(self) -> str:
        return {
            "ENOSPC": f"ENOSPC: a disk of {self.amount:,} bytes",
            "EMFILE": f"EMFILE: at most {self.amount} open files",
            "EFBIG": f"EFBIG: files of at most {self.amount:,} bytes",
            "EIO": f"EIO: {self.amount:.1%} of calls of {self.call}",
        }[self.error]


def drawn(chance: random.Random, index: int) -> Case:
    """Each error in turn."""
    error = ("ENOSPC", "EMFILE", "EFBIG", "EIO")[index % 4]
    if error == "ENOSPC":
        return Case(error, chance.randrange(16 << 10, 3 << 20, 4 << 10))
    if error == "EMFILE":
        return Case(error, chance.randrange(12, 80))
    if error == "EFBIG":
        return Case(error, chance.randrange(1 << 10, 1 << 20))
    return Case(error, chance.choice((0.001, 0.003, 0.01, 0.03)), chance.choice(CALLS))


def run(case: Case, wanted: Undisturbed) -> Iterator[str]:
    """A run with the fault, and one without it."""
    if case.error == "ENOSPC" and os.geteuid() != 0:
        yield "ENOSPC: skipped (only root mounts a file system)"
        return
    if case.error == "EIO" and not shutil.which("fiu-run"):
        yield "EIO: skipped (apt-get install fiu-utils)"
        return
    with scratch() as name:
        folder, how = Path(name), dict[str, Any]()
        with _file_system(folder, case) as grow:
            if case.error in LIMITS:
                limit = LIMITS[case.error], (int(case.amount), int(case.amount))
                how["preexec_fn"] = lambda: resource.setrlimit(*limit)
            if case.error == "EIO":
                random_ = f"enable_random name={case.call},probability={case.amount}"
                how["command"] = [
                    "fiu-run",
                    "-x",
                    "-f",
                    f"{name}/fiu",
                    "-c",
                    f"{random_},failinfo={EIO}",
                ]
            yield f"{case.error}: exit {_disturbed(folder / 'data', str(case), **how)}"
            grow()
            assert finished(folder / "data") == wanted.products, f"{case}: another result"


def _disturbed(data: Path, said: str, **how: Any) -> int:
    process = pipeline(data, **how)
    try:
        output, _ = process.communicate(timeout=LONGEST_S)
    finally:
        process.kill()
    said = f"{said}: exit {process.returncode}"
    require_no_traceback(output, said)
    assert process.returncode in CODES, f"{said}\n{output}"
    assert not processes_in(data), f"{said}: a process is left"
    if data.exists():
        require_whole(data)
    return process.returncode


@contextlib.contextmanager
def _file_system(folder: Path, case: Case) -> Iterator[Any]:
    """A small disk at ``folder`` where the case wants one; what is given makes it large."""
    if case.error != "ENOSPC":
        yield lambda: None
        return
    _mount("-t", "tmpfs", "-o", f"size={int(case.amount)}", "tmpfs", str(folder))
    try:
        yield lambda: _mount("-o", f"remount,size={ENOUGH_BYTES}", str(folder))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
