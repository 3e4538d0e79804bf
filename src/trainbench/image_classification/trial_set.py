"""A set of trials, each in a fresh process with its own seed; an interrupted set is continued."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainbench.compliance.tags import resnet as resnet_tags
from trainbench.configuration import to_json
from trainbench.image_classification import convert
from trainbench.image_classification.config import ImagesConfig
from trainbench.image_classification.source import raw_name
from trainbench.machine import page_cache
from trainbench.trials import trial_set
from trainbench.trials.paths import DataDir, RunDir


@dataclass(frozen=True)
class SetSpec:
    """What ``images train`` was asked for."""

    config: ImagesConfig
    data: DataDir
    runs: int = 1
    seed: int | None = None
    command: Sequence[str] = ()
    drop_cache_location: str = page_cache.DROP_CACHES
    git: dict[str, Any] | None = None


def run_set(spec: SetSpec) -> RunDir:
    """Run the trials that are missing and return the run's folder.

    Raises:
        MachineError: no cache.
        ConfigError, DataIntegrityError, MachineError: a trial failed for a reason that would fail
            the next one as well.
    """
    cache = convert.find(spec.config, spec.data)
    config = to_json(spec.config)
    run = trial_set.interrupted_run(
        spec.data, config=config, runs=spec.runs, seed=spec.seed
    ) or trial_set.new_run(
        spec.data,
        preset=spec.config.preset,
        config=config,
        cache_record=spec.data.cache(cache.name) / "cache.json",
        manifest=spec.data.manifest(raw_name(spec.config)),
        runs=spec.runs,
        seed=spec.seed,
        command=spec.command,
        more={"benchmark": resnet_tags.BENCHMARK},
    )
    trial_set.run_missing(
        run,
        runs=spec.runs,
        seed=spec.seed,
        command=lambda index, seed: _command(spec, run, index, seed),
    )
    return run


def require_target(run: RunDir) -> None:
    """Raise unless one trial of ``run`` reached its top-1 accuracy."""
    trial_set.require_target(run, measure="top-1", best="best_top_1", target="target_top_1")


def _command(spec: SetSpec, run: RunDir, index: int, seed: int) -> list[str]:
    command = [sys.executable, "-m", "trainbench", "images", "trial"]
    command += ["--data-dir", str(spec.data.root), "--run", str(run.root), "--index", str(index)]
    command += ["--seed", str(seed), "--drop-cache-location", spec.drop_cache_location]
    return command + (["--git", json.dumps(spec.git)] if spec.git else [])
