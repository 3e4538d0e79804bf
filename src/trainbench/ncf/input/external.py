"""A generator started by hand (``trainbench generate``) and the trainer that waits for it.

Both know the data directory, which several machines may share, and meet in its ``work/external``.
Each leaves a file there that says who it is, and touches another one every second. So each sees the
end of the other: at once on the same machine, elsewhere after ``SILENT_AFTER_S`` without a sign of
life. Who ends by itself also says how. Either may be there first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import psutil

from trainbench import __version__
from trainbench.compliance.emit import logging_to
from trainbench.compliance.two_clocks import beside
from trainbench.errors import ConfigError, DataIntegrityError, MachineError, TrainbenchError
from trainbench.files import text_or_empty, write_json
from trainbench.ncf.input.flagfile import GenerationOptions, read_flagfile, write_flagfile
from trainbench.ncf.input.generate import published
from trainbench.ncf.input.heartbeat import BEAT_S, Heartbeat, Pulse
from trainbench.ncf.input.workdir import COME_WITHIN_S, EXTERNAL, WorkDir
from trainbench.progress import heartbeat, log_line
from trainbench.trials.child import ending_of
from trainbench.trials.paths import DataDir

SILENT_AFTER_S = 45.0
_POLL_S = 0.05
_GRACE_S = 10.0
_RECORD = TypeVar("_RECORD")


@dataclass(frozen=True)
class Presence:
    """Who is in the folder. ``machine`` is its boot and its space of process numbers."""

    process: int
    created_unix_s: float
    machine: str
    versions: str
    serving: bool = False

    @classmethod
    def here(cls) -> Presence:
        """This process."""
        own = psutil.Process()
        boot = text_or_empty(Path("/proc/sys/kernel/random/boot_id"))
        machine = boot or str(psutil.boot_time())
        with contextlib.suppress(OSError):
            machine += " " + os.readlink("/proc/self/ns/pid")
        versions = f"trainbench {__version__}, numpy {np.__version__}"
        return cls(own.pid, own.create_time(), machine, versions)

    def gone(self, own: Presence) -> bool:
        """Whether it is a process of the machine of ``own`` that is no longer there."""
        if self.machine != own.machine:
            return False
        try:
            found = psutil.Process(self.process)
            alive = found.status() != psutil.STATUS_ZOMBIE
            return not (alive and found.create_time() == self.created_unix_s)
        except psutil.NoSuchProcess:
            return True


@dataclass(frozen=True)
class Ended:
    """How one of the two ended, in its own words."""

    exit_code: int
    message: str = ""


def _read(kind: type[_RECORD], path: Path) -> _RECORD | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write(path: Path, record: Presence | Ended) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record, sort_keys=False)


class _Peer:
    """The other process, by its presence and its sign of life."""

    def __init__(self, presence: Presence, own: Presence, beat: Path) -> None:
        self._presence, self._own, self._pulse = presence, own, Pulse(beat)

    def lost(self) -> str:
        """Why it counts as lost; empty while it lives."""
        if self._presence.gone(self._own):
            return f"its process {self._presence.process} is gone"
        silent_s = self._pulse.silent_s()
        return f"no sign of life for {silent_s:.0f} s" if silent_s > SILENT_AFTER_S else ""


class External:
    """The trainer's side: it waits for a generator, writes the flagfile, ends with it."""

    def __init__(self, work_dir: WorkDir, options: GenerationOptions, data: Path) -> None:
        self._work_dir, self._data, self._own = work_dir, data, Presence.here()
        self._options = options.inside(data)
        self._peer: _Peer | None = None
        self.elsewhere = False
        self._looked = 0.0
        _remove(work_dir, keep=(work_dir.alive, work_dir.heartbeat))
        beat = Heartbeat(work_dir.trainer_heartbeat)
        _write(work_dir.trainer, self._own)
        self._over = threading.Event()
        self._beats = threading.Thread(target=self._beat, args=(beat,), daemon=True)
        self._beats.start()

    def _beat(self, beat: Heartbeat) -> None:
        while not self._over.wait(BEAT_S):
            with contextlib.suppress(OSError):
                beat()

    def wait_until_alive(self, timeout_s: float) -> None:
        """Return when a generator has come.

        Raises:
            MachineError: none came in time, or one of another version.
        """
        command = f"python -m trainbench generate --data-dir {self._data}"
        log_line(f"waiting at most {timeout_s:.0f} s for a generator; start it by: {command}")
        deadline, pulse = time.monotonic() + timeout_s, Pulse(self._work_dir.heartbeat)
        with heartbeat("waiting for a generator"):
            while True:
                pulse.silent_s()
                found = _read(Presence, self._work_dir.alive) if pulse.heard else None
                if found and not found.serving and not found.gone(self._own):
                    break
                if time.monotonic() > deadline:
                    raise MachineError(
                        f"{self._work_dir.root}: no generator came within {timeout_s:.0f} s "
                        f"(--generator-timeout-s); start one by: {command}"
                    )
                time.sleep(_POLL_S)
        if found.versions != self._own.versions:
            raise MachineError(
                f"the generator has {found.versions}, this trainer {self._own.versions}; start it "
                "with the same versions, so that it draws the same samples"
            )
        self.elsewhere = found.machine != self._own.machine
        self._peer = _Peer(found, self._own, self._work_dir.heartbeat)
        where = "on another machine" if self.elsewhere else "on this machine"
        log_line(f"a generator is alive: process {found.process} {where}")

    def release(self) -> None:
        """Let the generator begin."""
        write_flagfile(self._work_dir.flagfile, self._options)

    def check(self) -> None:
        """Raise if the generator failed or is lost."""
        now = time.monotonic()
        if now - self._looked >= _POLL_S:
            self._looked = now
            self._check()

    def _check(self) -> None:
        assert self._peer is not None, "wait_until_alive comes first"
        lost = self._peer.lost()
        # Read after: its last act may have been to say how it ended.
        ended = _read(Ended, self._work_dir.ended)
        if ended is not None and ended.exit_code:
            raise _kind(ended.exit_code)(
                f"the generator started by hand ended with exit code {ended.exit_code}: "
                f"{ended.message}"
            )
        if ended is None and lost:
            raise MachineError(f"the generator started by hand is lost: {lost}")

    def wait_for(self, folder: Path) -> None:
        """Return when ``folder`` exists."""
        while True:
            self.check()
            over = self._work_dir.ended.exists()
            if folder.exists():
                return
            if over:
                self._check()
                raise TrainbenchError(f"the generator ended without making {folder.name}")
            time.sleep(_POLL_S / 5)

    def stop(self, failed: bool = False) -> None:
        """Tell the generator that the trainer ends, and wait until it knows."""
        if self._over.is_set():
            return
        ended = Ended(1, "the trainer ended with an error") if failed else Ended(0)
        with contextlib.suppress(OSError):
            _write(self._work_dir.trainer_ended, ended)
        deadline = time.monotonic() + _GRACE_S
        while self._peer and time.monotonic() < deadline:
            # It has to have read that before the folder is removed.
            if self._work_dir.ended.exists() or self._peer.lost():
                break
            time.sleep(_POLL_S)
        self._over.set()
        self._beats.join()


