"""One step at a time in a data directory, and a record of each step's end.

The lock is the kernel's: it ends with the process that holds it, however that process dies, so
there are no stale locks.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from trainbench.errors import MachineError
from trainbench.files import append_line, text_or_empty
from trainbench.machine import privileges
from trainbench.trials.child import ending_of
from trainbench.trials.paths import DataDir, RunDir
from trainbench.trials.status import at_an_end


@dataclass
class Step:
    """How a step ends that raises nothing: its body may set the exit code of a verdict."""

    exit_code: int = 0
    message: str = ""


@contextlib.contextmanager
def locked(data: DataDir, step: str) -> Iterator[Step]:
    """Hold the data directory for ``step`` while the body runs, and record how it ends.

    Raises:
        MachineError: the folder is missing or not writable, or another step holds it.
    """
    _require_folder(data.root)
    privileges.own_user(data.root)
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    where = f" in container {socket.gethostname()}" if privileges.in_step() else ""
    holder = f"{step}, process {os.getpid()}{where}, since {since}\n".encode()

    def name_holder(descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder, 0)

    lock = FileLock(data.lock, fallback_to_soft=False, on_acquired=name_holder)
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        held_by = text_or_empty(data.lock) or "an unknown step"
        raise MachineError(
            f"{data.root}: in use by {held_by}; wait for it to end, or choose another folder "
            "with --data-dir or DATA_DIR"
        ) from None
    except OSError as error:
        raise MachineError(
            f"{data.root}: cannot write here ({error.strerror}); make it writable for this user "
            "or choose another folder with --data-dir or DATA_DIR"
        ) from None
    with held, recorded(data, step) as ended:
        yield ended


@contextlib.contextmanager
def recorded(data: DataDir, step: str) -> Iterator[Step]:
    """Append a line to steps.jsonl when the body ends: the exit code that the step ends with.

    Popper folds every exit code to 1; this line keeps the one that the step meant.
    """
    started, ended = time.time(), Step()
    try:
        yield ended
    except SystemExit as error:
        ended.exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    except BaseException as error:
        ended.exit_code, ended.message = ending_of(error) or (1, f"{type(error).__name__}: {error}")
        raise
    finally:
        line = {
            "step": step,
            "exit_code": ended.exit_code,
            "message": ended.message,
            "start_unix_s": round(started, 3),
            "duration_s": round(time.time() - started, 3),
        }
        with at_an_end(f"the end of {step}"):
            append_line(data.steps, json.dumps(line))


def recorded_of(run: RunDir, step: str) -> contextlib.AbstractContextManager[Step]:
    """``recorded`` in the data directory that ``run`` lies in.

    A run that was copied elsewhere, or whose data directory cannot be written, has no such record.
    """
    data = DataDir(run.root.parent.parent)
    if run.root.parent != data.runs or not os.access(data.steps, os.W_OK):
        return contextlib.nullcontext(Step())
    return recorded(data, step)


def _require_folder(root: Path) -> None:
    if root.is_dir():
        return
    raise MachineError(
        f"{root}: no data volume here; run the workflow as 'popper run -f wf.yml -c settings.py' "
        "(settings.py mounts it), make the folder, or name another with --data-dir"
    )
