"""The commands that look at a trial a second time: prove, replay."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trainbench.benchmark import load
from trainbench.cli.options import FOLDER, opened
from trainbench.cli.pipeline import existing_run
from trainbench.errors import ConfigError, MachineError, NotCompliantError
from trainbench.machine import extras
from trainbench.progress import log_line
from trainbench.trials import replay as trial_replay
from trainbench.trials.lock import locked, recorded_of
from trainbench.trials.paths import DataDir, RunDir, TrialDir
from trainbench.trials.spec import benchmark_of

_RUN = click.argument("run_path", metavar="RUN", type=FOLDER)


@click.command("prove")
@_RUN
@click.option("--trial", "index", type=click.IntRange(0), help="This trial. Default: all of them.")
@click.option(
    "--data-dir",
    "data_dir",
    type=FOLDER,
    envvar="TRAINBENCH_DATA_DIR",
    help="The data directory with the cache of the run. Default: the one that the run lies in.",
)
def prove(run_path: Path, index: int | None, data_dir: Path | None) -> None:
    """Compute the hits of a run's trials a second time, in float64 and by other code.

    RUN is the folder of a run. What is found is written to proof.json of each trial, and the report
    shows it. Exit 5: the recorded hits do not hold.
    """
    run = existing_run(run_path)
    benchmark = benchmark_of(run)
    if not benchmark.prove:
        raise ConfigError(
            f"{run_path}: a run of {benchmark.name}, of which there is no proof: its trials keep "
            "no weights that a second computation could start from"
        )
    data = opened(data_dir) if data_dir else None
    with recorded_of(run, "prove"):
        wrong = []
        for trial in _trials(run, index) if index is not None else _trained(run):
            proof = load(benchmark.prove)(run, trial, data)
            click.echo(str(proof))
            wrong += [] if proof.proved else [str(trial.index)]
        if wrong:
            raise NotCompliantError(f"{run_path}: not proved: trial {', '.join(wrong)}")


@click.command("replay")
@_RUN
@click.option("--trial", "index", default=0, type=click.IntRange(0), help="This trial.")
@click.option("--epochs", type=click.IntRange(1), help="Only the first epochs. Default: all.")
@click.option(
    "--data-dir",
    "data_dir",
    type=FOLDER,
    envvar="TRAINBENCH_DATA_DIR",
    help="Where the data are and the new run goes. Default: where the run lies in, else data.",
)
def replay(run_path: Path, index: int, epochs: int | None, data_dir: Path | None) -> None:
    """Run a trial again with its seed and its settings, and compare.

    RUN is the folder of a run or a copy of it. Input has to be equal on every machine, results on
    the same kind of machine. The page cache is not dropped, as the time is not what is repeated.
    Exit 3: the first difference is named.
    """
    run = existing_run(run_path)
    trial_replay.fields_of(run)
    extras.require(*benchmark_of(run).extras.get("train", ()))
    (trial,) = _trials(run, index)
    own = DataDir(run.root.parents[1])
    data = opened(data_dir or (own.root if own.caches.is_dir() else Path("data")))
    command = ["trainbench", *sys.argv[1:]]
    with locked(data, "replay"):
        again, found = trial_replay.replay(run, trial, data=data, epochs=epochs, command=command)
        click.echo(f"{found}\nin {again.root}")
        found.require_same()


def _trained(run: RunDir) -> list[TrialDir]:
    """The trials that kept a model; a ``MachineError`` if there is none."""
    trials = _trials(run, None)
    without = [str(trial.index) for trial in trials if not trial.model.is_dir()]
    if len(without) == len(trials):
        raise MachineError(f"{run.root}: no trial has a model; only a trial that ended keeps one")
    if without:
        log_line(f"trial {', '.join(without)}: no model, so there is nothing to prove")
    return [trial for trial in trials if trial.model.is_dir()]


def _trials(run: RunDir, index: int | None) -> list[TrialDir]:
    """The trial with this index, or all; a ``MachineError`` says that there is none."""
    chosen = run.trials if index is None else [run.trial(index)]
    chosen = [trial for trial in chosen if trial.root.is_dir()]
    if not chosen:
        has = ", ".join(str(trial.index) for trial in run.trials) or "none"
        raise MachineError(f"{run.root}: no trial {'' if index is None else index} (has {has})")
    return chosen