def _kind(exit_code: int) -> type[TrainbenchError]:
    """The error of a trainer whose generator ended with ``exit_code``; a lost process for 130."""
    kinds = {kind.exit_code: kind for kind in (ConfigError, DataIntegrityError, MachineError)}
    return kinds.get(exit_code, MachineError if exit_code == 130 else TrainbenchError)


class _TrainerEndedError(Exception):
    """The trainer needs nothing any more: it ended well, maybe before its last epoch."""


class _Generator:
    """The generator's side. To call it is to show a sign of life and to look for the trainer's."""

    def __init__(self, work_dir: WorkDir) -> None:
        self._work_dir, self._own = work_dir, Presence.here()
        self._peer: _Peer | None = None
        self._last, self._serving, self.elsewhere = 0.0, False, False
        work_dir.root.mkdir(parents=True, exist_ok=True)
        self._require_alone()
        trainer = _read(Presence, work_dir.trainer)
        if trainer is None or trainer.gone(self._own) or work_dir.trainer_ended.exists():
            _remove(work_dir, keep=(work_dir.trainer_ended,))
        # A flagfile that is there before its generator is one of an earlier run.
        for left in (work_dir.flagfile, work_dir.ended):
            left.unlink(missing_ok=True)

    def _require_alone(self) -> None:
        other, pulse = _read(Presence, self._work_dir.alive), Pulse(self._work_dir.heartbeat)
        if other is None or other.gone(self._own):
            return
        deadline = time.monotonic() + 5 * BEAT_S
        while time.monotonic() < deadline and not pulse.heard:
            pulse.silent_s()
            time.sleep(_POLL_S)
        if pulse.heard:
            raise MachineError(
                f"{self._work_dir.root}: a generator is there already, process {other.process}; "
                "one run needs one"
            )

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last < (BEAT_S if self._serving else _POLL_S):
            return
        self._last = now
        if not self._serving and not self._work_dir.alive.exists():
            # Also after a trainer before has removed the folder.
            _write(self._work_dir.alive, self._own)
        if self._work_dir.root.exists():
            self._work_dir.heartbeat.touch()
        self.look()

    def look(self) -> None:
        """Raise unless the trainer, once it was there, still is."""
        ended = _read(Ended, self._work_dir.trainer_ended)
        if self._peer is None:
            trainer = _read(Presence, self._work_dir.trainer)
            if trainer and not ended and not trainer.gone(self._own):
                self._peer = _Peer(trainer, self._own, self._work_dir.trainer_heartbeat)
                self.elsewhere = trainer.machine != self._own.machine
                log_line(f"a trainer is there: process {trainer.process}")
            return
        lost = self._peer.lost()
        ended = _read(Ended, self._work_dir.trainer_ended)
        if ended is None and (lost or not self._work_dir.trainer.exists()):
            shutil.rmtree(self._work_dir.root, ignore_errors=True)
            raise MachineError(f"the trainer is lost: {lost or 'its work folder is gone'}")
        if ended and ended.exit_code:
            raise MachineError(ended.message)
        if ended:
            raise _TrainerEndedError

    def flagfile(self, timeout_s: float) -> GenerationOptions:
        """What the trainer wants, once it wants it."""
        deadline = time.monotonic() + timeout_s
        while not (self._peer and self._work_dir.flagfile.exists()):
            self()
            if self._peer is None and time.monotonic() > deadline:
                raise MachineError(
                    f"{self._work_dir.root}: no trainer came within {timeout_s:.0f} s "
                    "(--timeout-s) to generate for; start one with train --set generator=external"
                )
            time.sleep(_POLL_S)
        self._serving = True
        _write(self._work_dir.alive, replace(self._own, serving=True))
        return read_flagfile(self._work_dir.flagfile)

    def end(self, ended: Ended) -> None:
        """Say how it ended, and leave."""
        with contextlib.suppress(OSError):
            if self._peer and self._work_dir.root.exists():
                write_json(self._work_dir.ended, ended, sort_keys=False)
            for own in (self._work_dir.alive, self._work_dir.heartbeat):
                own.unlink(missing_ok=True)
            if not self._peer:
                self._work_dir.root.rmdir()


