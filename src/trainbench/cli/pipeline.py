"""The five steps, each a call into the package that does its work.

The containers run one step each; ``trainbench pipeline`` runs all of them in one process tree.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from trainbench.configuration import to_json
from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.image_classification.config import imagenet
from trainbench.movielens import archive, datasets, split, synthetic
from trainbench.ncf.config import NcfConfig, reference
from trainbench.progress import log_line
from trainbench.trials.paths import DataDir, RunDir


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from when it is not its publisher."""

    mirror: str | None = None
    archive: Path | None = None
    sha256: str | None = None


def download(config: NcfConfig, data: DataDir, source: Source = Source()) -> None:
    """Fetch and verify, or generate, the dataset of ``config``."""
    dataset = datasets.dataset(config.dataset)
    if config.dataset == "synthetic":
        if config.synthetic is None:
            raise ConfigError(
                "dataset synthetic: its size is missing; add --set synthetic=USERSxITEMSxRATINGS"
            )
        synthetic.generate(config.synthetic, data)
        return
    archive.download(
        dataset, data, mirror=source.mirror, archive=source.archive, sha256=source.sha256
    )


def verify(config: NcfConfig, data: DataDir) -> None:
    """Compare the downloaded dataset with its manifest and its published checksums.

    Raises:
        DataIntegrityError: one comparison failed; all of them are printed.
    """
    checks = archive.verify(datasets.dataset(config.dataset), data)
    for check in checks:
        print(f"{'OK  ' if check.ok else 'FAIL'} {check.name}: {check.found}")
    if not all(check.ok for check in checks):
        raise DataIntegrityError(
            f"{data.raw(config.dataset)}: not the dataset {config.dataset}; delete the folder and "
            "run the download step again"
        )


def prepare(config: NcfConfig, data: DataDir) -> None:
    """Build the cache that training reads, unless a valid one is there."""
    split.run(config.split_spec, data)


def stitch(run: RunDir, *, dialect: str = "v05") -> None:
    """Stitch and check the compliance logs of every trial of ``run``."""
    from trainbench.compliance.stitch import stitch_run

    benchmark = benchmark_of(run)
    found = stitch_run(run, system=_system_name(run), dialect=dialect, benchmark=benchmark)
    for trial in found.trials:
        print(trial.summary, flush=True)
        for finding in (*trial.stitch, *trial.levels["2"]):
            log_line(f"trial {trial.index}: {finding}")
    log_line(f"stitched logs: {run.results(found.system, benchmark)}")


def report(
    run: RunDir,
    *,
    out: Path | None = None,
    compare: tuple[RunDir, ...] = (),
    summary: Path | None = None,
    host_data_dir: Path | None = None,
) -> int:
    """Write the report of ``run``, say where it is and return the verdict's exit code.

    Args:
        out: the report's folder; ``None`` is the run's own.
        compare: further runs, shown beside this one.
        host_data_dir: what the data volume is called outside this container, if it is one.
        summary: a file to which the Markdown page is appended (a CI service's step summary).
    """
    from trainbench.reporting.render import step_summary, write_report

    if benchmark_of(run) == "resnet":
        from trainbench.reporting.images import write_report as write_images_report

        files = write_images_report(run, out, reference=imagenet())
    else:
        files = write_report(run, out, reference=reference(), compare=compare)
    if summary is not None:
        with open(summary, "a") as page:
            page.write(step_summary(files.markdown.read_text()))
    shown = files.html
    if host_data_dir is not None and out is None:
        shown = host_data_dir / "runs" / run.root.name / run.report.name / files.html.name
    log_line(f"report: {shown}")
    return files.exit_code


def existing_run(path: Path) -> RunDir:
    """The run folder at ``path``; a ``MachineError`` says what is missing."""
    run = RunDir(path.resolve())
    if run.run_file.exists():
        return run
    raise MachineError(
        f"{path}: not a run folder (no run.json in it); run the train step first, or name one "
        "with --run"
    )


def plan(config: NcfConfig, data_dir: Path, *, runs: int) -> str:
    """What ``pipeline`` would do, in words."""
    data = DataDir(data_dir)
    free = shutil.disk_usage(next(p for p in data_dir.resolve().parents if p.exists())).free
    return "\n".join(
        [
            f"download    {config.dataset} -> {data.raw(config.dataset)}",
            f"preprocess  users with >= {config.min_ratings} ratings -> {data.caches}/<key>",
            f"train       {runs} trial(s), at most {config.max_epochs} epochs, to HR@10 "
            f"{config.target_hit_rate} -> {data.runs}/<run-id>/trial_<i>",
            f"stitch      -> {data.runs}/<run-id>/results/<system>/ncf/result_<i>.txt",
            f"report      -> {data.runs}/<run-id>/report/report.html",
            f"disk        {free / 2**30:.1f} GiB free",
            f"configuration\n{to_json(config)}",
        ]
    )


def benchmark_of(run: RunDir) -> str:
    """``resnet`` for a run of image classification, else ``ncf``."""
    if not run.run_file.exists():
        return "ncf"
    return str(json.loads(run.run_file.read_text()).get("benchmark", "ncf"))


def _system_name(run: RunDir) -> str:
    name: str = json.loads(run.run_file.read_text())["system_name"]
    return name
