"""The commands about this machine: what it lacks, how fast it is."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("doctor")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TRAINBENCH_DATA_DIR",
    default=Path("data"),
    show_default=True,
    help="The data volume.",
)
def doctor(data_dir: Path) -> int:
    """Say what this machine lacks: one line per requirement with its fix."""
    from trainbench import doctor as requirements

    return requirements.run(data_dir)


@click.group("bench")
def bench() -> None:
    """Throughput tables of this machine, for comparing code: not a benchmark result."""


@bench.command("data")
@click.option("--ratings-millions", "millions", multiple=True, type=click.IntRange(1, 1000))
@click.option("--workers", default=2, type=click.IntRange(1), show_default=True)
@click.option("--repeats", default=3, type=click.IntRange(1), show_default=True)
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
def bench_data(millions: tuple[int, ...], workers: int, repeats: int, folder: Path | None) -> None:
    """What the input costs: negatives, shuffle, write; 1 M to 100 M ratings."""
    from trainbench.bench import data

    sizes = [n * 1_000_000 for n in millions] or data.SIZES
    data.run(sizes, workers=workers, repeats=repeats, folder=folder)
