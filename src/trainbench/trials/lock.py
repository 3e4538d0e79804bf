"""One step at a time in a data directory, and a record of each step's end.

The lock is the kernel's: it ends with the process that holds it, however that process dies, so
there are no stale locks.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from trainbench.errors import Interrupted, MachineError, TrainbenchError
from trainbench.trials import signals
from trainbench.trials.paths import DataDir


@contextlib.contextmanager
def locked(data: DataDir, step: str) -> Iterator[None]:
    """Hold the data directory for ``step`` while the body runs.

    Raises:
        MachineError: the folder is missing or not writable, or another step holds it.
    """
    _require_folder(data.root)
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    holder = f"{step}, process {os.getpid()}, since {since}\n".encode()

    def name_holder(descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder, 0)

    lock = FileLock(data.lock, fallback_to_soft=False, on_acquired=name_holder)
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        held_by = data.lock.read_text().strip() or "an unknown step"
        raise MachineError(
            f"{data.root}: in use by {held_by}; wait for it to end, or choose another folder "
            "with --data-dir or DATA_DIR"
        ) from None
    except OSError as error:
        raise MachineError(
            f"{data.root}: cannot write here ({error.strerror}); make it writable for this user "
            "or choose another folder with --data-dir or DATA_DIR"
        ) from None
    with held, _recorded(data.steps, step):
        yield


@contextlib.contextmanager
def _recorded(log: Path, step: str) -> Iterator[None]:
    # Popper folds every exit code to 1; this line keeps the one that the step meant.
    started = time.time()
    code, message = 1, "unexpected failure"
    try:
        yield
        code, message = 0, ""
    except SystemExit as error:
        code, message = error.code if isinstance(error.code, int) else 1, ""
        raise
    except BaseException as error:
        if signals.caused(error):
            code, message = Interrupted.exit_code, "interrupted"
        elif isinstance(error, TrainbenchError):
            code, message = error.exit_code, str(error)
        raise
    finally:
        line = {
            "step": step,
            "exit_code": code,
            "message": message,
            "start_unix_s": round(started, 3),
            "duration_s": round(time.time() - started, 3),
        }
        with open(log, "a") as out:
            out.write(json.dumps(line) + "\n")


def _require_folder(root: Path) -> None:
    if root.is_dir():
        return
    raise MachineError(
        f"{root}: no data volume here; run the workflow as 'popper run -f wf.yml -c settings.py' "
        "(settings.py mounts it), or name a folder with --data-dir"
    )
