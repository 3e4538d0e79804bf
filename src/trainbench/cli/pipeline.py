"""A run from download to report, each step a call into the package that does its work.

The containers run one step each; ``trainbench pipeline`` runs all of them in one process tree.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trainbench.benchmark import Benchmark, Source, load
from trainbench.cli.options import goal
from trainbench.configuration import to_json
from trainbench.distribution import slurm
from trainbench.errors import ConfigError, MachineError, TargetNotReachedError
from trainbench.files import damage_told, read_object
from trainbench.machine import extras
from trainbench.progress import log_line
from trainbench.trials import exports, shared_set, trial_set
from trainbench.trials.lock import locked, recorded, recorded_of, shared
from trainbench.trials.paths import DataDir, RunDir
from trainbench.trials.spec import SetSpec, benchmark_of


def verify(benchmark: Benchmark, config: Any, data: DataDir) -> None:
    """Compare what was downloaded with its manifest and its published checksums.

    Raises:
        ConfigError: the benchmark has no such step. DataIntegrityError: a comparison failed.
    """
    if not benchmark.verify:
        raise ConfigError(f"{benchmark.title}: --verify is not there; download verifies as well")
    load(benchmark.verify)(config, data)


def train(spec: SetSpec, *, defer_verdict: bool) -> None:
    """Run the trials of a set, or this machine's part in those of another.

    Raises:
        TargetNotReachedError: no trial reached the target, and no later report shall say so.
        TrainbenchError: every trial failed, and no later report shall say so; or the one trial of
            a shared set failed.
    """
    _require_alone(spec)
    if spec.benchmark.work and load(spec.benchmark.work)(spec):
        return
    if spec.trial is not None:
        with shared(spec.data):
            run = shared_set.run_one(spec)
            try:
                shared_set.require_target(run, spec)
            except TargetNotReachedError:
                # One that failed is told at once: to a job array its task is the exit code.
                if not defer_verdict:
                    raise
        return
    with locked(spec.data, "train"):
        run = trial_set.run_set(spec)
        out = exports.destination(exports.STITCHED)
        if out is not None:
            stitch_to(run, out)
        if not defer_verdict:
            trial_set.require_target(run, spec.benchmark.quality)


def _require_alone(spec: SetSpec) -> None:
    """Raise a ``ConfigError`` in a Slurm step of several tasks that cannot train together."""
    step = None if spec.benchmark.work else slurm.step_of(os.environ)
    if step is not None:
        raise ConfigError(
            f"{step}: {spec.benchmark.title} trains in one process, and these are {step.count} "
            "tasks; start it with srun -n1, or each trial by itself (train --trial I --of N)"
        )


def require_extras(benchmark: Benchmark) -> None:
    """Raise a ``MachineError`` unless every step of ``run_all`` has the packages that it needs."""
    extras.require(*(name for step in benchmark.extras.values() for name in step), *extras.REPORT)


def run_all(spec: SetSpec, source: Source) -> tuple[RunDir, int]:
    """All five steps; the run's folder and the verdict's exit code."""
    benchmark, config, data = spec.benchmark, spec.config, spec.data
    with locked(data, "pipeline") as whole:
        with recorded(data, "download"):
            load(benchmark.download)(config, data, source)
        with recorded(data, benchmark.prepare_step):
            load(benchmark.prepare)(config, data)
        with recorded(data, "train"):
            run = trial_set.run_set(spec)
        stitch(run, out=exports.destination(exports.STITCHED))
        whole.exit_code = report(run)
        return run, whole.exit_code


def stitch(
    run: RunDir, *, dialect: str = "v05", out: Path | None = None, incomplete: bool = False
) -> None:
    """Stitch and check the compliance logs of every trial of ``run``; of the only one also to out.

    Raises:
        ConfigError: ``out`` for several trials.
        DataIntegrityError: a shared set lacks trials, and ``incomplete`` does not say to go on.
    """
    if not incomplete:
        shared_set.require_complete(run)
    with recorded_of(run, "stitch"):
        _stitch(run, dialect)
        if out is not None:
            stitch_to(run, out)


def stitch_to(run: RunDir, out: Path) -> None:
    """Write the stitched log of the only trial of ``run`` to ``out`` and say the time."""
    from trainbench.compliance.stitch import stitch_trial

    if len(run.trials) != 1:
        raise ConfigError(f"{out}: one file for {len(run.trials)} trials; wanted a run of one")
    log_line(f"{out}: {stitch_trial(run.trials[0], out).summary}")


def _stitch(run: RunDir, dialect: str) -> None:
    from trainbench.compliance.stitch import stitch_run

    benchmark = benchmark_of(run).name
    with damage_told(run.run_file, "a run's record", "copy the run again"):
        system = str(read_object(run.run_file)["system_name"])
    found = stitch_run(run, system=system, dialect=dialect, benchmark=benchmark)
    for trial in found.trials:
        print(trial.summary, flush=True)
        for finding in (*trial.stitch, *trial.levels["2"]):
            log_line(f"trial {trial.index}: {finding}")
    for finding in found.set_findings:
        if finding.rule.startswith("stitch/"):
            log_line(f"run: {finding}")
    log_line(f"stitched logs: {run.results(found.system, benchmark)}")


def report(
    run: RunDir,
    *,
    out: Path | None = None,
    compare: tuple[RunDir, ...] = (),
    summary: Path | None = None,
    host_data_dir: Path | None = None,
    incomplete: bool = False,
) -> int:
    """Write the report of ``run``, say where it is and return the verdict's exit code.

    Args:
        out: the report's folder; ``None`` is the run's own.
        compare: further runs of the same benchmark, shown beside this one.
        host_data_dir: what the data volume is called outside this container, if it is one.
        summary: a file to which the Markdown page is appended (a CI service's step summary).
        incomplete: go on where a shared set lacks trials.

    Raises:
        DataIntegrityError: it lacks some, and nobody said to go on.
    """
    from trainbench.reporting.page.render import step_summary, write_report

    if not incomplete:
        shared_set.require_complete(run)
    with recorded_of(run, "report") as step:
        files = write_report(run, out, benchmark=benchmark_of(run), compare=compare)
        if summary is not None:
            _append(summary, step_summary(files.markdown.read_text(encoding="utf-8")))
        step.exit_code = files.exit_code
    for sentence in files.compliance:
        log_line(f"report: {sentence}")
    shown = files.html
    if host_data_dir is not None and out is None:
        shown = host_data_dir / "runs" / run.root.name / run.report.name / files.html.name
    log_line(f"report: {shown}")
    return files.exit_code


def export_scalars(runs: Iterable[RunDir], folder: Path) -> None:
    """Write what the trials of ``runs`` measured into ``folder``, for TensorBoard."""
    from trainbench.reporting.tensorboard import export

    for run in runs:
        for path in export(run, folder, benchmark=benchmark_of(run)):
            log_line(f"report: {path}")


def review(paths: Sequence[Path], *, out: Path, summary: Path | None = None) -> int:
    """Write the report of the logs that are in ``paths`` into ``out``; the verdict's exit code."""
    from trainbench.reporting.arrivals.write import write_review
    from trainbench.reporting.page.render import step_summary

    files = write_review(paths, out)
    if summary is not None:
        _append(summary, step_summary(files.markdown.read_text(encoding="utf-8")))
    log_line(f"report: {files.headline}")
    log_line(f"report: {files.html}")
    return files.exit_code


def _append(summary: Path, page: str) -> None:
    with open(summary, "a", encoding="utf-8", newline="\n") as file:
        file.write(page)


def is_run(path: Path) -> bool:
    """Whether ``path`` is the folder of a run, with or without its record."""
    run = RunDir(path)
    return run.run_file.is_file() or (path.is_dir() and bool(run.trials))


def existing_run(path: Path) -> RunDir:
    """The run folder at ``path``; a ``MachineError`` says what is missing."""
    run = RunDir(path.resolve())
    if run.run_file.exists():
        return run
    raise MachineError(
        f"{path}: not a run folder (no run.json in it); run the train step first, or name the "
        "folder of a run"
    )


def plan(benchmark: Benchmark, config: Any, data_dir: Path, *, runs: int) -> str:
    """What ``pipeline`` would do, in words."""
    data = DataDir(data_dir)
    free = shutil.disk_usage(next(p for p in data_dir.resolve().parents if p.exists())).free
    return "\n".join(
        [
            f"download    {benchmark.task(config)} -> {data.root}/raw",
            f"{benchmark.prepare_step:<11} -> {data.caches}/<key>",
            f"train       {runs} trial(s), at most {config.max_epochs} epochs, "
            f"{goal(benchmark, config)} -> {data.runs}/<run-id>/trial_<i>",
            f"stitch      -> {data.runs}/<run-id>/results/<system>/{benchmark.name}/result_<i>.txt",
            f"report      -> {data.runs}/<run-id>/report/report.html",
            f"disk        {free / 2**30:.1f} GiB free",
            f"configuration\n{to_json(config)}",
        ]
    )
