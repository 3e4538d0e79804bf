"""The commands that make a run, made for each benchmark from its record."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from trainbench.benchmark import Benchmark, load
from trainbench.cli import pipeline
from trainbench.cli.options import (
    DATA_DIR,
    configured,
    needs,
    of_set,
    opened,
    resolved_config,
    source,
    trained,
    trial_options,
)
from trainbench.trials import notes, shared_set
from trainbench.trials.lock import locked
from trainbench.trials.paths import DataDir
from trainbench.trials.spec import SetSpec

_DEFER_VERDICT = click.option(
    "--defer-verdict",
    is_flag=True,
    help="Exit 0 even if the target is missed; the report gives the verdict.",
)


def commands(benchmark: Benchmark) -> list[click.Command]:
    """The steps of ``benchmark``, and all of them at once."""
    made = [_download(benchmark), _prepare(benchmark), _train(benchmark), _pipeline(benchmark)]
    return [*made, _generate(benchmark)] if benchmark.generate else made


def _download(benchmark: Benchmark) -> click.Command:
    @click.command("download", epilog=_example(benchmark, "download"))
    @configured(benchmark, "download", source=True)
    @click.option("--verify", is_flag=True, help="Only verify files that are already there.")
    def download(data_dir: Path, verify: bool, **options: Any) -> None:
        """Download and verify a dataset, or generate one."""
        config, data = resolved_config(benchmark, options), opened(data_dir)
        if verify:
            pipeline.verify(benchmark, config, data)
            return
        with locked(data, "download"):
            load(benchmark.download)(config, data, source(benchmark, options))

    return download


def _prepare(benchmark: Benchmark) -> click.Command:
    step = benchmark.prepare_step

    @click.command(step, epilog=_example(benchmark, step))
    @configured(benchmark, step)
    @needs(*benchmark.extras.get(step, ()))
    def prepare(data_dir: Path, **options: Any) -> None:
        """Build the cache that training reads."""
        config, data = resolved_config(benchmark, options), opened(data_dir)
        with locked(data, step):
            load(benchmark.prepare)(config, data)

    return prepare


def _train(benchmark: Benchmark) -> click.Command:
    @click.command("train", epilog=_example(benchmark, "train", "--runs 3"))
    @configured(benchmark, "train")
    @trained
    @of_set
    @_DEFER_VERDICT
    @needs(*benchmark.extras.get("train", ()))
    def train(data_dir: Path, defer_verdict: bool, **options: Any) -> None:
        """Train to the target, once or several times.

        --trial I --of N runs one trial of a set of N, for job arrays: each trial a process, on any
        machine that shares the data directory. The tasks of a Slurm step (srun -N2) train one model
        together (docs/slurm.md).
        """
        config, data = resolved_config(benchmark, options), opened(data_dir)
        spec = _set_spec(benchmark, config, data, options)
        pipeline.train(spec, defer_verdict=defer_verdict)

    return train


def _pipeline(benchmark: Benchmark) -> click.Command:
    @click.command("pipeline", epilog=_example(benchmark, "pipeline"))
    @configured(benchmark, "pipeline", source=True)
    @trained
    @click.option("--dry-run", is_flag=True, help="Print what would run and where.")
    def run_all(data_dir: Path, dry_run: bool, **options: Any) -> int:
        """All five steps in this process tree, without Docker or Popper."""
        config = resolved_config(benchmark, options)
        if dry_run:
            click.echo(pipeline.plan(benchmark, config, data_dir, runs=options["runs"]))
            return 0
        pipeline.require_extras(benchmark)
        data_dir.mkdir(parents=True, exist_ok=True)
        data = opened(data_dir)
        spec = _set_spec(benchmark, config, data, options, pipeline=True)
        return pipeline.run_all(spec, source(benchmark, options))[1]

    return run_all


def _generate(benchmark: Benchmark) -> click.Command:
    @click.command("generate")
    @DATA_DIR
    @click.option(
        "--timeout-s",
        type=click.FloatRange(1),
        default=600.0,
        help="Seconds to wait for a trainer.",
    )
    def generate(data_dir: Path, timeout_s: float) -> None:
        """Make the input of one trial, for a trainer that waits for it.

        The trainer is started with train --set generator=external, here or on another machine that
        shares the data directory, before or after. Either of them ends with the other.
        """
        load(benchmark.generate)(opened(data_dir), timeout_s)

    return generate


def _set_spec(
    benchmark: Benchmark,
    config: Any,
    data: DataDir,
    options: dict[str, Any],
    *,
    pipeline: bool = False,
) -> SetSpec:
    git = None
    if options["git_revision"]:
        git = {"revision": options["git_revision"], "dirty": options["git_dirty"]}
    said = notes.checked(options["note"], options["tags"])
    return SetSpec(
        benchmark=benchmark,
        config=config,
        data=data,
        runs=_number_of_trials(options),
        trial=options.get("trial"),
        into=options.get("into") or shared_set.NAME,
        seed=options["seed"],
        command=["trainbench", *sys.argv[1:]],
        drop_cache_location=options["drop_cache_location"],
        git=git,
        options=trial_options(benchmark, options),
        pipeline=pipeline,
        note=said.note,
        tags=said.tags,
    ).checked()


def _number_of_trials(options: dict[str, Any]) -> int:
    trial, of, runs = options.get("trial"), options.get("of"), int(options["runs"])
    if (trial is None) != (of is None):
        raise click.UsageError("--trial I and --of N belong together; give both, or --runs N")
    if of is None and options.get("into"):
        raise click.UsageError("--into names the set of --trial I --of N; give these, too")
    if of is not None and runs != 1:
        raise click.UsageError(f"--of {of} and --runs {runs}: wanted one of them")
    return runs if of is None else int(of)


def _example(benchmark: Benchmark, step: str, more: str = "") -> str:
    preset = f"--preset {next(iter(benchmark.presets))}"
    words = ("trainbench", benchmark.command, step, preset, more)
    return f"Example: {' '.join(word for word in words if word)}"
