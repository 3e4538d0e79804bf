"""Options that several commands share, and what they mean together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from trainbench.cli import pipeline
from trainbench.distribution.liveness import JOIN_TIMEOUT_S
from trainbench.machine.page_cache import DROP_CACHES
from trainbench.machine.system import nvidia_gpus
from trainbench.movielens import datasets
from trainbench.ncf import config as configs
from trainbench.ncf.config import NcfConfig
from trainbench.progress import log_line
from trainbench.trials.paths import DataDir

Command = Callable[..., Any]

DATA_DIR = click.option(
    "--data-dir",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TRAINBENCH_DATA_DIR",
    default=Path("data"),
    show_default=True,
    help="The data directory.",
)
DATASET = click.option("--dataset", help="Use this dataset instead of the preset's.")
PRESET = click.option(
    "--preset",
    envvar="PRESET",
    help=f"{', '.join(configs.PRESETS)}. Default: mlperf with a usable GPU, else quick.",
)
SETTINGS = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    envvar="TRAINBENCH_SET",
    help="Change one field of the configuration; repeatable.",
)
RUN = click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path, file_okay=False),
    help="The run's folder. Default: the newest run in the data directory.",
)


def source_options(command: Command) -> Command:
    """Where a dataset comes from."""
    for option in (
        click.option("--sha256", envvar="SHA256", help="Checksum of a mirror's own archive."),
        click.option(
            "--archive",
            "archive_path",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Use this archive instead of downloading.",
        ),
        click.option("--mirror", envvar="MIRROR", help="URL (http, https, file) of a mirror."),
    ):
        command = option(command)
    return command


def train_options(command: Command) -> Command:
    """What decides how a set of trials runs."""
    for option in (
        click.option("--runs", envvar="RUNS", default=1, type=click.IntRange(1), show_default=True),
        click.option("--seed", envvar="SEED", type=click.IntRange(0), help="Seed; repeats a run."),
        click.option("--require-gpu/--no-require-gpu", envvar="REQUIRE_GPU", default=False),
        click.option("--drop-caches/--no-drop-caches", envvar="DROP_CACHES", default=True),
        click.option(
            "--drop-cache-location",
            envvar="DROP_CACHE_LOC",
            default=DROP_CACHES,
            show_default=True,
            help="The file to which 3 is written to drop the page cache.",
        ),
        click.option("--hash-pipeline", is_flag=True, help="Print each epoch's input hashes."),
        click.option(
            "--profile",
            type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
            help="Trace some steps of the first epoch into this folder, for TensorBoard.",
        ),
        click.option("--deterministic/--no-deterministic", default=None, help="Bit-equal repeats."),
        click.option("--tpu", help="Train on the TPU of this name (untested)."),
        click.option(
            "--xla/--no-xla",
            "--use_xla_for_gpu/--nouse_xla_for_gpu",
            "xla",
            default=None,
            help="Compile the step with XLA, or run it op by op. Default: compile.",
        ),
        click.option(
            "--tf-config",
            envvar="TF_CONFIG",
            default="",
            help="JSON that names the machines of the run (docs/multi_machine.md).",
        ),
        click.option(
            "--join-timeout-s",
            default=JOIN_TIMEOUT_S,
            show_default=True,
            type=click.FloatRange(1),
            help="Seconds to wait for the other machines of the run.",
        ),
        *(
            click.option(f"--{key.replace('_', '-')}", key, type=click.Choice(configs.CHOICES[key]))
            for key in ("tie_break", "devices", "precision", "optimizer", "division")
        ),
    ):
        command = option(command)
    return command


def git_options(command: Command) -> Command:
    """Git state of the checkout, which settings.py passes in: containers cannot see it."""
    for option in (
        click.option("--git-revision", envvar="TRAINBENCH_GIT_REVISION", hidden=True),
        click.option("--git-dirty", envvar="TRAINBENCH_GIT_DIRTY", type=bool, hidden=True),
    ):
        command = option(command)
    return command


def resolved_config(options: dict[str, Any]) -> NcfConfig:
    """The configuration that the options of a command ask for."""
    name = options["preset"] or _default_preset(options["dataset"])
    settings = list(options["settings"])
    for key in configs.CHOICES:
        if options.get(key):
            settings.append(f"{key}={options[key]}")
    for key in ("tpu", "xla", "deterministic"):
        if options.get(key) is not None:
            settings.append(f"{key}={options[key]}")
    if options["dataset"]:
        settings.append(f"dataset={options['dataset']}")
    if options.get("require_gpu"):
        settings.append("devices=gpu")
    if not options.get("drop_caches", True):
        settings.append("drop_caches=false")
    config = configs.with_settings(configs.preset(name), settings)
    datasets.dataset(config.dataset)  # An unknown one ends here, before any work.
    log_line(f"preset {name}: {config.dataset} to HR@10 {config.target_hit_rate}")
    return config


def _default_preset(dataset: str | None) -> str:
    if dataset:
        return configs.preset_of(dataset)
    return "mlperf" if nvidia_gpus() else "quick"


def opened(data_dir: Path) -> DataDir:
    """The data directory by its absolute path."""
    return DataDir(data_dir.resolve())


def source(options: dict[str, Any]) -> pipeline.Source:
    """The source that the options of a command name."""
    return pipeline.Source(options["mirror"], options["archive_path"], options["sha256"])
