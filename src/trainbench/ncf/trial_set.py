"""A set of NCF trials, and a worker's part in the trials of another machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainbench import configuration
from trainbench.distribution.cluster import Cluster
from trainbench.distribution.liveness import JOIN_TIMEOUT_S
from trainbench.errors import TrainbenchError
from trainbench.machine import page_cache
from trainbench.movielens.cache import find_cache, open_cache
from trainbench.ncf.config import NcfConfig
from trainbench.progress import heartbeat, log_line
from trainbench.trials import trial_set
from trainbench.trials.paths import DataDir, RunDir


@dataclass(frozen=True)
class SetSpec:
    """What ``train`` was asked for."""

    config: NcfConfig
    data: DataDir
    runs: int = 1
    seed: int | None = None
    command: Sequence[str] = ()
    drop_cache_location: str = page_cache.DROP_CACHES
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
    folder = find_cache(spec.config.split_spec, spec.data)
    with heartbeat("verifying the cache"):
        open_cache(folder, verify=True)
    run = _interrupted_run(spec) or trial_set.new_run(
        spec.data,
        preset=spec.config.preset,
        config=configuration.to_json(spec.config),
        cache_record=folder / "cache.json",
        manifest=spec.data.manifest(spec.config.dataset),
        runs=spec.runs,
        seed=spec.seed,
        command=spec.command,
    )
    trial_set.run_missing(
        run,
        runs=spec.runs,
        seed=spec.seed,
        command=lambda index, seed: _command(spec, run, index, seed),
    )
    return run


def work_for_chief(spec: SetSpec) -> None:
    """This machine's part in every trial of the set; only its own log is written.

    Raises:
        TrainbenchError: a trial's part failed, of the kind that its exit code names.
    """
    assert spec.cluster
    with heartbeat("verifying the cache"):
        open_cache(find_cache(spec.config.split_spec, spec.data), verify=True)
    log_file = spec.data.worker_log(spec.cluster.me.index)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    for index in range(spec.runs):
        log_line(
            f"worker {spec.cluster.me.index}, trial {index + 1} of {spec.runs}; log: {log_file}"
        )
        seed = trial_set.trial_seed(spec.seed, index)
        command = [sys.executable, "-m", "trainbench", "worker"]
        command += [
            "--data-dir",
            str(spec.data.root),
            "--config",
            configuration.to_json(spec.config),
        ]
        command += ["--seed", str(seed), "--log-file", str(log_file)]
        command += ["--drop-cache-location", spec.drop_cache_location, *_cluster_options(spec)]
        code = trial_set.follow(command, log_file)
        if code:
            kind = trial_set.HOPELESS.get(code, TrainbenchError)
            raise kind(
                f"trial {index}: the worker ended with {trial_set.ending(code)}; see {log_file}"
            )


def _interrupted_run(spec: SetSpec) -> RunDir | None:
    # Workers cannot know which trials another machine's run lacks.
    if spec.cluster:
        return None
    return trial_set.interrupted_run(
        spec.data, config=configuration.to_json(spec.config), runs=spec.runs, seed=spec.seed
    )


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
    return ["--cluster", spec.cluster.tf_config(), "--join-timeout-s", str(spec.join_timeout_s)]
