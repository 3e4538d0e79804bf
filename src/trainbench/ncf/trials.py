"""A set of trials of one configuration, each in a fresh process with a seed of its own.

A trial that misses its target, or fails by its own doing, is a result like any other. An
interrupted set is continued by the next call with the same configuration; finished trials are
never touched, and a trial that was cut off starts anew beside its remains.
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainbench import __version__, config, sidecar, system
from trainbench.config import NcfConfig
from trainbench.data.cache import find_cache, open_cache
from trainbench.errors import ConfigError, DataIntegrityError, MachineError, TrainbenchError
from trainbench.files import write_atomically
from trainbench.ncf.cluster import JOIN_TIMEOUT_S, Cluster, missing
from trainbench.paths import DataDir, RunDir, TrialDir
from trainbench.progress import duration, heartbeat, say

FINISHED = ("converged", "not_converged", "failed")
# Exit codes of a trial after which the next one would fail alike: configuration, data, machine.
_HOPELESS = {kind.exit_code: kind for kind in (ConfigError, DataIntegrityError, MachineError)}
# What TensorFlow says of itself before its log level counts; stdout.log keeps it.
_START_UP_NOTE = re.compile(r"[IWE]\d{4} 00:00:|WARNING: All log messages before absl::")
# Docker kills ten seconds after it asks; the trial must be gone before.
_GRACE_S = 8


@dataclass(frozen=True)
class SetSpec:
    """What ``train`` was asked for."""

    config: NcfConfig
    data: DataDir
    runs: int = 1
    seed: int | None = None
    command: Sequence[str] = ()
    drop_cache_location: str = sidecar.DROP_CACHES
    hash_pipeline: bool = False
    git: dict[str, Any] | None = None
    cluster: Cluster | None = None
    join_timeout_s: float = JOIN_TIMEOUT_S
    profile: Path | None = None


def run_set(spec: SetSpec) -> RunDir:
    """Run the trials that are missing and return the run's folder.

    Raises:
        ConfigError, DataIntegrityError, MachineError: a trial failed for a reason that would fail
            the next one as well.
        TrainbenchError: no usable cache, or interrupted.
    """
    folder = find_cache(spec.config, spec.data)
    with heartbeat("verifying the cache"):
        open_cache(folder, verify=True)
    # Workers cannot know which trials another machine's run lacks.
    run = (None if spec.cluster else _interrupted_run(spec)) or _new_run(spec, folder)
    started = time.monotonic()
    for index in range(spec.runs):
        status = read_status(run.trial(index))
        if status.get("state") not in FINISHED:
            _set_aside(run.trial(index))
            status = _run_in_process(spec, run, index)
        _say_progress(run, spec.runs, index + 1, time.monotonic() - started)
        if status["state"] == "failed" and status["exit_code"] in _HOPELESS:
            kind = _HOPELESS[status["exit_code"]]
            raise kind(f"trial {index} failed: {status['message']}")
    return run


def work_for_chief(spec: SetSpec) -> None:
    """This machine's part in every trial of the set; only its own log is written.

    Raises:
        TrainbenchError: a trial's part failed, of the kind that its exit code names.
    """
    assert spec.cluster
    with heartbeat("verifying the cache"):
        open_cache(find_cache(spec.config, spec.data), verify=True)
    log_file = spec.data.worker_log(spec.cluster.index)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    for index in range(spec.runs):
        say(f"worker {spec.cluster.index}, trial {index + 1} of {spec.runs}; log: {log_file}")
        command = [sys.executable, "-m", "trainbench", "worker"]
        command += ["--data-dir", str(spec.data.root), "--config", config.to_json(spec.config)]
        command += ["--seed", str(trial_seed(spec.seed, index)), "--log-file", str(log_file)]
        command += ["--drop-cache-location", spec.drop_cache_location, *_cluster_options(spec)]
        code = _follow(command, log_file)
        if code:
            kind = _HOPELESS.get(code, TrainbenchError)
            raise _not_joined(spec, code) or kind(
                f"trial {index}: the worker ended with {_ending(code)}; see {log_file}"
            )


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


def _new_run(spec: SetSpec, cache: Path) -> RunDir:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    run = spec.data.run(f"{stamp}-{spec.config.preset}-{secrets.token_hex(2)}")
    run.root.mkdir(parents=True)
    write_atomically(run.config, config.to_json(spec.config))
    shutil.copyfile(cache / "cache.json", run.cache_record)
    shutil.copyfile(spec.data.manifest(spec.config.dataset), run.manifest)
    record = {
        "schema": 1,
        "run_id": run.root.name,
        "created_unix_s": int(time.time()),
        "preset": spec.config.preset,
        "runs": spec.runs,
        "seed": spec.seed,
        "command": list(spec.command),
        "trainbench_version": __version__,
        "system_name": system.slug(system.record(git={})),
    }
    write_atomically(run.run_file, json.dumps(record, indent=2) + "\n")
    _point_latest_at(spec.data, run)
    say(f"new run {run.root.name}: {spec.runs} trial(s)")
    return run


def _interrupted_run(spec: SetSpec) -> RunDir | None:
    """The latest run, if it was asked for the same and has trials missing."""
    run = RunDir(spec.data.latest)
    if not run.run_file.exists() or not run.config.exists():
        return None
    record = json.loads(run.run_file.read_text())
    same = (record["runs"], record["seed"]) == (spec.runs, spec.seed)
    if not same or run.config.read_text() != config.to_json(spec.config):
        return None
    states = [read_status(run.trial(index)).get("state") for index in range(spec.runs)]
    missing = [index for index, state in enumerate(states) if state not in FINISHED]
    if not missing:
        return None
    found = spec.data.run(record["run_id"])
    say(f"continuing run {found.root.name}: {len(missing)} of {spec.runs} trial(s) missing")
    return found


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
    say(f"{trial.root.name} was cut off ({status.get('state', 'no status')}); starting it anew")


def _run_in_process(spec: SetSpec, run: RunDir, index: int) -> dict[str, Any]:
    trial = run.trial(index)
    trial.root.mkdir()
    seed = trial_seed(spec.seed, index)
    say(f"trial {index + 1} of {spec.runs}, seed {seed}")
    try:
        code = _follow(_command(spec, run, index, seed), trial.stdout)
    except BaseException:
        _mark_interrupted(trial)
        raise
    status = read_status(trial)
    if status.get("state") in FINISHED:
        return status
    error = _not_joined(spec, code) or TrainbenchError(
        f"the trial's process ended with {_ending(code)}; see {trial.stdout}"
    )
    status = {"seed": seed, **status, "state": "failed"}
    status |= {"exit_code": error.exit_code, "message": str(error)}
    write_atomically(trial.status, json.dumps(status, indent=2) + "\n")
    return status


def _command(spec: SetSpec, run: RunDir, index: int, seed: int) -> list[str]:
    command = [sys.executable, "-m", "trainbench", "trial", "--data-dir", str(spec.data.root)]
    command += ["--run", str(run.root), "--index", str(index), "--seed", str(seed)]
    command += ["--drop-cache-location", spec.drop_cache_location]
    if spec.hash_pipeline:
        command.append("--hash-pipeline")
    if spec.git:
        command += ["--git", json.dumps(spec.git)]
    if spec.profile:
        command += ["--profile", str(spec.profile)]
    return command + _cluster_options(spec)


def _cluster_options(spec: SetSpec) -> list[str]:
    if spec.cluster is None:
        return []
    cluster = json.dumps(dataclasses.asdict(spec.cluster))
    return ["--cluster", cluster, "--join-timeout-s", str(spec.join_timeout_s)]


def _not_joined(spec: SetSpec, code: int) -> MachineError | None:
    """The error of a trial's process that waited in vain for other machines; see ``join``."""
    if spec.cluster is None or code != -signal.SIGALRM:
        return None
    return missing(spec.cluster, spec.join_timeout_s)


def _follow(command: list[str], log_file: Path) -> int:
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
        write_atomically(trial.status, json.dumps(status, indent=2) + "\n")


def _ending(code: int) -> str:
    if code == -9:
        return "signal 9 (often the kernel, out of memory: try a smaller batch_size)"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _say_progress(run: RunDir, runs: int, done: int, seconds: float) -> None:
    if runs == 1:
        return
    states = [read_status(run.trial(index)).get("state") for index in range(done)]
    left = runs - done
    say(
        f"{done} of {runs} trials done, {states.count('converged')} converged, {left} left, "
        f"ETA {duration(seconds / done * left)}"
    )
