"""Reads a run directory into records. What is absent or damaged is named, never guessed.

``collect`` needs nothing but the files: it works on a copied directory, of a run that is still
going or was aborted, and the same files always give the same records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from trainbench import configuration
from trainbench.benchmark import Benchmark, load
from trainbench.errors import DataIntegrityError
from trainbench.machine.load import Load, Sample, load_of, timed
from trainbench.reporting import evidence, integrity
from trainbench.reporting.records import (
    CacheDrop,
    Difference,
    Limits,
    LogFinding,
    Phase,
    Results,
    Trial,
    typical,
)
from trainbench.reporting.sections import Sections
from trainbench.reporting.sources import Source
from trainbench.reporting.text import shown
from trainbench.trials.clock import timed_span
from trainbench.trials.notes import notes_of
from trainbench.trials.paths import RunDir, TrialDir
from trainbench.trials.spec import Run


def collect(run: RunDir, benchmark: Benchmark) -> Results:
    """Everything the run directory says of a run of ``benchmark``.

    Raises:
        DataIntegrityError: the directory has neither run.json nor a trial nor a stitched log.
    """
    stitched = run.root.glob(f"results/*/{benchmark.name}/result_*")
    if not (run.run_file.exists() or run.trials or any(stitched)):
        raise DataIntegrityError(
            f"{run.root}: no run.json, trial_<i> or results/<system>/{benchmark.name}; pass the "
            "folder of one run, for example --run data/runs/latest"
        )
    source = Source(run.root)
    identity = source.record(run.run_file, Run)
    config = source.mapping(run.config)
    logs = evidence.evidence(run, identity.system_name, source.missing, benchmark.name)
    lost = evidence.lost_lines(source.mapping(run.findings))
    indices = sorted({trial.index for trial in run.trials} | logs.logs.keys())
    trials = tuple(_trial(source, run.trial(i), logs, lost.get(i, ()), benchmark) for i in indices)
    sections: Sections = load(benchmark.report)
    contradictions, chain = integrity.contradictions(run, trials, logs, sections, benchmark.quality)
    return Results(
        run=identity,
        config=config,
        differences=_differences(config, benchmark.preset(benchmark.reference), source.missing),
        dataset=_without_list(source.mapping(run.manifest)),
        cache=_without_list(source.mapping(run.cache_record)),
        trials=trials,
        rules=evidence.rules(benchmark.name),
        logged=logs.logged,
        set_findings=logs.set_findings,
        contradictions=contradictions,
        chain=chain,
        score=logs.score,
        set_aside=tuple(sorted(p.name for p in run.root.glob("trial_*.aborted-*"))),
        missing=tuple(source.missing),
        benchmark=benchmark,
        notes=notes_of(run),
        samples=_samples(run, typical(trials)),
    )


def _trial(
    source: Source,
    trial: TrialDir,
    logs: evidence.Evidence,
    lost: tuple[LogFinding, ...],
    benchmark: Benchmark,
) -> Trial:
    """A trial from its folder; what only its log has left is taken from there."""
    if not trial.root.is_dir():
        source.missing.append(f"{trial.root.name}: folder not there, only its log")
        source = Source(source.root)
    log = logs.logs.get(trial.index)
    sections: Sections = load(benchmark.report)
    status = source.record(trial.status, sections.status, benchmark.quality.names)
    epochs, measured = sections.read(source, trial, logs.epochs.get(trial.index, ()))
    return Trial(
        index=trial.index,
        status=status,
        epochs=epochs,
        phases=source.records(trial.phases, Phase),
        cache_drop=source.record(trial.cache_drop, CacheDrop),
        system=source.mapping(trial.system),
        log=replace(log, findings=(*log.findings, *lost)) if log else None,
        load=_load(source, trial),
        limits=source.record(trial.limits, Limits) if trial.limits.exists() else None,
        measured=measured,
    )


def _load(source: Source, trial: TrialDir) -> Load | None:
    """What the trial and all else took of the machine while the clock ran."""
    samples, span = source.records(trial.machine, Sample), timed_span(trial.phases)
    return load_of(timed(samples, *span)) if span else None


def _samples(run: RunDir, trial: Trial | None) -> tuple[Sample, ...]:
    """What a trial's machine.jsonl holds; what is wrong with it was noted when it was read."""
    return Source(run.root).records(run.trial(trial.index).machine, Sample) if trial else ()


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
        own = configuration.record(type(reference), config)
    except ValueError as error:
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
