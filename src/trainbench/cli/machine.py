"""The commands about this machine: what it lacks, how fast it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from trainbench.cli.options import DATA_DIR, Group, needs
from trainbench.ncf import config as configs

# As in bench/scale.py, which is imported only when it runs.
SCALE_STEPS = ("download", "preprocess", "candidates", "epoch", "train")


@click.command("doctor")
@DATA_DIR
def doctor(data_dir: Path) -> int:
    """List what this machine lacks: one line per requirement, with its fix."""
    from trainbench.machine import doctor as requirements

    return requirements.run(data_dir)


@click.group("bench", cls=Group)
def bench() -> None:
    """Throughput tables of this machine, for comparing code: not a benchmark result."""


@bench.command("data", epilog="Example: trainbench bench data --ratings-millions 1")
@click.option(
    "--ratings-millions",
    "millions",
    multiple=True,
    type=click.IntRange(1, 1000),
    help="Millions of ratings; repeatable.",
)
@click.option("--workers", default=2, type=click.IntRange(1), help="Threads that draw negatives.")
@click.option(
    "--repeats", default=3, type=click.IntRange(1), help="Times of which the median is shown."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Write epochs below this folder. Default: the temporary one.",
)
def bench_data(millions: tuple[int, ...], workers: int, repeats: int, folder: Path | None) -> None:
    """Time NCF's input (negatives, shuffle, writing) for 1 M to 100 M ratings."""
    from trainbench.bench import data

    sizes = [n * 1_000_000 for n in millions] or data.SIZES
    data.run(sizes, workers=workers, repeats=repeats, folder=folder)


def compared(command: Any) -> Any:
    """Give a table of ours what its comparison with other frameworks needs."""
    options = (
        click.option(
            "--peers",
            is_flag=True,
            help="Measure PyTorch, Keras and plain TensorFlow in turn with ours instead: minutes.",
        ),
        click.option("--without-torch", is_flag=True, help="With --peers: leave PyTorch out."),
        click.option(
            "--forms",
            default="",
            help="With --peers: beside ours, measure only the forms whose name contains this.",
        ),
        click.option("--json", "as_json", is_flag=True, help="With --peers: print JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _only_with_peers(*, as_json: bool, **options: object) -> None:
    for name, given in {**options, "json": as_json}.items():
        if given:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --peers; add it")


def _measure_peers(
    rows: Any,
    names: Sequence[str],
    repeats: int,
    *,
    without_torch: bool,
    forms: str,
    as_json: bool,
) -> None:
    from trainbench.bench.peers import table

    left_out = ("torch",) if without_torch else ()
    table.run(rows, names=names, repeats=repeats, without=left_out, forms=forms, as_json=as_json)


@bench.command(
    "ncf",
    epilog="Example: trainbench bench ncf --repeats 3; "
    "trainbench bench ncf --peers --only 'ml-1m 2,048'",
)
@click.option("--only", default="", help="Time the rows whose name contains this.")
@click.option(
    "--repeats", default=5, type=click.IntRange(1), help="Times of which the median is shown."
)
@click.option(
    "--devices",
    default="auto",
    type=click.Choice(configs.CHOICES["devices"]),
    help="Where to compute; peers are measured on the CPU.",
)
@compared
@needs("tensorflow")
def bench_ncf(only: str, repeats: int, devices: str, peers: bool, **compared: Any) -> None:
    """Time NCF's training and evaluation against a plain form of the same computation."""
    # TensorFlow reads it when imported: its start-up notes would bury the table.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if peers:
        from trainbench.bench.peers import ncf_rows

        if devices not in ("auto", "cpu"):
            raise click.UsageError(f"--peers measures on the CPU; leave out --devices {devices}")
        _measure_peers(ncf_rows.rows(), (only,) if only else (), repeats, **compared)
        return
    _only_with_peers(**compared)
    from trainbench.bench import ncf

    ncf.run(repeats=repeats, only=only, devices=devices)


class Sizes(click.ParamType[list[int]]):
    """Numbers with K, M or G behind them, with commas between: ``1M,10M,1.2G``; or ``none``."""

    name = "sizes"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        """The whole numbers, or a usage error."""
        if isinstance(value, list):
            return value
        if value == "none":
            return []
        factors = {"K": 10**3, "M": 10**6, "G": 10**9}
        try:
            parts = [part.strip().upper() for part in value.split(",")]
            return [
                round(Decimal(part.rstrip("KMG")) * factors.get(part[-1:], 1)) for part in parts
            ]
        except (InvalidOperation, ValueError, OverflowError):
            self.fail(f"{value!r}: wanted numbers such as 500K,1M,1.2G", param, ctx)


MOST_WORKERS = 64


class WorkerCount(click.ParamType[int]):
    """A number of workers, or ``cores``: as many as there are physical cores."""

    name = "workers"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """The number, 2 to 64, or a usage error."""
        if value == "cores":
            from trainbench.machine import allotment

            value = allotment.cores()
            if value < 2:
                self.fail("cores: there is one alone; wanted a number: 2 share it", param, ctx)
            if value > MOST_WORKERS:
                told = f"cores: there are {value}; wanted a number, at most {MOST_WORKERS}"
                self.fail(told, param, ctx)
        return click.IntRange(2, MOST_WORKERS).convert(value, param, ctx)


@bench.command(
    "scale",
    epilog="Example: trainbench bench scale --pairs 1M,10M --json; "
    "trainbench bench scale --workers cores",
)
@click.option(
    "--pairs",
    type=Sizes(),
    default="1M,10M,60M",
    show_default=True,
    help="Training pairs of each size; none: of --full alone.",
)
@click.option(
    "--full",
    is_flag=True,
    help="Also expand ratings as ml-20mx16x32: 1.34 billion pairs, 50 GB, hours.",
)
@click.option(
    "--step",
    "steps",
    multiple=True,
    type=click.Choice(SCALE_STEPS),
    help="Show this step alone; repeatable. Those before it run too.",
)
@click.option(
    "--train-steps",
    default=16,
    show_default=True,
    type=click.IntRange(1),
    help="Training steps of the last row.",
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change one field of what is trained, as precision=bf16; repeatable.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Write the data below this folder. Default: the temporary one.",
)
@click.option(
    "--workers",
    type=WorkerCount(),
    help="Measure so many workers, a core each, against one with one core instead; "
    "cores: as many as there are physical ones.",
)
@click.option(
    "--batch",
    "batches",
    multiple=True,
    default=(65_536, 2_048),
    show_default=True,
    type=click.IntRange(2),
    help="With --workers: samples of a step; repeatable.",
)
@click.option(
    "--repeats",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="With --workers: times of which the median is shown.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
@needs("tensorflow")
def bench_scale(ctx: click.Context, workers: int | None, as_json: bool, **options: Any) -> None:
    """Measure what growth costs: each step of the pipeline by ratings, or training by workers."""
    of_workers = ("batches", "repeats")
    flags = {option.name: option.opts[0].lstrip("-") for option in ctx.command.params}
    for name in options:
        given = ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        if given and (name in of_workers) != (workers is not None):
            raise click.UsageError(
                f"--{flags[name]} needs --workers; add it"
                if name in of_workers
                else f"--workers measures no pipeline; leave out --{flags[name]}"
            )
    if workers is not None:
        from trainbench.bench import workers as bench_workers

        chosen = {name: options[name] for name in of_workers}
        bench_workers.run(workers, **chosen, as_json=as_json)
        return
    from trainbench.bench import scale

    if not (options["pairs"] or options["full"]):
        raise click.UsageError("--pairs none leaves nothing to measure; add --full")
    scale.run(
        options["pairs"],
        full=options["full"],
        steps=options["steps"] or scale.STEPS,
        train_steps=options["train_steps"],
        settings=options["settings"],
        folder=options["folder"],
        as_json=as_json,
    )


@bench.command(
    "all-reduce",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    epilog="Example: trainbench bench all-reduce --model=resnet50 --num_gpus=2 --device=cpu",
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
@needs("absl", "tensorflow")
def bench_all_reduce(flags: tuple[str, ...]) -> None:
    """Time the reduction of a model's gradients; takes the flags of trainbench cnn."""
    from trainbench.cnn import environment
    from trainbench.cnn.flags import arguments

    parsed = arguments.parse(flags)
    if parsed.help is not None:
        click.echo(parsed.help)
        return
    params = parsed.params
    environment.set_variables(environment.variables(params), given=params.changed())
    # Only now: TensorFlow reads the environment when it is imported.
    from trainbench.bench import all_reduce

    all_reduce.run(params)


@bench.command(
    "cnn",
    epilog="Example: trainbench bench cnn; trainbench bench cnn --peers 'training fp32'",
)
@click.argument("rows", nargs=-1)
@click.option("--repeats", default=5, type=click.IntRange(1), help="With --peers: rounds.")
@compared
@needs("absl", "tensorflow")
def bench_cnn(rows: tuple[str, ...], repeats: int, peers: bool, **compared: Any) -> None:
    """Time training against stock Keras, and the overhead of trainbench cnn per step.

    ROWS are parts of the names of rows; all are measured without any.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if peers:
        from trainbench.bench.peers import cnn_rows

        _measure_peers(cnn_rows.rows(), rows, repeats, **compared)
        return
    _only_with_peers(**compared)
    from trainbench.bench import cnn

    cnn.run(rows)


@click.command(
    "cnn",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
@needs("absl", "tensorflow")
def cnn(context: click.Context) -> int:
    """Image classification: the flags and the output of tf_cnn_benchmarks."""
    from trainbench.cnn.entry import main

    return main(context.args)
