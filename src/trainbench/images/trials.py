"""A set of trials, each in a fresh process with a seed of its own; an interrupted set goes on."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainbench import __version__, sidecar, system
from trainbench.compliance import resnet_keys
from trainbench.errors import MachineError, TargetNotReachedError, TrainbenchError
from trainbench.files import write_atomically
from trainbench.images import convert
from trainbench.images.config import ImagesConfig, to_json
from trainbench.images.source import raw_name
from trainbench.ncf.trials import FINISHED, read_status, trial_seed
from trainbench.paths import DataDir, RunDir, TrialDir
from trainbench.progress import say

# Exit codes of a trial after which the next one would fail alike: configuration, data, machine.
_HOPELESS = (2, 3, 6)
# Docker kills ten seconds after it asks; the trial must be gone before.
_GRACE_S = 8


@dataclass(frozen=True)
class SetSpec:
    """What ``images train`` was asked for."""

    config: ImagesConfig
    data: DataDir
    runs: int = 1
    seed: int | None = None
    command: Sequence[str] = ()
    drop_cache_location: str = sidecar.DROP_CACHES
    git: dict[str, Any] | None = None


def run_set(spec: SetSpec) -> RunDir:
    """Run the trials that are missing and return the run's folder.

    Raises:
        MachineError: no cache, or a trial failed for a reason that would fail the next as well.
    """
    cache = convert.find(spec.config, spec.data)
    run = _interrupted(spec) or _new_run(spec, cache.name)
    for index in range(spec.runs):
        status = read_status(run.trial(index))
        if status.get("state") not in FINISHED:
            _set_aside(run.trial(index))
            status = _run_in_process(spec, run, index)
        if status["state"] == "failed" and status["exit_code"] in _HOPELESS:
            raise MachineError(f"trial {index} failed: {status['message']}")
    return run


def require_target(run: RunDir) -> None:
    """Raise unless one trial of ``run`` reached its target.

    Raises:
        TrainbenchError: every trial failed. TargetNotReachedError: none reached the target.
    """
    statuses = [read_status(trial) for trial in run.trials]
    if any(status["state"] == "converged" for status in statuses):
        return
    if all(status["state"] == "failed" for status in statuses):
        raise TrainbenchError(f"{run.root}: every trial failed: {statuses[-1]['message']}")
    best = max(status.get("best_top_1") or 0.0 for status in statuses)
    raise TargetNotReachedError(
        f"{run.root}: best top-1 {best:.4f} is below the target {statuses[0]['target_top_1']}"
    )


def _interrupted(spec: SetSpec) -> RunDir | None:
    """The latest run, if it was asked for the same and has trials missing."""
    run = RunDir(spec.data.latest)
    if not run.run_file.exists() or not run.config.exists():
        return None
    record = json.loads(run.run_file.read_text())
    same = (record["runs"], record["seed"]) == (spec.runs, spec.seed)
    if not same or run.config.read_text() != to_json(spec.config):
        return None
    states = [read_status(run.trial(index)).get("state") for index in range(spec.runs)]
    missing = sum(state not in FINISHED for state in states)
    if not missing:
        return None
    say(f"continuing run {record['run_id']}: {missing} of {spec.runs} trial(s) missing")
    return spec.data.run(record["run_id"])


def _new_run(spec: SetSpec, cache: str) -> RunDir:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    run = spec.data.run(f"{stamp}-{spec.config.preset}-{secrets.token_hex(2)}")
    run.root.mkdir(parents=True)
    write_atomically(run.config, to_json(spec.config))
    shutil.copyfile(spec.data.cache(cache) / "cache.json", run.cache_record)
    shutil.copyfile(spec.data.manifest(raw_name(spec.config)), run.manifest)
    record = {
        "schema": 1,
        "benchmark": resnet_keys.BENCHMARK,
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
    link = spec.data.runs / f".latest.{run.root.name}"
    link.symlink_to(run.root.name)
    link.replace(spec.data.latest)
    say(f"new run {run.root.name}: {spec.runs} trial(s)")
    return run


def _set_aside(trial: TrialDir) -> None:
    if trial.root.exists():
        remains = list(trial.root.parent.glob(f"{trial.root.name}.aborted-*"))
        trial.root.rename(trial.root.with_name(f"{trial.root.name}.aborted-{len(remains)}"))
        say(f"{trial.root.name} was cut off; starting it anew")


def _run_in_process(spec: SetSpec, run: RunDir, index: int) -> dict[str, Any]:
    trial, seed = run.trial(index), trial_seed(spec.seed, index)
    trial.root.mkdir()
    say(f"trial {index + 1} of {spec.runs}, seed {seed}")
    code = _follow(_command(spec, run, index, seed), trial)
    status = read_status(trial)
    if status.get("state") in FINISHED:
        return status
    message = f"the trial's process ended with {code}; see {trial.stdout}"
    status = {"seed": seed, **status, "state": "failed", "exit_code": 1, "message": message}
    write_atomically(trial.status, json.dumps(status, indent=2) + "\n")
    return status


def _command(spec: SetSpec, run: RunDir, index: int, seed: int) -> list[str]:
    command = [sys.executable, "-m", "trainbench", "images", "trial"]
    command += ["--data-dir", str(spec.data.root), "--run", str(run.root), "--index", str(index)]
    command += ["--seed", str(seed), "--drop-cache-location", spec.drop_cache_location]
    return command + (["--git", json.dumps(spec.git)] if spec.git else [])


def _follow(command: list[str], trial: TrialDir) -> int:
    """Run ``command``, copy what it prints to stdout.log and here, and end it if we are ended."""
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
        with open(trial.stdout, "w") as copy:
            for line in child.stdout:
                copy.write(line)
                copy.flush()
                sys.stderr.write(line)
        return child.wait()
    except BaseException:
        child.terminate()
        try:
            child.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise
