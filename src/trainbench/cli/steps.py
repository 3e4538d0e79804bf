"""The commands that make a run: the five steps, all of them at once, and what they start."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainbench.cli import pipeline
from trainbench.cli.options import (
    DATA_DIR,
    DATASET,
    PRESET,
    SETTINGS,
    git_options,
    opened,
    resolved_config,
    source,
    source_options,
    train_options,
)
from trainbench.distribution.cluster import Cluster, from_tf_config
from trainbench.distribution.liveness import JOIN_TIMEOUT_S
from trainbench.errors import ConfigError
from trainbench.machine.page_cache import DROP_CACHES
from trainbench.ncf import config as configs
from trainbench.ncf.config import NcfConfig
from trainbench.trials.lock import locked
from trainbench.trials.paths import DataDir, RunDir

if TYPE_CHECKING:
    from trainbench.ncf.trial_set import SetSpec


@click.command("download")
@DATA_DIR
@DATASET
@PRESET
@SETTINGS
@source_options
@click.option("--verify", is_flag=True, help="Only verify files that are already there.")
def download_command(data_dir: Path, verify: bool, **options: Any) -> None:
    """Download and verify a dataset, or generate one."""
    config = resolved_config(options)
    data = opened(data_dir)
    if verify:
        pipeline.verify(config, data)
        return
    with locked(data, "download"):
        pipeline.download(config, data, source(options))


@click.command("preprocess")
@DATA_DIR
@DATASET
@PRESET
@SETTINGS
@click.option("--tie-break", type=click.Choice(configs.CHOICES["tie_break"]))
def preprocess_command(data_dir: Path, **options: Any) -> None:
    """Split the ratings and build the cache that training reads."""
    config = resolved_config(options)
    data = opened(data_dir)
    with locked(data, "preprocess"):
        pipeline.prepare(config, data)


@click.command("train")
@DATA_DIR
@DATASET
@PRESET
@SETTINGS
@train_options
@git_options
@click.option(
    "--defer-verdict",
    is_flag=True,
    help="Exit 0 even if the target is missed; the report gives the verdict.",
)
def train_command(data_dir: Path, defer_verdict: bool, **options: Any) -> None:
    """Train to the target, once or several times."""
    config = resolved_config(options)
    data = opened(data_dir)
    spec = _set_spec(config, data, options)
    if spec.cluster and not spec.cluster.is_chief:
        from trainbench.ncf.trial_set import work_for_chief

        work_for_chief(spec)
        return
    with locked(data, "train"):
        run = _train(spec)
        if not defer_verdict:
            _require_target(run)


@click.command("trial", hidden=True)
@DATA_DIR
@click.option("--run", "run_path", required=True, type=click.Path(path_type=Path))
@click.option("--index", required=True, type=int)
@click.option("--seed", required=True, type=int)
@click.option("--drop-cache-location", default=DROP_CACHES)
@click.option("--hash-pipeline", is_flag=True)
@click.option("--git", default="null")
@click.option("--profile", type=click.Path(path_type=Path))
@click.option("--cluster", default="")
@click.option("--join-timeout-s", type=float, default=JOIN_TIMEOUT_S)
def trial_command(data_dir: Path, run_path: Path, git: str, cluster: str, **options: Any) -> int:
    """One trial in a process of its own; started by train."""
    _prepare_child()
    from trainbench.ncf.trial import TrialSpec, run_trial

    options |= {"git": json.loads(git), "cluster": from_tf_config(cluster)}
    return run_trial(TrialSpec(RunDir(run_path), data=DataDir(data_dir), **options)).exit_code


@click.command("worker", hidden=True)
@DATA_DIR
@click.option("--config", "config_json", required=True)
@click.option("--seed", required=True, type=int)
@click.option("--log-file", required=True, type=click.Path(path_type=Path))
@click.option("--drop-cache-location", default=DROP_CACHES)
@click.option("--cluster", required=True)
@click.option("--join-timeout-s", type=float, default=JOIN_TIMEOUT_S)
def worker_command(data_dir: Path, config_json: str, cluster: str, **options: Any) -> None:
    """One machine's part in a trial of several; started by train."""
    _prepare_child()
    from trainbench.ncf.worker import WorkerSpec, run_worker

    found = from_tf_config(cluster)
    assert found
    config = configs.from_json(config_json)
    run_worker(WorkerSpec(config, found, data=DataDir(data_dir), **options))


def _prepare_child() -> None:
    from trainbench.trials.parent_watch import die_with_parent

    die_with_parent()
    # TensorFlow reads it when imported: its start-up notes would bury the progress lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@click.command("pipeline")
@DATA_DIR
@DATASET
@PRESET
@SETTINGS
@source_options
@train_options
@git_options
@click.option("--dry-run", is_flag=True, help="Print what would run and where.")
def pipeline_command(data_dir: Path, dry_run: bool, **options: Any) -> int:
    """All five steps in this process tree, without Docker or Popper."""
    config = resolved_config(options)
    if dry_run:
        click.echo(pipeline.plan(config, data_dir, runs=options["runs"]))
        return 0
    data_dir.mkdir(parents=True, exist_ok=True)
    data = opened(data_dir)
    spec = _set_spec(config, data, options)
    if spec.cluster:
        raise ConfigError(
            "TF_CONFIG names several machines: run download and preprocess on each, then train on "
            "each, then stitch and report on worker 0 (docs/multi_machine.md)"
        )
    with locked(data, "pipeline"):
        pipeline.download(config, data, source(options))
        pipeline.prepare(config, data)
        run = _train(spec)
        pipeline.stitch(run)
        return pipeline.report(run)


@click.command("evaluate")
@DATA_DIR
@DATASET
@PRESET
@SETTINGS
@click.option(
    "--weights",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The weights.npz or the model.keras of a trial.",
)
@click.option("--negatives", type=click.IntRange(1), default=999, show_default=True)
@click.option("--seed", envvar="SEED", type=click.IntRange(0), default=0, show_default=True)
def evaluate_command(
    data_dir: Path, weights: Path, negatives: int, seed: int, **options: Any
) -> None:
    """HR@10 and NDCG@10 of saved weights. He et al. 2017 (NeuMF) use 99 negatives."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from trainbench.ncf.evaluate import evaluate_saved

    config = resolved_config(options)
    data = opened(data_dir)
    found = evaluate_saved(config, data, weights, negatives=negatives, seed=seed)
    click.echo(
        f"hr@10 {found.hit_rate:.4f} ({found.hits} of {found.users})  ndcg@10 {found.ndcg:.4f}  "
        f"{negatives} negatives"
    )


@click.command(
    "cnn",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def cnn_command(context: click.Context) -> int:
    """Image classification: the flags and the output of tf_cnn_benchmarks."""
    from trainbench import cnn

    return cnn.main(context.args)


def _set_spec(config: NcfConfig, data: DataDir, options: dict[str, Any]) -> SetSpec:
    from trainbench.ncf.trial_set import SetSpec

    git = None
    if options["git_revision"]:
        git = {"revision": options["git_revision"], "dirty": options["git_dirty"]}
    cluster = from_tf_config(options["tf_config"])
    if cluster:
        _check_cluster(config, cluster, options["seed"])
    return SetSpec(
        config=config,
        data=data,
        runs=options["runs"],
        seed=options["seed"],
        command=["trainbench", *sys.argv[1:]],
        drop_cache_location=options["drop_cache_location"],
        hash_pipeline=options["hash_pipeline"],
        git=git,
        cluster=cluster,
        join_timeout_s=options["join_timeout_s"],
        profile=options["profile"],
    )


def _check_cluster(config: NcfConfig, cluster: Cluster, seed: int | None) -> None:
    if seed is None:
        raise ConfigError(
            "several machines train together: give each the same --seed, from which all of them "
            "draw the same samples"
        )
    if config.tpu or config.cpu_devices > 1:
        name = "tpu" if config.tpu else "cpu_devices"
        raise ConfigError(f"{name} is for one machine, and TF_CONFIG names several")
    if config.batch_size % cluster.num_workers:
        raise ConfigError(configs.indivisible(config.batch_size, cluster.num_workers))


def _train(spec: SetSpec) -> RunDir:
    from trainbench.ncf.trial_set import run_set

    return run_set(spec)


def _require_target(run: RunDir) -> None:
    from trainbench.trials.trial_set import require_target

    require_target(
        run,
        measure="HR@10",
        best="best_hit_rate",
        target="target_hit_rate",
        see="; see its epochs.jsonl",
    )
