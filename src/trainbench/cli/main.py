"""The command line: parse, call, exit code.

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 data integrity or a replay that differs,
4 target not reached, 5 not compliant, 6 environment, 7 slower than the baseline, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from trainbench import __version__
from trainbench.benchmark import registered
from trainbench.cli import kept, machine, repeat, review, steps, stored, workflow
from trainbench.cli.options import Group
from trainbench.display.visible import guard_terminal
from trainbench.trials import signals
from trainbench.trials.child import exit_code_of

EXAMPLES = {
    "download": "trainbench download --dataset ml-20m",
    "preprocess": "trainbench preprocess --preset ml-1m",
    "train": "trainbench train --preset ml-1m --runs 3 --set learning_rate=1e-3; "
    "trainbench train --preset mlperf --trial 3 --of 100",
    "stitch": "trainbench stitch --run data/runs/latest",
    "report": "trainbench report --run data/runs/latest; trainbench report logs.zip --out review",
    "pipeline": "trainbench pipeline --preset quick",
    "check": "trainbench check --level 2 result_0.txt",
    "score": "trainbench score results/my-system/ncf --json",
    "compare": "trainbench compare before.json after.json --threshold-percent 2",
    "history": "trainbench history data --out history",
    "prove": "trainbench prove data/runs/latest",
    "replay": "trainbench replay data/runs/latest --trial 0 --epochs 1",
    "doctor": "trainbench doctor",
    "generate": "trainbench generate --data-dir data",
    "bench": "trainbench bench ncf",
    "cnn": "trainbench cnn --model=resnet50 --batch_size=32 --num_batches=50 --device=cpu",
    "evaluate": "trainbench evaluate --preset ml-1m --weights "
    "data/runs/latest/trial_0/model/weights.npz --negatives 99",
}


class _Group(Group):
    """Adds each command's example to its help."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        example = EXAMPLES.get(name or cmd.name or "")
        if example:
            cmd.epilog = f"Example: {example}"
        super().add_command(cmd, name)


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(__version__, prog_name="trainbench")
def cli() -> None:
    """Train a model to a quality target and report a time that can be defended."""


def _with_successor(error: click.ClickException) -> click.ClickException:
    """The error that also says what to use in place of an option that a benchmark no longer has."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return error
    name = error.option_name.lstrip("-").replace("-", "_")
    groups = {benchmark.command for benchmark in registered().values()}
    mine = groups & set(error.ctx.command_path.split()) or {""}
    for benchmark in registered().values():
        if benchmark.command in mine and name in benchmark.former:
            told = f"No such option: {error.option_name}: {benchmark.former[name]}"
            set_it = any(option.name == "settings" for option in error.ctx.command.params)
            where = " (settings: --set KEY=VALUE)" if set_it else ""
            return click.UsageError(f"{told}{where}", error.ctx)
    return error


def main() -> NoReturn:
    """Run the command line and exit with a documented code."""
    guard_terminal()
    code = _exit_code()
    signals.rest()
    sys.exit(code)


def _exit_code() -> int:
    try:
        signals.listen()
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        _with_successor(error).show()
        return error.exit_code
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, click.exceptions.Abort):
            error = KeyboardInterrupt()
        code = exit_code_of(error)
        if code is None:
            raise
    return code if isinstance(code, int) else 0


for _command in (
    review.stitch,
    review.report,
    review.check,
    review.score,
    review.submission,
    stored.compare,
    review.evaluate,
    stored.history,
    kept.runs,
    repeat.prove,
    repeat.replay,
    machine.bench,
    machine.doctor,
    machine.cnn,
    workflow.init,
):
    cli.add_command(_command)
for _benchmark in registered().values():
    _group: click.Group = cli
    if _benchmark.command:
        _group = Group(_benchmark.command, help=f"{_benchmark.title}: the steps of a run.")
        cli.add_command(_group)
    for _command in steps.commands(_benchmark):
        _group.add_command(_command)