def serve(data: DataDir, timeout_s: float = COME_WITHIN_S) -> None:
    """Make the input of one run whose trainer waits for it, or will within ``timeout_s``.

    Raises:
        MachineError: no trainer came, it was lost, or it ended with an error.
        ConfigError: a wrong flagfile. DataIntegrityError: a damaged cache.
    """
    if not data.root.is_dir():
        raise MachineError(f"{data.root}: no such folder; name the trainer's with --data-dir")
    generator = _Generator(WorkDir(data.work / EXTERNAL))
    with _told(generator):
        generator()
        where = WorkDir(data.work / EXTERNAL).flagfile
        log_line(f"alive as process {os.getpid()}, waiting for {where}")
        options = generator.flagfile(timeout_s)
        log_line(f"flagfile found: {options}")
        _make(generator, WorkDir(data.work / EXTERNAL), options.under(data.root))


@contextlib.contextmanager
def _told(generator: _Generator) -> Iterator[None]:
    """Tell the trainer how the body ended."""
    try:
        yield
    except _TrainerEndedError:
        generator.end(Ended(0))
        log_line("the trainer has ended")
        return
    except BaseException as error:
        generator.end(Ended(*(ending_of(error) or (1, repr(error)))))
        raise
    generator.end(Ended(0))


def _make(generator: _Generator, work_dir: WorkDir, options: GenerationOptions) -> None:
    def wait_for_room() -> None:
        while work_dir.cycles_waiting() >= options.cycles_ahead:
            generator()
            time.sleep(_POLL_S)

    log = Path(options.compliance_file)
    # The monotonic clock of another machine cannot be compared with the trainer's.
    clock = None if generator.elsewhere else beside(log)
    try:
        with logging_to(log, clock=clock):
            for _ in published(
                work_dir, options, wait_for_room=wait_for_room, on_progress=generator
            ):
                generator()
    except OSError:
        generator.look()  # The trainer's end explains a folder that is gone.
        raise
    log_line("all epochs made")


def _remove(work_dir: WorkDir, *, keep: tuple[Path, ...]) -> None:
    """Remove what an earlier run has left."""
    for path in work_dir.root.iterdir():
        if path in keep or path == work_dir.lock:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
