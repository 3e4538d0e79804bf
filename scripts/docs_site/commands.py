"""A page for each command, from the same objects that print its ``--help``."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from trainbench.cli.main import cli

FOLDER = "commands"
_LIST = re.compile(rf"^ +- {FOLDER}/index\.md.*\n", re.MULTILINE)
# Commands whose options are flags of absl: --help is not click's.
_FLAGS = {
    "cnn": "The options are the flags of tf_cnn_benchmarks: [all flags](../cnn_flags.md), and\n"
    "[what to do with them](../cnn.md).",
    "bench all-reduce": "The options are the [flags of `cnn`](../cnn_flags.md).",
}


@dataclass(frozen=True)
class Command:
    """A command as a user calls it: its words after ``trainbench``, and click's record of it."""

    words: str
    context: click.Context

    @property
    def page(self) -> str:
        """The page's file on the site, below ``commands/``."""
        return f"{self.words.replace(' ', '_')}.md"

    @property
    def summary(self) -> str:
        """The first sentence of the help."""
        return self.context.command.get_short_help_str(200)


def commands() -> list[Command]:
    """Every command that is not hidden, in alphabetical order."""
    root = click.Context(cli, info_name="trainbench", **cli.context_settings)
    return sorted(_leaves(root, ()), key=lambda command: command.words)


def _leaves(context: click.Context, words: tuple[str, ...]) -> Iterator[Command]:
    command = context.command
    if not isinstance(command, click.Group):
        yield Command(" ".join(words), context)
        return
    for name, below in command.commands.items():
        if not below.hidden:
            settings = {**cli.context_settings, **below.context_settings}
            inner = click.Context(below, info_name=name, parent=context, **settings)
            yield from _leaves(inner, (*words, name))


def write(out: Path) -> None:
    """Write the pages of all commands into ``out``/commands."""
    folder = out / FOLDER
    folder.mkdir(parents=True)
    (folder / "index.md").write_text(index())
    for command in commands():
        (folder / command.page).write_text(page(command))


def in_navigation(configuration: str) -> str:
    """mkdocs.yml with the pages of all commands behind that of their list."""
    names = [f"      - {c.words}: {FOLDER}/{c.page}\n" for c in commands()]
    return _LIST.sub(lambda match: match[0] + "".join(names), configuration)


def index() -> str:
    """The page that lists all commands."""
    rows = [f"| [`{c.words}`]({c.page}) | {c.summary} |" for c in commands()]
    return "\n".join(
        [
            "# Commands",
            "",
            "`trainbench COMMAND --help` prints what is here; these pages are made from it. In a",
            "clone without an installation, `python -m trainbench COMMAND` is the same. What the",
            "exit codes mean: [Errors](../errors.md).",
            "",
            "| `trainbench ...` | does |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def page(command: Command) -> str:
    """One command: what it does, its usage, its example, and every option with its default."""
    context = command.context
    pieces = context.command.collect_usage_pieces(context)
    parts = [
        f"# `trainbench {command.words}`",
        inspect.cleandoc(context.command.help or "").replace("\b\n", ""),
        _code(" ".join([f"trainbench {command.words}", *pieces])),
    ]
    if context.command.epilog:
        parts += ["## Example", _code(context.command.epilog.removeprefix("Example: "))]
    if command.words in _FLAGS:
        parts += ["## Options", _FLAGS[command.words]]
    else:
        options = [_option(p, context) for p in context.command.get_params(context)]
        parts += ["## Options", "\n".join(option for option in options if option)]
    return "\n\n".join(parts) + "\n"


def _code(text: str) -> str:
    return f"```\n{text}\n```"


def _option(parameter: click.Parameter, context: click.Context) -> str:
    """A list item; empty for an argument, which the usage shows, and for a hidden option."""
    record = parameter.get_help_record(context)
    if record is None or isinstance(parameter, click.Argument):
        return ""
    names, meaning = record
    variable = getattr(parameter, "envvar", None)
    where = f" (environment: `{variable}`)" if isinstance(variable, str) else ""
    text = f"- `{names}`{where}: {' '.join(meaning.split())}"
    return textwrap.fill(
        text, 100, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )
