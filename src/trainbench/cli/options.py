"""Options that several commands share, and what they mean together."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from trainbench.benchmark import Benchmark, Option, Source
from trainbench.configuration import unknown
from trainbench.machine import extras
from trainbench.machine.page_cache import DROP_CACHES
from trainbench.progress import log_line
from trainbench.trials.paths import DataDir

Command = Callable[..., Any]
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


class Group(click.Group):
    """Names the nearest of its commands where there is none of a name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that ``args`` begin with, or a usage error."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            known = [name for name, command in self.commands.items() if not command.hidden]
            raise click.UsageError(unknown("command", args[0], known))
        return super().resolve_command(ctx, args)


class FiniteRange(click.FloatRange):
    """A number in a range; NaN, which is neither above nor below a bound, is none."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """``value`` as a number, or a usage error."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number", param, ctx)
        return found


DATA_DIR = click.option(
    "--data-dir",
    "data_dir",
    type=FOLDER,
    envvar="TRAINBENCH_DATA_DIR",
    default=Path("data"),
    help="The data directory.",
)
RUN = click.option(
    "--run",
    "run_path",
    type=FOLDER,
    help="The run's folder. Default: the newest run in the data directory.",
)
_SETTINGS = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    envvar="TRAINBENCH_SET",
    help="Change one field of the configuration; repeatable.",
)
_SOURCE = (
    click.option("--mirror", envvar="MIRROR", help="URL or folder of a mirror."),
    click.option(
        "--archive", "archive_path", type=FILE, help="Use this archive instead of downloading."
    ),
    click.option("--sha256", envvar="SHA256", help="Checksum of a mirror's own archive."),
    click.option(
        "--hash-decides",
        envvar="HASH_DECIDES",
        is_flag=True,
        help="Go on where a server's certificate does not hold; the known SHA-256 decides.",
    ),
)
_TRAIN = (
    click.option(
        "--runs",
        envvar="RUNS",
        default=1,
        type=click.IntRange(1),
        help="Trials, each in a process of its own with a seed of its own.",
    ),
    click.option("--seed", envvar="SEED", type=click.IntRange(0), help="Seed; repeats a run."),
    click.option(
        "--require-gpu/--no-require-gpu",
        envvar="REQUIRE_GPU",
        default=False,
        help="Stop when no GPU is usable.",
    ),
    click.option(
        "--drop-caches/--no-drop-caches",
        envvar="DROP_CACHES",
        default=True,
        help="Drop the page cache before the clock starts; without, the run is marked.",
    ),
    click.option(
        "--drop-cache-location",
        envvar="DROP_CACHE_LOC",
        default=DROP_CACHES,
        help="The file to which 3 is written to drop the page cache.",
    ),
    click.option("--note", envvar="TRAINBENCH_NOTE", help="A note on the run, kept in it."),
    click.option(
        "--tag", "tags", multiple=True, envvar="TRAINBENCH_TAGS", help="A tag; repeatable."
    ),
    # Git state of the checkout, which settings.py passes in: containers cannot see it.
    click.option("--git-revision", envvar="TRAINBENCH_GIT_REVISION", hidden=True),
    click.option("--git-dirty", envvar="TRAINBENCH_GIT_DIRTY", type=bool, hidden=True),
)

_OF_SET = (
    click.option(
        "--trial",
        "trial",
        envvar="TRIAL",
        type=click.IntRange(0),
        help="Run only this trial, from 0, of a set that other processes share; with --of.",
    ),
    click.option("--of", "of", type=click.IntRange(1), help="The number of trials of that set."),
    click.option(
        "--into",
        "into",
        envvar="SET_NAME",
        help="The set's folder in runs/, which its first trial makes. Default: set.",
    ),
)
INCOMPLETE = click.option(
    "--incomplete",
    is_flag=True,
    help="Go on with a shared set (train --trial) that lacks trials, which is refused otherwise.",
)


