"""Reads a run directory into records. What is absent or damaged is named, never guessed.

``collect`` needs nothing but the files: it works on a copied directory, of a run that is still
going or was aborted, and the same files always give the same records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from trainbench import configuration
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import ConfigError, DataIntegrityError
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
from trainbench.reporting.text import shown
from trainbench.trials.paths import RunDir, TrialDir

ReadTrial = Callable[[Source, TrialDir, tuple[Epoch, ...]], tuple[Status, tuple[Epoch, ...]]]
"""Reads the status and the epochs of a trial, given those epochs that its log names."""


def read_trial(
    source: Source, trial: TrialDir, logged: tuple[Epoch, ...]
) -> tuple[Status, tuple[Epoch, ...]]:
    """Status and epochs as a trial of NCF records them."""
    status = source.record(trial.status, Status)
    return status, source.records(trial.epochs, Epoch) or logged


def collect(
    run: RunDir,
    reference: Any,
    *,
    benchmark: str = tags.BENCHMARK,
    read: ReadTrial = read_trial,
) -> Results:
    """Everything the run directory says.

    Args:
        reference: the configuration, a frozen dataclass, that config.json is compared with.
        benchmark: what the logs of the run are of.

    Raises:
        DataIntegrityError: the directory has neither run.json nor a trial nor a stitched log.
    """
    stitched = run.root.glob(f"results/*/{benchmark}/result_*")
    if not (run.run_file.exists() or run.trials or any(stitched)):
        raise DataIntegrityError(
            f"{run.root}: no run.json, trial_<i> or results/<system>/{benchmark}; pass the folder "
            "of one run, for example --run data/runs/latest"
        )
    source = Source(run.root)
    identity = source.record(run.run_file, Run)
    config = source.mapping(run.config)
    logs = evidence.evidence(run, identity.system_name, source.missing, benchmark)
    lost = evidence.lost_lines(source.mapping(run.findings))
    indices = sorted({trial.index for trial in run.trials} | logs.logs.keys())
    return Results(
        run=identity,
        config=config,
        differences=_differences(config, reference, source.missing),
        dataset=_without_list(source.mapping(run.manifest)),
        cache=_without_list(source.mapping(run.cache_record)),
        trials=tuple(_trial(source, run.trial(i), logs, lost.get(i, ()), read) for i in indices),
        rules=evidence.rules(benchmark),
        set_findings=logs.set_findings,
        score=logs.score,
        set_aside=tuple(sorted(p.name for p in run.root.glob("trial_*.aborted-*"))),
        missing=tuple(source.missing),
        benchmark=benchmark,
    )


def _trial(
    source: Source,
    trial: TrialDir,
    logs: evidence.Evidence,
    lost: tuple[LogFinding, ...],
    read: ReadTrial,
) -> Trial:
    """A trial from its folder; what only its log has left is taken from there."""
    if not trial.root.is_dir():
        source.missing.append(f"{trial.root.name}: folder not there, only its log")
        source = Source(source.root)
    log = logs.logs.get(trial.index)
    status, epochs = read(source, trial, logs.epochs.get(trial.index, ()))
    return Trial(
        index=trial.index,
        status=status,
        epochs=epochs,
        phases=source.records(trial.phases, Phase),
        cache_drop=source.record(trial.cache_drop, CacheDrop),
        system=source.mapping(trial.system),
        log=replace(log, findings=(*log.findings, *lost)) if log else None,
    )


def _without_list(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A manifest with the number of its files in place of their list, which can be long."""
    files = record.get("files")
    if not isinstance(files, dict):
        return record
    return {**{k: v for k, v in record.items() if k != "files"}, "number_of_files": len(files)}


def _differences(
    config: Mapping[str, Any], reference: Any, missing: list[str]
) -> tuple[Difference, ...] | None:
    """Where ``config`` departs from ``reference``; ``None`` when it cannot be told."""
    if not config:
        return None
    try:
        own = configuration.from_json(type(reference), json.dumps(config))
    except ConfigError as error:
        missing.append(f"config.json: not a configuration of this version ({error})")
        return None
    pairs = configuration.differences(own, reference)
    return tuple(Difference(key, _plain(a), _plain(b)) for key, (a, b) in sorted(pairs.items()))


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if is_dataclass(value):
        return ", ".join(f"{f.name} {shown(getattr(value, f.name))}" for f in fields(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
