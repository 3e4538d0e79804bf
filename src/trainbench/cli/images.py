"""``trainbench images``: the steps of the image classification workflow."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from trainbench.cli import pipeline
from trainbench.cli.options import DATA_DIR, SETTINGS, git_options, opened
from trainbench.image_classification import config as configs
from trainbench.image_classification.config import ImagesConfig
from trainbench.machine.page_cache import DROP_CACHES
from trainbench.progress import log_line
from trainbench.trials.lock import locked
from trainbench.trials.paths import DataDir, RunDir

_PRESET = click.option(
    "--preset", envvar="PRESET", default="quick", show_default=True, help=", ".join(configs.PRESETS)
)
_MIRROR = click.option(
    "--mirror",
    envvar="MIRROR",
    help="URL or folder of the archive; ImageNet's TFRecords.",
)
_SHA256 = click.option("--sha256", envvar="SHA256", help="Checksum of a mirror's own archive.")
_RUNS = click.option("--runs", envvar="RUNS", default=1, type=click.IntRange(1), show_default=True)
_SEED = click.option("--seed", envvar="SEED", type=click.IntRange(0), help="Seed; repeats a run.")
_REQUIRE_GPU = click.option("--require-gpu/--no-require-gpu", envvar="REQUIRE_GPU", default=False)
_DROP = click.option("--drop-caches/--no-drop-caches", envvar="DROP_CACHES", default=True)
_DROP_LOCATION = click.option(
    "--drop-cache-location", envvar="DROP_CACHE_LOC", default=DROP_CACHES, show_default=True
)


@click.group("images", epilog="Example: trainbench images pipeline --preset quick")
def images() -> None:
    """Image classification to a target: download, convert, train (then stitch and report)."""


@images.command("download", epilog="Example: trainbench images download --preset cifar10")
@DATA_DIR
@_PRESET
@SETTINGS
@_MIRROR
@_SHA256
def download_command(
    data_dir: Path, mirror: str | None, sha256: str | None, **options: Any
) -> None:
    """Download and verify the images, or generate them."""
    from trainbench.image_classification.source import download

    config, data = _resolved(options), opened(data_dir)
    with locked(data, "download"):
        download(config, data, mirror=mirror, sha256=sha256)


@images.command("convert", epilog="Example: trainbench images convert --preset cifar10")
@DATA_DIR
@_PRESET
@SETTINGS
def convert_command(data_dir: Path, **options: Any) -> None:
    """Build the arrays that training reads."""
    config, data = _resolved(options), opened(data_dir)
    from trainbench.image_classification.convert import convert

    with locked(data, "convert"):
        convert(config, data)


def _training(command: Any) -> Any:
    for option in (_RUNS, _SEED, _REQUIRE_GPU, _DROP, _DROP_LOCATION):
        command = option(command)
    return git_options(command)


@images.command("train", epilog="Example: trainbench images train --preset quick --runs 5")
@DATA_DIR
@_PRESET
@SETTINGS
@_training
@click.option(
    "--defer-verdict",
    is_flag=True,
    help="Exit 0 even if the target is missed; the report gives the verdict.",
)
def train_command(data_dir: Path, defer_verdict: bool, **options: Any) -> None:
    """Train to the target, once or several times."""
    from trainbench.image_classification.trial_set import require_target

    config, data = _resolved(options), opened(data_dir)
    with locked(data, "train"):
        run = _train(config, data, options)
        if not defer_verdict:
            require_target(run)


@images.command("trial", hidden=True)
@DATA_DIR
@click.option("--run", "run_path", required=True, type=click.Path(path_type=Path))
@click.option("--index", required=True, type=int)
@click.option("--seed", required=True, type=int)
@_DROP_LOCATION
@click.option("--git", default="null")
def trial_command(data_dir: Path, run_path: Path, git: str, **options: Any) -> int:
    """One trial in a process of its own; started by train."""
    from trainbench.trials.parent_watch import die_with_parent

    die_with_parent()
    # TensorFlow reads them when imported: its start-up notes would bury the progress lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    from trainbench.image_classification.trial import TrialSpec, run_trial

    spec = TrialSpec(RunDir(run_path), data=DataDir(data_dir), git=json.loads(git), **options)
    return run_trial(spec).exit_code


@images.command("pipeline", epilog="Example: trainbench images pipeline --preset quick")
@DATA_DIR
@_PRESET
@SETTINGS
@_MIRROR
@_SHA256
@_training
def pipeline_command(data_dir: Path, mirror: str | None, sha256: str | None, **options: Any) -> int:
    """All five steps in this process tree, without Docker or Popper."""
    from trainbench.image_classification.convert import convert
    from trainbench.image_classification.source import download

    config = _resolved(options)
    data_dir.mkdir(parents=True, exist_ok=True)
    data = opened(data_dir)
    with locked(data, "pipeline"):
        download(config, data, mirror=mirror, sha256=sha256)
        convert(config, data)
        run = _train(config, data, options)
        pipeline.stitch(run)
        return pipeline.report(run)


def _resolved(options: dict[str, Any]) -> ImagesConfig:
    settings = list(options["settings"])
    if options.get("require_gpu"):
        settings.append("device=gpu")
    if not options.get("drop_caches", True):
        settings.append("drop_caches=false")
    config = configs.with_settings(configs.preset(options["preset"]), settings)
    log_line(f"preset {config.preset}: {config.model} on {config.dataset} to {config.target_top_1}")
    return config


def _train(config: ImagesConfig, data: DataDir, options: dict[str, Any]) -> RunDir:
    from trainbench.image_classification.trial_set import SetSpec, run_set

    git = None
    if options["git_revision"]:
        git = {"revision": options["git_revision"], "dirty": options["git_dirty"]}
    return run_set(
        SetSpec(
            config=config,
            data=data,
            runs=options["runs"],
            seed=options["seed"],
            command=["trainbench", *sys.argv[1:]],
            drop_cache_location=options["drop_cache_location"],
            git=git,
        )
    )