def needs(*modules: str) -> Command:
    """Have a command look for these modules of extras before its body makes anything."""

    def decorated(command: Command) -> Command:
        @functools.wraps(command)
        def checked(*arguments: Any, **options: Any) -> Any:
            extras.require(*modules)
            return command(*arguments, **options)

        return checked

    return decorated


def configured(benchmark: Benchmark, step: str, *, source: bool = False) -> Command:
    """Give a command what every step has that needs a configuration, and the benchmark's own."""
    presets = ", ".join(benchmark.presets)
    default = benchmark.default_preset_help
    own = [_click_option(option) for option in benchmark.options if step in option.steps]
    return _all(
        DATA_DIR,
        click.option("--preset", envvar="PRESET", help=f"{presets}. Default: {default}."),
        _SETTINGS,
        *own,
        *(_SOURCE if source else ()),
    )


def trained(command: Command) -> Command:
    """Give a command what decides how a set of trials runs."""
    decorated: Command = _all(*_TRAIN)(command)
    return decorated


def of_set(command: Command) -> Command:
    """Give a command what makes a trial one of a set that processes share."""
    decorated: Command = _all(*_OF_SET)(command)
    return decorated


def _all(*options: Command) -> Command:
    def decorated(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


def _click_option(option: Option) -> Command:
    names = option.declarations or (f"--{option.name.replace('_', '-')}",)
    kind: Any = option.kind
    more: dict[str, Any] = {}
    if option.choices:
        kind = click.Choice(option.choices)
    elif option.kind is Path:
        kind = click.Path(path_type=Path, file_okay=False, resolve_path=True)
    elif option.kind is bool:
        more = {"is_flag": True}
        kind = None
    if option.kind is float:
        kind = FiniteRange(1)
    return click.option(
        *names,
        option.name,
        type=kind,
        default=option.default,
        envvar=option.envvar,
        help=option.help,
        **more,
    )


def resolved_config(benchmark: Benchmark, options: dict[str, Any]) -> Any:
    """The configuration that the options of a command ask for."""
    name = options["preset"] or benchmark.default_preset(options)
    implied = [s for o in benchmark.options if options.get(o.name) for s in o.implies]
    settings = [*implied, *options["settings"], *_own_settings(benchmark.options, options)]
    if options.get("require_gpu"):
        settings.append(benchmark.gpu_setting)
    if not options.get("drop_caches", True):
        settings.append("drop_caches=false")
    config = benchmark.with_settings(benchmark.preset(name), settings)
    log_line(f"preset {name}: {benchmark.task(config)} {goal(benchmark, config)}")
    return config


def goal(benchmark: Benchmark, config: Any) -> str:
    """What training is for: ``to HR@10 0.635``."""
    target = getattr(config, benchmark.quality.target)
    return "without a target" if target is None else f"to {benchmark.quality.name} {target}"


def _own_settings(own: Iterable[Option], options: dict[str, Any]) -> list[str]:
    given = [(o.field, options.get(o.name)) for o in own if o.field]
    return [f"{field}={value}" for field, value in given if value not in (None, "")]


def trial_options(benchmark: Benchmark, options: dict[str, Any]) -> dict[str, Any]:
    """The benchmark's own options that trials get, as JSON has them."""
    of_trials = (o for o in benchmark.options if not (o.field or o.of_source))
    own = {o.name: options[o.name] for o in of_trials if o.name in options}
    return {k: str(v) if isinstance(v, Path) else v for k, v in own.items()}


def opened(data_dir: Path) -> DataDir:
    """The data directory by its absolute path."""
    return DataDir(data_dir.resolve())


def source(benchmark: Benchmark, options: dict[str, Any]) -> Source:
    """The source that the options of a command name."""
    own = {o.name: options[o.name] for o in benchmark.options if o.of_source and o.name in options}
    return Source(
        mirror=options["mirror"],
        archive=options["archive_path"],
        sha256=options["sha256"],
        hash_decides=options["hash_decides"],
        own=own,
    )
