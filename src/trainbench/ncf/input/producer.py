"""The trainer's side of the producer: start it, release it, take what it makes, end it.

with start_producer(cache, config, seed=7, work_dir=..., ...) as producer:
    ...                                  # drop caches, log run_start
    producer.release()
    candidates = producer.eval_candidates()
    batches = producer.next_piece()      # an epoch, or a part of one that is large
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trainbench.compliance.emit import logging_to
from trainbench.compliance.two_clocks import beside
from trainbench.errors import ConfigError, DataIntegrityError, MachineError, TrainbenchError
from trainbench.files import PACKAGE
from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.input.external import External
from trainbench.ncf.input.flagfile import GenerationOptions, write_flagfile
from trainbench.ncf.input.generate import published
from trainbench.ncf.input.heartbeat import Pulse
from trainbench.ncf.input.stream.pieces import EpochData, open_eval, open_piece
from trainbench.ncf.input.stream.slices import SLICES
from trainbench.ncf.input.workdir import COME_WITHIN_S, Claim, WorkDir, claim
from trainbench.progress import log_line
from trainbench.trials import signals

ALIVE_TIMEOUT_S = 60.0
HUNG_AFTER_S = 45.0
LAST_LINES = 20
_POLL_S = 0.01
_GRACE_S = 5.0


@dataclass(frozen=True)
class EvalCandidates:
    """items: int32[num_users, eval_negatives + 1], the held-out item last; a read-only map.

    sha256: of these numbers in this order, little-endian.
    """

    items: npt.NDArray[np.int32]
    sha256: str
    wait_s: float


class _Source(Protocol):
    """What makes the folders: another process, or this one."""

    def release(self) -> None:
        """Let the producer read data."""

    def check(self) -> None:
        """Raise if the producer failed or hangs."""

    def wait_for(self, folder: Path) -> None:
        """Return when ``folder`` exists."""

    def stop(self, failed: bool = False) -> None:
        """End it, because the trainer ends or has ``failed``; may be called twice."""


class Producer:
    """Hands out evaluation candidates and epochs; a context manager that cleans up."""

    def __init__(self, held: Claim, options: GenerationOptions, source: _Source) -> None:
        self._claim, self._options, self._source = held, options, source
        self._work_dir = held.work_dir
        self._owner = os.getpid()
        self._taken = 0
        self._ready: deque[Path] = deque()
        self._latest: EpochData | None = None
        self._released, self._failed = False, False
        atexit.register(self.close)

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, *error: object) -> None:
        self._failed = any(error)
        self.close()

    @contextlib.contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close it if the body raises."""
        try:
            yield
        except BaseException as error:
            self.__exit__(error)
            raise

    @property
    def elsewhere(self) -> bool:
        """Whether the producer works on another machine."""
        return isinstance(self._source, External) and self._source.elsewhere

    def release(self) -> None:
        """Let the producer begin: the flagfile appears. Call it after run_start was logged."""
        self._released = True
        self._source.release()

    def eval_candidates(self) -> EvalCandidates:
        """The candidates of every user's evaluation, drawn once per run.

        Raises:
            TrainbenchError: the producer failed or hangs.
        """
        wait_s = self._wait_for(self._work_dir.eval)
        items, sha256 = open_eval(self._work_dir.eval)
        return EvalCandidates(items, sha256, wait_s)

    def next_piece(self) -> EpochData:
        """The next epoch's batches, or those of its next piece; the cycle before is deleted.

        Raises:
            TrainbenchError: the producer failed or hangs, or the last epoch is out.
        """
        latest, wait_s = self._latest, 0.0
        if latest and latest.is_last and latest.epoch + 1 == self._options.max_epochs:
            raise TrainbenchError(
                f"epoch {latest.epoch + 1} was asked for, but max_epochs is "
                f"{self._options.max_epochs}"
            )
        if not self._ready:
            wait_s = self._take_cycle()
        if latest and not latest.is_last:
            wait_s += latest.wait_s
        self._latest = open_piece(self._ready.popleft(), wait_s=wait_s)
        return self._latest

    def _take_cycle(self) -> float:
        """Take the next cycle instead of the one in use; the seconds that it was waited for."""
        number = self._taken
        if number:
            shutil.rmtree(self._work_dir.in_use(number - 1))
        wait_s = self._wait_for(self._work_dir.cycle(number))
        # The new name tells the producer that there is room for another cycle.
        self._work_dir.cycle(number).rename(self._work_dir.in_use(number))
        self._taken += 1
        self._ready.extend(sorted(self._work_dir.in_use(number).iterdir()))
        return wait_s

    def check(self) -> None:
        """Raise a ``TrainbenchError`` if the producer failed or hangs; costs microseconds."""
        self._source.check()

    def close(self) -> None:
        """End the producer and remove its folder, in whatever state; a second call does nothing."""
        if os.getpid() != self._owner:
            return
        self._source.stop(self._failed)
        self._claim.remove()
        atexit.unregister(self.close)

    def _wait_for(self, folder: Path) -> float:
        assert self._released, "release() comes first: the producer waits for the flagfile"
        started = time.perf_counter()
        self._source.wait_for(folder)
        return time.perf_counter() - started


