"""A set of trials, whatever they train: its run folder, and each trial in a process of its own.

A trial that misses its target, or fails, is a result like any other. An
interrupted set is continued by the next call with the same configuration; finished trials are
never touched, and a trial that was cut off starts again beside its remains.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainbench import __version__
from trainbench.errors import (
    ConfigError,
    DataIntegrityError,
    MachineError,
    TargetNotReachedError,
    TrainbenchError,
)
from trainbench.files import write_atomically, write_json
from trainbench.machine import system
from trainbench.progress import duration, log_line
from trainbench.trials.paths import DataDir, RunDir, TrialDir

FINISHED = ("converged", "not_converged", "failed")
# Exit codes of a trial after which the next one would also fail: configuration, data, machine.
HOPELESS = {kind.exit_code: kind for kind in (ConfigError, DataIntegrityError, MachineError)}
# What TensorFlow says of itself before its log level counts; stdout.log keeps it.
_START_UP_NOTE = re.compile(r"[IWE]\d{4} 00:00:|WARNING: All log messages before absl::")
# Docker kills ten seconds after it asks; the trial must be gone before.
_GRACE_S = 8


def trial_seed(seed: int | None, index: int) -> int:
    """The seed of one trial: from the system's entropy, or derived when ``seed`` is given.

    The rules want the system's entropy for official runs (training_rules.adoc@6e02163, "Random
    numbers"); a derived seed replays a set.
    """
    if seed is None:
        return secrets.randbits(62)
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 2)


def read_status(trial: TrialDir) -> dict[str, Any]:
    """The content of a trial's status.json; empty where there is none."""
    if not trial.status.exists():
        return {}
    found: dict[str, Any] = json.loads(trial.status.read_text())
    return found


