"""What the tests of the producer's process ask of it."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from small_cache import small_config

from trainbench.ncf.input.epochs import hash_batches
from trainbench.ncf.input.producer import Producer

PROCESS = small_config(use_subprocess=True)


def work_folders(parent: Path) -> list[Path]:
    return sorted(parent.glob("ncf-*"))


def pid_of(producer: Producer) -> int:
    return int(producer._work_dir.alive.read_text().split()[1])


def kill(producer: Producer) -> None:
    """Kill the process and return once all its threads are gone: it can be waited for then.

    Its state alone does not tell: the first thread is a zombie while others are still ending.
    """
    pid = pid_of(producer)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def suspend(producer: Producer) -> None:
    """Stop the process and return once none of its threads runs."""
    pid = pid_of(producer)
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def beat(producer: Producer) -> int:
    """When the producer last gave a sign of work; 0 before the first."""
    try:
        return producer._work_dir.heartbeat.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def await_beat(producer: Producer) -> None:
    """Return after a sign of work that was not there yet."""
    seen = beat(producer)
    assert eventually(lambda: beat(producer) != seen)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def take_all(producer: Producer, epochs: int) -> list[str]:
    """Hashes of the candidates and of all epochs, each computed from what was received."""
    candidates = hashlib.sha256(producer.eval_candidates().items.tobytes()).hexdigest()
    received = [producer.next_epoch() for _ in range(epochs)]
    assert [data.epoch for data in received] == list(range(epochs))
    hashes = [hash_batches(data) for data in received]
    assert hashes == [(data.first_batch_sha256, data.epoch_sha256) for data in received]
    return [candidates, *(all_batches for _, all_batches in hashes)]
