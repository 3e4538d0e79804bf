"""Options that a message, a help text or a page names are options of the command they are for."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from checkout import CHECKOUT
from every_command import commands, example

from trainbench.cli import main as cli
from trainbench.cnn.flags import FLAGS
from trainbench.cnn.flags.retired import ALWAYS_ON

OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
FLAGS_OF_CNN = {
    *(f"--{sign}{name}" for name in (*FLAGS, *ALWAYS_ON) for sign in ("", "no")),
    *("--help", "--helpshort", "--helpfull", "--flagfile", "--undefok"),
}
PAGES = [
    path
    for path in (*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("*/README.md"))
    if path.name not in ("CHANGELOG.md", "source_documents.md", "sources.md")
]
# What ends a command in a line of text: a comment, a pipe, another command, the end of code.
CALL = re.compile(r"trainbench ((?:[a-z][a-z-]* ?)+)([^`\n|;&#]*)")


def options(path: str) -> set[str]:
    """All names of the options of a command; those of its group are the same."""
    command = commands()[path]
    named = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    if path.split()[-1] in ("cnn", "all-reduce"):
        return named | FLAGS_OF_CNN
    return named | {"--help"}


def of_nobody(text: str, path: str) -> set[str]:
    """The options in ``text`` that neither the command ``path`` nor another one named there has."""
    named = {other for other in commands() if re.search(rf"(?<![\w/-]){other}(?![\w-])", text)}
    known = set[str]().union(*(options(other) for other in {path, *named}))
    return {name for name in OPTION.findall(text) if name.rstrip("_") and not _known(name, known)}


def _known(name: str, known: set[str]) -> bool:
    # --eval_during_training_* stands for several.
    return name in known or (name.endswith("_") and any(k.startswith(name) for k in known))


# Where a message of a part of the package is met.
AREAS = {
    "bench": ("bench all-reduce",),
    "cnn": ("cnn",),
    "configuration": ("preprocess", "train", "pipeline", "evaluate", "images train"),
    "image_classification": ("images download", "images pipeline"),
    "movielens": ("download", "pipeline"),
    "ncf": ("pipeline",),
    "reporting": ("report",),
}


def test_what_a_message_advises_is_there() -> None:
    sys.path.append(str(CHECKOUT / "scripts"))
    from docs_site import errors, messages

    found = messages.messages(errors.PACKAGE)
    every = set[str]().union(*map(options, commands()))
    wrong = {
        (message.area, path, message.text, *sorted(unknown))
        for message in found
        for path in AREAS.get(message.area, ())
        if (unknown := of_nobody(message.text.replace("--key=value", ""), path))
    }
    wrong |= {
        (message.area, message.text, *sorted(unknown))
        for message in found
        if (unknown := {name for name in OPTION.findall(message.text) if not _known(name, every)})
        and message.text != "found ..., wanted --key=value"
    }
    assert wrong == set()


def configured() -> Iterator[str]:
    """The commands that take a configuration."""
    for path, command in commands().items():
        if any(option.name == "settings" for option in command.params):
            yield path


MISTAKES = {
    "a setting of the open division": ["--preset=quick", "--set=mf_dim=7"],
    "an unknown setting": ["--set=nope=1"],
    "no setting": ["--set=nope"],
    "a setting of the wrong type": ["--set=max_epochs=x"],
    "an unknown preset": ["--preset=nope"],
    "no data": ["--data-dir=absent"],
    "nothing in the data": ["--preset=quick", "--data-dir=."],
    "two sources": ["--preset=ml-1m", "--mirror=a", "--archive=b", "--data-dir=."],
    "no archive": ["--preset=ml-1m", "--mirror=absent", "--data-dir=."],
    "no checksum": ["--preset=ml-1m", "--sha256=x", "--mirror=absent", "--data-dir=."],
    "a former setting": ["--set=seed=1"],
    "another former setting": ["--set=hash_pipeline=1"],
    "a former option": ["--hr_threshold=1"],
    "no graphics card": ["--require-gpu", "--data-dir=."],
}

# Where these are no mistakes, as data are made there (or known only once TensorFlow is imported).
NO_MISTAKES = {"no data", "nothing in the data", "no graphics card"}


@pytest.mark.parametrize("path", list(configured()))
def test_advice_on_a_mistake_is_possible_where_it_is_made(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for mistake, words in MISTAKES.items():
        if mistake in NO_MISTAKES and path.endswith(("download", "pipeline", "evaluate")):
            continue
        words = [*path.split(), *_required(path), *words]
        monkeypatch.setattr("sys.argv", ["trainbench", *words])
        monkeypatch.setattr(cli.signals, "listen", lambda: None)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr().err.strip().splitlines()
        if ended.value.code and "No such option" not in said[-1]:
            assert not of_nobody(said[-1], path), (mistake, said[-1])


def _required(path: str) -> Iterator[str]:
    for option in commands()[path].params:
        if isinstance(option, click.Option) and option.required:
            yield f"{option.opts[0]}={__file__}"


def calls(text: str) -> Iterator[tuple[str, str, str]]:
    """Every call of a command in ``text``: the command, its options, and the call itself."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for words, rest in CALL.findall(joined):
        path = next((p for p in _prefixes(words.split()) if p in commands()), None)
        if path:
            yield path, rest, f"trainbench {words}{rest}"


def _prefixes(words: list[str]) -> Iterator[str]:
    for length in range(len(words), 0, -1):
        yield " ".join(words[:length])


def test_what_a_page_calls_is_there() -> None:
    wrong = {
        (page.name, call, *sorted(unknown))
        for page in PAGES
        for path, rest, call in calls(page.read_text(encoding="utf-8"))
        if (unknown := {name for name in OPTION.findall(rest) if not _known(name, options(path))})
    }
    assert wrong == set()


@pytest.mark.parametrize("path", list(commands()))
def test_what_a_help_text_names_is_there(path: str) -> None:
    command = commands()[path]
    texts = [command.help or "", " ".join(example(path))]
    texts += [option.help for option in command.params if isinstance(option, click.Option)]
    for text in filter(None, texts):
        assert not of_nobody(text, path), text


def test_every_word_of_a_group_is_a_command_of_it() -> None:
    """The table of the README names the commands that there are, and no others."""
    readme = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for path in commands():
        assert re.search(rf"(?<![\w-]){path.split()[0]}(?![\w-])", readme), path