def new_run(
    data: DataDir,
    *,
    preset: str,
    config: str,
    cache_record: Path,
    manifest: Path,
    runs: int,
    seed: int | None,
    command: Sequence[str],
    more: Mapping[str, Any] | None = None,
) -> RunDir:
    """A new run folder with what every run records, the latest from now on.

    Args:
        config: the content of config.json.
        cache_record, manifest: files that are copied.
        more: what else run.json holds.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    run = data.run(f"{stamp}-{preset}-{secrets.token_hex(2)}")
    run.root.mkdir(parents=True)
    write_atomically(run.config, config)
    shutil.copyfile(cache_record, run.cache_record)
    shutil.copyfile(manifest, run.manifest)
    record = {
        "schema": 1,
        **(more or {}),
        "run_id": run.root.name,
        "created_unix_s": int(time.time()),
        "preset": preset,
        "runs": runs,
        "seed": seed,
        "command": list(command),
        "trainbench_version": __version__,
        "system_name": system.slug(system.record(git={})),
    }
    write_json(run.run_file, record, sort_keys=False)
    _point_latest_at(data, run)
    log_line(f"new run {run.root.name}: {runs} trial(s)")
    return run


def interrupted_run(data: DataDir, *, config: str, runs: int, seed: int | None) -> RunDir | None:
    """The latest run, if it was asked for the same and has trials missing."""
    run = RunDir(data.latest)
    if not run.run_file.exists() or not run.config.exists():
        return None
    record = json.loads(run.run_file.read_text())
    same = (record["runs"], record["seed"]) == (runs, seed)
    if not same or run.config.read_text() != config:
        return None
    states = [read_status(run.trial(index)).get("state") for index in range(runs)]
    missing = sum(state not in FINISHED for state in states)
    if not missing:
        return None
    log_line(f"continuing run {record['run_id']}: {missing} of {runs} trial(s) missing")
    return data.run(record["run_id"])


def run_missing(
    run: RunDir,
    *,
    runs: int,
    seed: int | None,
    command: Callable[[int, int], list[str]],
) -> None:
    """Run the trials of ``run`` that are not finished.

    Args:
        command: of the process of one trial, by its index and its seed.

    Raises:
        ConfigError, DataIntegrityError, MachineError: a trial failed for a reason that would fail
            the next one as well.
    """
    started = time.monotonic()
    for index in range(runs):
        trial = run.trial(index)
        status = read_status(trial)
        if status.get("state") not in FINISHED:
            _set_aside(trial)
            own_seed = trial_seed(seed, index)
            log_line(f"trial {index + 1} of {runs}, seed {own_seed}")
            status = _run_in_process(trial, command(index, own_seed), own_seed)
        _say_progress(run, runs, index + 1, time.monotonic() - started)
        if status["state"] == "failed" and status["exit_code"] in HOPELESS:
            kind = HOPELESS[status["exit_code"]]
            raise kind(f"trial {index} failed: {status['message']}")


def require_target(run: RunDir, *, measure: str, best: str, target: str, see: str = "") -> None:
    """Raise unless one trial of ``run`` reached its target.

    Args:
        measure: what is measured, for people; ``best`` and ``target`` are its keys in status.json.
        see: where to look further, the end of the message.

    Raises:
        TrainbenchError: every trial failed. TargetNotReachedError: none reached the target.
    """
    statuses = [read_status(trial) for trial in run.trials]
    if any(status["state"] == "converged" for status in statuses):
        return
    if all(status["state"] == "failed" for status in statuses):
        raise TrainbenchError(f"{run.root}: every trial failed: {statuses[-1]['message']}")
    highest = max(status.get(best) or 0.0 for status in statuses)
    raise TargetNotReachedError(
        f"{run.root}: best {measure} {highest:.4f} is below the target {statuses[0][target]}{see}"
    )


def follow(command: list[str], log_file: Path) -> int:
    """Run ``command``, add what it prints to ``log_file`` and here, and end it if we are ended."""
    # A session of its own: the terminal's Ctrl-C reaches us alone, and we pass it on once.
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert child.stdout is not None
    try:
        with open(log_file, "a") as copy:
            for line in child.stdout:
                copy.write(line)
                copy.flush()
                if not _START_UP_NOTE.match(line):
                    sys.stderr.write(line)
        return child.wait()
    except BaseException:
        _end(child)
        raise


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code == -9:
        return "signal 9 (often the kernel, out of memory: try a smaller batch_size)"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _point_latest_at(data: DataDir, run: RunDir) -> None:
    link = data.runs / f".latest.{run.root.name}"
    link.symlink_to(run.root.name)
    link.replace(data.latest)


def _set_aside(trial: TrialDir) -> None:
    if not trial.root.exists():
        return
    remains = list(trial.root.parent.glob(f"{trial.root.name}.aborted-*"))
    status = read_status(trial)
    trial.root.rename(trial.root.with_name(f"{trial.root.name}.aborted-{len(remains)}"))
    log_line(
        f"{trial.root.name} was cut off ({status.get('state', 'no status')}); starting it again"
    )


def _run_in_process(trial: TrialDir, command: list[str], seed: int) -> dict[str, Any]:
    trial.root.mkdir()
    try:
        code = follow(command, trial.stdout)
    except BaseException:
        _mark_interrupted(trial)
        raise
    status = read_status(trial)
    if status.get("state") in FINISHED:
        return status
    error = TrainbenchError(f"the trial's process ended with {ending(code)}; see {trial.stdout}")
    status = {"seed": seed, **status, "state": "failed"}
    status |= {"exit_code": error.exit_code, "message": str(error)}
    write_json(trial.status, status, sort_keys=False)
    return status


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _mark_interrupted(trial: TrialDir) -> None:
    status = read_status(trial)
    if status.get("state") == "running":
        status |= {"state": "interrupted", "exit_code": 130, "message": "interrupted"}
        write_json(trial.status, status, sort_keys=False)


def _say_progress(run: RunDir, runs: int, done: int, seconds: float) -> None:
    if runs == 1:
        return
    states = [read_status(run.trial(index)).get("state") for index in range(done)]
    left = runs - done
    log_line(
        f"{done} of {runs} trials done, {states.count('converged')} converged, {left} left, "
        f"ETA {duration(seconds / done * left)}"
    )
