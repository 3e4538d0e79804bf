"""The command line: parse, call, exit code. Nothing else reads flags or the environment.

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 data integrity, 4 target not reached,
5 not compliant, 6 environment, 7 slower than the baseline, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from trainbench import __version__
from trainbench.cli import images, machine, review, steps
from trainbench.configuration import unknown
from trainbench.errors import Interrupted, MachineError, TrainbenchError
from trainbench.trials import signals

EXTRAS = {
    "absl": "train",
    "jinja2": "report",
    "keras": "train",
    "matplotlib": "report",
    "scipy": "report",
    "tensorflow": "train",
}
"""Packages that a plain installation lacks, and the extra that brings each."""
EXAMPLES = {
    "download": "trainbench download --dataset ml-20m",
    "preprocess": "trainbench preprocess --preset ml-1m",
    "train": "trainbench train --preset ml-1m --runs 3 --set learning_rate=1e-3",
    "stitch": "trainbench stitch --run data/runs/latest",
    "report": "trainbench report --run data/runs/latest --out /tmp/report",
    "pipeline": "trainbench pipeline --preset quick",
    "check": "trainbench check --level 2 result_0.txt",
    "score": "trainbench score results/my-system/ncf --json",
    "compare": "trainbench compare before.json after.json --threshold-percent 2",
    "doctor": "trainbench doctor",
    "bench": "trainbench bench ncf",
    "cnn": "trainbench cnn --model=resnet50 --batch_size=32 --num_batches=50 --device=cpu",
    "evaluate": "trainbench evaluate --preset ml-1m --weights "
    "data/runs/latest/trial_0/model/weights.npz --negatives 99",
}


class _Group(click.Group):
    """Adds each command's example to its help, and the nearest name to an unknown command."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        example = EXAMPLES.get(name or cmd.name or "")
        if example:
            cmd.epilog = f"Example: {example}"
        super().add_command(cmd, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            known = [name for name, command in self.commands.items() if not command.hidden]
            raise click.UsageError(unknown("command", args[0], known))
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trainbench")
def cli() -> None:
    """Train a model to a quality target and report a time that can be defended."""


def main() -> NoReturn:
    """Run the command line and exit with a documented code."""
    signals.listen()
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        code = _said(error)
        if code is None:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def _said(error: BaseException) -> int | None:
    """Print ``error`` in one line and return its exit code; None for an unexpected error."""
    if signals.caused(error) or isinstance(error, click.exceptions.Abort):
        print("error: interrupted", file=sys.stderr)
        return Interrupted.exit_code
    if isinstance(error, TrainbenchError):
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        extra = f"pip install 'trainbench[{EXTRAS[error.name]}]'"
        print(f"error: {error.name} is not installed: {extra}", file=sys.stderr)
        return MachineError.exit_code
    if isinstance(error, OSError) and error.errno is not None:
        print(f"error: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
        return MachineError.exit_code
    return None


for _command in (
    steps.download_command,
    steps.preprocess_command,
    steps.train_command,
    steps.trial_command,
    steps.worker_command,
    steps.pipeline_command,
    steps.evaluate_command,
    steps.cnn_command,
    review.stitch,
    review.report,
    review.check,
    review.score,
    review.submission,
    review.compare,
    machine.bench,
    machine.doctor,
    images.images,
):
    cli.add_command(_command)
