"""Reads a run directory into records. What is absent or damaged is named, never guessed.

``collect`` needs nothing but the files: it works on a copied directory, of a run that is still
going or was aborted, and the same files always give the same records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from trainbench.configuration import differences
from trainbench.errors import ConfigError, DataIntegrityError
from trainbench.movielens.datasets import SyntheticSize
from trainbench.ncf import config as configuration
from trainbench.reporting import evidence
from trainbench.reporting.records import (
    CacheDrop,
    Difference,
    Epoch,
    LogFinding,
    Phase,
    Results,
    Run,
    Status,
    Trial,
)
from trainbench.reporting.sources import Source
from trainbench.trials.paths import RunDir, TrialDir


def collect(run: RunDir) -> Results:
    """Everything the run directory says.

    Raises:
        DataIntegrityError: the directory has neither run.json nor a trial nor a stitched log.
    """
    if not (run.run_file.exists() or run.trials or any(run.root.glob("results/*/ncf/result_*"))):
        raise DataIntegrityError(
            f"{run.root}: no run.json, trial_<i> or results/<system>/ncf; pass the folder of one "
            "run, for example --run data/runs/latest"
        )
    source = Source(run.root)
    identity = source.record(run.run_file, Run)
    config = source.mapping(run.config)
    logs = evidence.evidence(run, identity.system_name, source.missing)
    lost = evidence.lost_lines(source.mapping(run.findings))
    indices = sorted({trial.index for trial in run.trials} | logs.logs.keys())
    return Results(
        run=identity,
        config=config,
        differences=_differences(config, source.missing),
        dataset=source.mapping(run.manifest),
        cache=source.mapping(run.cache_record),
        trials=tuple(_trial(source, run.trial(i), logs, lost.get(i, ())) for i in indices),
        rules=evidence.rules(),
        set_findings=logs.set_findings,
        score=logs.score,
        set_aside=tuple(sorted(p.name for p in run.root.glob("trial_*.aborted-*"))),
        missing=tuple(source.missing),
    )


def _trial(
    source: Source, trial: TrialDir, logs: evidence.Evidence, lost: tuple[LogFinding, ...]
) -> Trial:
    """A trial from its folder; what only its log has left is taken from there."""
    if not trial.root.is_dir():
        source.missing.append(f"{trial.root.name}: folder not there, only its log")
        source = Source(source.root)
    log = logs.logs.get(trial.index)
    return Trial(
        index=trial.index,
        status=source.record(trial.status, Status),
        epochs=source.records(trial.epochs, Epoch) or logs.epochs.get(trial.index, ()),
        phases=source.records(trial.phases, Phase),
        cache_drop=source.record(trial.cache_drop, CacheDrop),
        system=source.mapping(trial.system),
        log=replace(log, findings=(*log.findings, *lost)) if log else None,
    )


def _differences(config: Mapping[str, Any], missing: list[str]) -> tuple[Difference, ...] | None:
    """Where ``config`` departs from the v0.5 reference; ``None`` when it cannot be told."""
    if not config:
        return None
    try:
        own = configuration.from_json(json.dumps(config))
    except (ConfigError, KeyError, TypeError) as error:
        missing.append(f"config.json: not a configuration of this version ({error})")
        return None
    pairs = differences(own, configuration.reference())
    return tuple(Difference(key, _plain(a), _plain(b)) for key, (a, b) in sorted(pairs.items()))


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, SyntheticSize):
        return ", ".join(f"{f.name} {getattr(value, f.name):,}" for f in fields(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