def start_producer(
    cache: RatingsCache,
    config: NcfConfig,
    *,
    seed: int,
    work_dir: Path,
    log_file: Path,
    compliance_file: Path,
    command: Sequence[str] = (sys.executable, "-m", "trainbench.ncf.input.generate"),
    alive_timeout_s: float = ALIVE_TIMEOUT_S,
    come_within_s: float = COME_WITHIN_S,
    hung_after_s: float = HUNG_AFTER_S,
    slices: range = range(SLICES),
) -> Producer:
    """Start the producer and return once it has said that it is alive; it touches no data yet.

    Folders of dead runs in ``work_dir`` are removed. Call it from a thread that lives as long as
    the producer should: Linux ends the producer with the thread that started it. With
    ``generator=inline`` the same work is done in this process when it is asked for; with
    ``external`` a generator started by hand has to come ``come_within_s``. A worker gets its
    ``slices`` of every batch, of all 64.

    Raises:
        ConfigError: not one batch fits into an epoch. MachineError: ``work_dir`` cannot be
        written. TrainbenchError: the producer did not come up.
    """
    options = GenerationOptions.of(
        config, cache_folder=cache.folder, compliance_file=compliance_file, seed=seed, slices=slices
    )
    _require_batch(cache, options)
    held = claim(work_dir, external=config.generator == "external")
    source: _Process | External
    try:
        if config.generator == "inline":
            return Producer(held, options, _Inline(held.work_dir, options))
        if config.generator == "external":
            source = External(held.work_dir, options, work_dir.parent)
            alive_timeout_s = come_within_s
        else:
            source = _Process(held.work_dir, options, log_file, command, hung_after_s)
        producer = Producer(held, options, source)
    except BaseException:
        held.remove()
        raise
    with producer.closed_on_error():
        source.wait_until_alive(alive_timeout_s)
    return producer


def _require_batch(cache: RatingsCache, options: GenerationOptions) -> None:
    samples = cache.num_train * (1 + options.train_negatives)
    if not samples:
        raise DataIntegrityError(
            f"{cache.folder}: no training pair is left besides the held-out ones; use more ratings"
        )
    if options.last_batch == "spillover" and samples < options.batch_size:
        raise ConfigError(
            f"batch_size={options.batch_size}: an epoch has {samples} samples, so last_batch="
            "spillover would leave no batch; use a smaller batch_size or last_batch=pad"
        )
    if samples < options.batch_size:
        log_line(
            f"warning: batch_size={options.batch_size} is larger than an epoch of {samples} "
            "samples; the rest only fills each batch and counts as no throughput"
        )


class _Inline:
    """The producer's work in this process, done when its result is asked for."""

    def __init__(self, work_dir: WorkDir, options: GenerationOptions) -> None:
        self._work_dir, self._options = work_dir, options
        self._made: Iterator[Path] = iter(())

    def release(self) -> None:
        write_flagfile(self._work_dir.flagfile, self._options)
        self._made = published(self._work_dir, self._options)

    def check(self) -> None:
        pass

    def wait_for(self, folder: Path) -> None:
        log = Path(self._options.compliance_file)
        with logging_to(log, clock=beside(log)):
            while not folder.exists():
                next(self._made)

    def stop(self, failed: bool = False) -> None:
        if hasattr(self._made, "close"):
            self._made.close()


class _Process:
    """The producer as a child process."""

    def __init__(
        self,
        work_dir: WorkDir,
        options: GenerationOptions,
        log_file: Path,
        command: Sequence[str],
        hung_after_s: float,
    ) -> None:
        self._work_dir, self._options, self._log = work_dir, options, log_file
        self._hung_after_s = hung_after_s
        self._pulse = Pulse(work_dir.heartbeat)
        # It needs no GPU, and whatever it might load must not take the trainer's GPU memory.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        paths = [str(PACKAGE.parent), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        given = ["--work-dir", str(work_dir.root), "--parent", str(os.getpid())]
        with open(log_file, "ab") as output, signals.kept_from_children():
            self._child = subprocess.Popen(
                [*command, *given],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )

    def wait_until_alive(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._work_dir.alive.exists():
            if self._child.poll() is not None:
                raise self._failure(f"ended with {self._ending()} before it was alive")
            if time.monotonic() > deadline:
                raise self._failure(f"did not start within {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def release(self) -> None:
        write_flagfile(self._work_dir.flagfile, self._options)

    def check(self) -> None:
        code = self._child.poll()
        if code == 0:
            return
        if code is not None:
            raise self._failure(f"ended with {self._ending()}")
        silent_s = self._pulse.silent_s()
        if silent_s > self._hung_after_s:
            failure = self._failure(f"hangs: no progress for {silent_s:.0f} s")
            self._child.kill()
            raise failure

    def wait_for(self, folder: Path) -> None:
        # Also when the folder is there: a run whose producer is dead is not worth continuing.
        self.check()
        while not folder.exists():
            self.check()
            # Looked at again: its last act before a good end may have been to make the folder.
            if self._child.poll() == 0 and not folder.exists():
                raise self._failure(f"ended without making {folder.name}")
            time.sleep(_POLL_S)

    def stop(self, failed: bool = False) -> None:
        if self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _ending(self) -> str:
        code = self._child.returncode
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _failure(self, what: str) -> TrainbenchError:
        """The error to raise, of the kind that the producer's own exit code names."""
        kinds = (ConfigError, DataIntegrityError, MachineError)
        by_code = {kind.exit_code: kind for kind in kinds}
        kind = by_code.get(self._child.poll() or 0, TrainbenchError)
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        # Of a traceback, what was raised; the log has the rest.
        told = [line for line in lines if not line.startswith(("Traceback (", "  "))]
        tail = " | ".join(told[-LAST_LINES:]) or "nothing"
        return kind(f"the input producer {what}; the last lines of {self._log}: {tail}")
