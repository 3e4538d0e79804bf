"""The reviewer's commands: stitch, report, check and score logs, wherever they come from."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from trainbench.benchmark import find
from trainbench.cli import pipeline, workflow
from trainbench.cli.options import (
    DATA_DIR,
    FILE,
    FOLDER,
    INCOMPLETE,
    RUN,
    Group,
    configured,
    needs,
    opened,
    resolved_config,
)
from trainbench.display.visible import one_line
from trainbench.errors import MachineError, NotCompliantError
from trainbench.machine import extras
from trainbench.trials.paths import DataDir, RunDir

_LOGS = click.argument("files", nargs=-1, required=True, type=FILE)
_CHECKER = click.option(
    "--checker",
    type=click.Choice(["2018-11", "2019-04"]),
    default="2019-04",
    help="Decide like this published version of the v0.5 checker.",
)
_TOOLS_CHECKER = click.option(
    "--checker",
    type=click.Choice(["2018-11", "2019-04"]),
    default="2018-11",
    help="Read logs like this version of the v0.5 checker. 2018-11 is the submission tool's.",
)


@click.command("stitch")
@DATA_DIR
@RUN
@click.option(
    "--dialect",
    type=click.Choice(["v05", "mllog"]),
    default="v05",
    help="mllog: also write the log in the format of MLPerf 0.7 and later.",
)
@click.option(
    "--log",
    "logs",
    multiple=True,
    envvar="COMPLIANCE_FILE",
    type=FILE,
    help="Stitch this raw log instead of a run; repeatable.",
)
@click.option(
    "--out",
    envvar="STITCHED_COMPLIANCE_FILE",
    type=FILE,
    help="Write what --log gives, or the log of a run of one trial, to this file. "
    "Default for --log: standard output.",
)
@INCOMPLETE
def stitch(
    data_dir: Path,
    run_path: Path | None,
    dialect: str,
    logs: tuple[Path, ...],
    out: Path | None,
    incomplete: bool,
) -> None:
    """Stitch the compliance logs of a run and check them."""
    if logs and run_path is None:
        _stitch_logs(logs, out)
        return
    if dialect == "mllog":
        extras.require("mlperf_logging")
    run = pipeline.existing_run(run_path or DataDir(data_dir).latest)
    pipeline.stitch(run, dialect=dialect, out=out, incomplete=incomplete)


def _stitch_logs(logs: tuple[Path, ...], out: Path | None) -> None:
    from trainbench.compliance.stitch import stitch_files

    result = stitch_files(logs, out)
    if out is None:
        # Bytes pass as they are, to a file or a pipe; a terminal gets what it can show.
        text = result.text if sys.stdout.isatty() else result.text.encode()
        click.echo(text, nl=False)
    for finding in result.findings:
        click.echo(one_line(str(finding)), err=True)
    click.echo(result.summary, err=out is None)


@click.command("report")
@click.argument(
    "paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path, exists=True)
)
@DATA_DIR
@click.option(
    "--run",
    "run_paths",
    multiple=True,
    type=FOLDER,
    help="The run's folder (default: the newest); more than one are compared.",
)
@click.option(
    "--out",
    type=FOLDER,
    help="Write the report into this folder. Default: the run's own; of logs, ./report.",
)
@click.option(
    "--summary",
    envvar="GITHUB_STEP_SUMMARY",
    type=click.Path(path_type=Path),
    help="Append the Markdown page to this file, as CI services read it.",
)
@click.option(
    "--tensorboard",
    type=FOLDER,
    help="Also write what the trials measured into this folder, as scalars for TensorBoard.",
)
@click.option(
    "--host-data-dir",
    envvar="TRAINBENCH_HOST_DATA_DIR",
    type=click.Path(path_type=Path),
    hidden=True,
)
@INCOMPLETE
@needs(*extras.REPORT)
def report(
    paths: tuple[Path, ...],
    data_dir: Path,
    run_paths: tuple[Path, ...],
    out: Path | None,
    summary: Path | None,
    tensorboard: Path | None,
    host_data_dir: Path | None,
    incomplete: bool,
) -> int:
    """Write the report of a run, or of the logs in PATH...; the exit code is the verdict.

    PATH is a run's folder, or whatever logs arrive in: a folder, a log, plain or compressed, a zip
    or tar archive, of any submitters and benchmarks of v0.5. Their exit code: 3 a log cannot be
    read, 5 one breaks level 2, 4 a set of runs did not reach its target. Stitched logs of a run
    alone (results/<system>/<benchmark>/result_<i>.txt) are enough for --run.
    """
    if paths and run_paths:
        raise click.UsageError("PATH and --run both name what the report is of; leave one out")
    if tensorboard is not None:
        extras.require("tensorboardX")
    if paths and not all(map(pipeline.is_run, paths)):
        if tensorboard is not None:
            raise click.UsageError("--tensorboard: PATH has logs alone; name the folder of a run")
        return pipeline.review(paths, out=out or Path("report"), summary=summary)
    chosen = paths or run_paths or (DataDir(data_dir).latest,)
    first, *others = [RunDir(path.resolve()) for path in chosen]
    code = pipeline.report(
        first,
        out=out,
        compare=tuple(others),
        summary=summary,
        host_data_dir=host_data_dir,
        incomplete=incomplete,
    )
    if tensorboard is not None:
        pipeline.export_scalars((first, *others), tensorboard)
    return code


@click.command("check")
@_LOGS
@click.option(
    "--level",
    type=click.Choice(["1", "2", "strict"]),
    default="2",
    help="1, 2: as the v0.5 checker. strict: also values, order and several logs together.",
)
@_CHECKER
@click.option("--benchmark", help="Check level 2 for this benchmark, whatever the first line says.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(
    files: tuple[Path, ...], level: str, checker: str, benchmark: str | None, as_json: bool
) -> int:
    """Check compliance logs. Exit code 0: clean, 1: findings, 2: a file could not be read."""
    from trainbench.compliance.commands import check_logs

    report = check_logs(files, level=level, checker=checker, benchmark=benchmark)
    click.echo(report.to_json() if as_json else report.to_text(), nl=False)
    return report.exit_code


@click.command("score")
@click.argument("folder", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print the score as JSON.")
@click.option(
    "--order",
    type=click.Choice(["run_start", "index"]),
    default="run_start",
    help="Order that decides which 50 converged runs of NCF are the first.",
)
@click.option("--legacy-reference", is_flag=True, help="Compare with 2,803 s, from May 2018.")
@_TOOLS_CHECKER
@click.option(
    "--ruleset",
    metavar="ROUND",
    help="Of logs of MLPerf 0.6 and later: score by these rules, for example 1.0.0. Default: those "
    "of the first round that was published after the runs.",
)
def score(
    folder: Path,
    as_json: bool,
    order: str,
    legacy_reference: bool,
    checker: str,
    ruleset: str | None,
) -> None:
    """The statistic of a folder of result_*.txt by v0.5, and why a log does not count.

    The rules require 100 runs of NCF and 5 of ResNet; the logs name the benchmark. Logs of MLPerf
    0.6 and later are scored by mlperf-logging.
    """
    from trainbench.compliance import score as scoring
    from trainbench.compliance import score_text

    result = scoring.score(folder, order=order, checker=checker, rules=ruleset)
    render = score_text.to_json if as_json else score_text.to_text
    reference = scoring.LEGACY_REFERENCE if legacy_reference else None
    click.echo(render(result, reference=reference), nl=False)


@click.group("submission", cls=Group)
def submission() -> None:
    """Build or verify the v0.5 submission folder."""


@submission.command("verify", epilog="Example: trainbench submission verify my-submission")
@click.argument("folder", type=FOLDER)
@_TOOLS_CHECKER
def submission_verify(folder: Path, checker: str) -> None:
    """Verify a submission folder as the v0.5 tool does, with an exit code. Exit 5: findings."""
    from trainbench.compliance.submission.verify import verify

    verification = verify(folder, checker=checker)
    click.echo(verification.to_text(), nl=False)
    if verification.findings:
        raise NotCompliantError(f"{folder}: {len(verification.findings)} findings")


@submission.command(
    "build",
    epilog="Example: trainbench submission build --run data/runs/latest --out my-submission "
    "--org my-organisation --email me@example.org",
)
@click.option("--run", "run_path", required=True, type=FOLDER, help="The folder of a stitched run.")
@click.option("--out", required=True, type=FOLDER, help="The new folder of the submission.")
@click.option("--org", required=True, help="The submitter's organisation.")
@click.option("--email", required=True, help="Contact e-mail.")
@click.option(
    "--division",
    type=click.Choice(["closed", "open"]),
    default="closed",
    help="Closed wants logs of level 2, open of level 1.",
)
@click.option(
    "--status",
    default="on-premise",
    help="How the system can be had: on-premise, cloud, preview, research.",
)
def submission_build(
    run_path: Path, out: Path, org: str, email: str, division: str, status: str
) -> None:
    """Build the submission folder of a stitched run."""
    from trainbench.compliance.submission.build import Submitter, build, stitched_system
    from trainbench.trials.paths import RunDir

    run = RunDir(run_path.resolve())
    submitter = Submitter(org, email, division, status)
    with workflow.checkout() as code:
        build(run, out, system=stitched_system(run), submitter=submitter, code=code)
    click.echo(f"{out}: built; verify it with: trainbench submission verify {out}")


_NCF = find("ncf")


@click.command("evaluate")
@configured(_NCF, "evaluate")
@click.option(
    "--weights", required=True, type=FILE, help="The weights.npz or the model.keras of a trial."
)
@click.option(
    "--negatives",
    type=click.IntRange(10),
    default=999,
    help="Of each user; 99 is the protocol of the NeuMF paper.",
)
@click.option(
    "--seed",
    envvar="SEED",
    type=click.IntRange(0),
    default=0,
    help="Of the candidates; the one of a trial draws the trial's own.",
)
@needs(*_NCF.extras["train"])
def evaluate(data_dir: Path, weights: Path, negatives: int, seed: int, **options: Any) -> None:
    """HR@10 and NDCG@10 of saved weights of NCF. He et al. 2017 (NeuMF) use 99 negatives."""
    if not weights.is_file():
        wanted = "wanted the weights.npz or the model.keras of a trial"
        raise MachineError(f"{weights}: no such file; {wanted}")
    config, data = resolved_config(_NCF, options), opened(data_dir)
    # Only now: TensorFlow takes seconds to import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from trainbench.ncf.evaluation.saved import evaluate_saved

    found = evaluate_saved(config, data, weights, negatives=negatives, seed=seed)
    click.echo(
        f"hr@10 {found.hit_rate:.4f} ({found.hits} of {found.users})  ndcg@10 {found.ndcg:.4f}  "
        f"{negatives} negatives"
    )
