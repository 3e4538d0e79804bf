"""One step at a time in a data directory, one process at a trial, and a record of each step's end.

The lock is the kernel's: it ends with the process that holds it, however that process dies, so
there are no stale locks. A trial inherits the locks of its set's process (``held``), and keeps them
for the seconds that it may live on when that is killed.

Between machines the lock is the file system's, and some have none: NFS with ``nolock`` or
``local_lock`` gives it to everybody who asks. So who claims a trial also writes who it is into the
lock, reads it back after a pause, and counts on in it while the trial runs: whoever comes to a lock
that is free for it and in which somebody counts knows that the lock does not hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

import psutil
from filelock import FileLock, Timeout

from trainbench.errors import MachineError
from trainbench.files import append_line, fill, named, parse_object, text_or_empty
from trainbench.machine import privileges
from trainbench.progress import log_line
from trainbench.trials.child import ending_of
from trainbench.trials.paths import DataDir, RunDir
from trainbench.trials.status import at_an_end

ENDS_WITHIN_S = 30.0
"""How long what a killed process has started may live on, and is waited for (``parent_watch``)."""
BEAT_S = 2.0
"""How often the holder of a trial counts on in its lock."""
SETTLE_S, STILL_S = 1.0, 3 * BEAT_S
"""How long a claim rests before it is read back, and another's is watched until it is dead."""
_CLAIM_BYTES = 512
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HOLDER = re.compile(r"\S+, process ([0-9]+), since")
_HELD = set[int]()


def held() -> tuple[int, ...]:
    """The descriptors of this process's locks: who inherits one keeps that lock until it ends."""
    return tuple(_HELD)


@contextlib.contextmanager
def _held(*descriptors: int) -> Iterator[None]:
    _HELD.update(descriptors)
    try:
        yield
    finally:
        _HELD.difference_update(descriptors)


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
    holder, opened = _holder(step).encode(), list[int]()

    def name_holder(descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder, 0)
        opened.append(descriptor)

    lock = FileLock(data.lock, fallback_to_soft=False, on_acquired=name_holder)
    try:
        taken = _acquired(lock, lambda: _is_of_a_gone_step(text_or_empty(data.lock)))
    except Timeout:
        raise _in_use(data) from None
    except OSError as error:
        raise _no_lock(data, error) from None
    with taken, _held(*opened), recorded(data, step) as ended:
        yield ended


