"""A command that a page tells a reader to type is one that the program takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from checkout import CHECKOUT

from trainbench.cli.main import cli
from trainbench.cnn.flags import FLAGS

PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    CHECKOUT / "image_classification" / "README.md",
    *sorted((CHECKOUT / "docs").glob("**/*.md")),
]
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
TYPED = re.compile(
    r"^(?:\$ )?(?:\w+=\S+ |nice |timeout \d+ |sudo |taskset -c \S+ )*"
    r"(?:\S*python3? -m |\S*bin/)?trainbench(?= )(.*)$"
)
OF_ABSL = {"flagfile", "undefok", "help", "helpshort", "helpfull"}


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind ``trainbench`` of each command in the blocks of code of ``page``."""
    for block in BLOCK.findall(page.read_text()):
        for line in re.sub(r"\\\n", " ", block).replace("&& ", "\n").splitlines():
            if found := TYPED.match(line):
                words = shlex.split(re.sub(r"\s[#|>].*|\s&$", "", found[1]))
                # A place holder in capitals, as in a usage, is a word as well.
                yield [word for word in words if word != "..."]


def fault(words: list[str]) -> str:
    """Why the command line would refuse ``words``; empty if it would not."""
    command: click.Command = cli
    context = click.Context(cli, **cli.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        if name.isupper():  # COMMAND
            return ""
        inner = command.get_command(context, name)
        if inner is None:
            return f"no command {name}"
        context = click.Context(inner, parent=context, **cli.context_settings)
        command = inner
    harness = command is cli.get_command(context, "cnn")
    if command.context_settings.get("ignore_unknown_options") or harness:
        return unknown_flag(words)
    try:
        command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        return error.format_message()
    return ""


def unknown_flag(words: list[str]) -> str:
    names = {w.partition("=")[0].removeprefix("--") for w in words if w.startswith("--")}
    known = FLAGS.keys() | OF_ABSL
    wrong = [name for name in sorted(names - known) if name.removeprefix("no") not in known]
    return f"no flag --{wrong[0]}" if wrong else ""


def name_of(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_of_a_page_is_one_that_there_is(page: Path) -> None:
    faults = [f"{' '.join(words)}: {why}" for words in commands(page) if (why := fault(words))]
    assert not faults, "\n".join(faults)


def test_commands_are_found_in_the_tutorials() -> None:
    tutorials = [page for page in PAGES if page.name.startswith("tutorial_")]
    assert all(any(commands(page)) for page in tutorials)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("trainbench tran --runs 3", "no command tran"),
        ("trainbench train --rums 3", "No such option"),
        ("python -m trainbench cnn --modell=resnet50", "no flag --modell"),
        ("$ .venv/bin/trainbench images pipelines", "no command pipelines"),
    ],
)
def test_a_command_that_is_none_is_found(line: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(f"```\n{line}\n```\n")
    (words,) = commands(tmp_path / "page.md")
    assert why in fault(words)