@contextlib.contextmanager
def shared(data: DataDir) -> Iterator[None]:
    """Keep every step away from the data directory, and let others that share it be.

    Trials of one set run at one time on machines of their own. They write no steps.jsonl: a network
    file system has no appending from several machines.

    Raises:
        MachineError: the folder is missing or not writable, or a step holds it.
    """
    _require_folder(data.root)
    privileges.own_user(data.root)
    try:
        import fcntl
    except ImportError:  # Windows has none, and no such trials.
        yield
        return
    try:
        descriptor = os.open(data.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise _no_lock(data, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _holder("train --trial").encode(), 0)
        with _held(descriptor):
            yield
    except BlockingIOError:
        raise _in_use(data) from None
    finally:
        os.close(descriptor)


def _acquired(
    lock: FileLock, is_of_a_gone: Callable[[], bool]
) -> contextlib.AbstractContextManager[object]:
    """Take ``lock``; while the trial of a process that is gone still has it, wait for its end.

    Raises:
        Timeout: another process has it.
    """
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        if not is_of_a_gone():
            raise
        told = f"waiting for what it started, at most {ENDS_WITHIN_S:.0f} s"
        log_line(f"{lock.lock_file}: held, but its process is not on this machine; {told}")
        return lock.acquire(timeout=ENDS_WITHIN_S)


def _is_of_a_gone_step(told: str) -> bool:
    """Whether the step that a lock names is gone; of several that share it, one is named."""
    found = _HOLDER.match(told)
    return found is not None and _is_gone(int(found[1]))


def _is_gone(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _holder(step: str) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    where = f" in container {socket.gethostname()}" if privileges.in_step() else ""
    return f"{step}, process {os.getpid()}{where}, since {since}\n"


def _in_use(data: DataDir) -> MachineError:
    held_by = text_or_empty(data.lock) or "an unknown step"
    return MachineError(
        f"{data.root}: in use by {held_by}; wait for it to end, or choose another folder with "
        "--data-dir or DATA_DIR"
    )


def _no_lock(data: DataDir, error: OSError) -> MachineError:
    return MachineError(
        f"{data.root}: cannot write here ({error.strerror}); make it writable for this user or "
        "choose another folder with --data-dir or DATA_DIR"
    )


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


@dataclass(frozen=True)
class Claim:
    """What stands in the lock of a trial while one process has it."""

    host: str | None = field(default_factory=socket.gethostname)
    process: int | None = field(default_factory=os.getpid)
    boot: str | None = field(default_factory=lambda: text_or_empty(_BOOT_ID))
    token: str | None = field(default_factory=lambda: secrets.token_hex(16))
    beat: int | None = 0

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    def bytes_at(self, beat: int) -> bytes:
        """What is written, always of one length: a reader sees all of it."""
        text = json.dumps({**asdict(self), "host": str(self.host)[:200], "beat": beat})
        return text.ljust(_CLAIM_BYTES - 1).encode() + b"\n"


def _claim_in(path: Path) -> Claim | None:
    """Who has the trial, by its lock; opened anew, which is when NFS asks its server.

    Raises:
        OSError: it cannot be read, which says nothing of who has it.
    """
    with named(path):
        content = path.read_bytes()
    with contextlib.suppress(ValueError):
        return fill(Claim, parse_object(content))
    return None


def _claim_told(path: Path) -> Claim | None:
    """The same for messages, where what cannot be read is nobody's."""
    with contextlib.suppress(OSError):
        return _claim_in(path)
    return None


def _is_of_a_gone_claim(path: Path) -> bool:
    found = _claim_told(path)
    # Of another machine it is not known.
    return found is not None and found.boot == Claim().boot and _is_gone(found.process or 0)


@contextlib.contextmanager
def claimed(
    path: Path,
    what: str,
    *,
    lost: Callable[[MachineError], object] | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[None]:
    """Hold the lock ``path`` of ``what`` while the body runs, on this machine and all others.

    Args:
        what: for messages: ``trial 3 of set``.
        lost: called in a thread when another process turns out to have it too; by default this
            process ends there and then, with all that it has started.

    Raises:
        MachineError: another process has it, or locks do not hold here.
        OSError: the lock cannot be read or written.
    """
    opened = list[int]()
    lock = FileLock(path, fallback_to_soft=False, thread_local=False, on_acquired=opened.append)
    try:
        _acquired(lock, lambda: _is_of_a_gone_claim(path))
    except Timeout:
        raise MachineError(
            f"{what}: in work by {_claim_told(path) or 'an unknown process'}; wait for it to end"
        ) from None
    except OSError as error:
        raise MachineError(
            f"{path}: no lock here ({error.strerror}); several machines can share a set only on a "
            "file system with locks (NFS without nolock)"
        ) from None
    own, ended = Claim(), threading.Event()
    try:
        _require_holds(path, what, own, pause)
        beating = (path, what, own, ended, lost or _end_everything)
        thread = threading.Thread(target=_beat, args=beating, daemon=True, name="claim")
        thread.start()
        try:
            with _held(*opened):
                yield
        finally:
            ended.set()
            thread.join()
            # Left as it is, it is that of a process that is gone.
            with contextlib.suppress(OSError):
                if _is(own, path):
                    os.truncate(path, 0)
    finally:
        lock.release()


def _require_holds(path: Path, what: str, own: Claim, pause: Callable[[float], object]) -> None:
    """Write ``own`` into the lock and read it back; raise where somebody else is there."""
    before = _claim_in(path)
    # On one machine the kernel's lock is free when its process is dead.
    if before is not None and before.boot != own.boot:
        end = time.monotonic() + STILL_S
        while time.monotonic() < end:
            pause(BEAT_S / 4)
            if _claim_in(path) != before:
                raise _does_not_hold(path, what, _claim_in(path) or before)
    _write_claim(path, own, 0)
    pause(SETTLE_S)
    if not _is(own, path):
        raise _does_not_hold(path, what, _claim_in(path))


def _beat(
    path: Path,
    what: str,
    own: Claim,
    ended: threading.Event,
    lost: Callable[[MachineError], object],
) -> None:
    beat = 0
    while not ended.wait(BEAT_S):
        beat += 1
        # A server that is away for a while takes nothing from who has the lock.
        with contextlib.suppress(OSError):
            found = _claim_in(path)
            if found is None or found.token != own.token:
                lost(_does_not_hold(path, what, found))
                return
            _write_claim(path, own, beat)


def _write_claim(path: Path, own: Claim, beat: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, own.bytes_at(beat), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is(own: Claim, path: Path) -> bool:
    found = _claim_in(path)
    return found is not None and found.token == own.token


def _does_not_hold(path: Path, what: str, other: Claim | None) -> MachineError:
    return MachineError(
        f"{what}: {other or 'another process'} has it too, so the lock {path} does not hold "
        "between machines; mount the folder with locks (NFS without nolock and local_lock)"
    )


def _end_everything(error: MachineError) -> NoReturn:
    """End this process and all that it has started, which must not write into another's trial."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()
    sys.stdout.flush()
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)
