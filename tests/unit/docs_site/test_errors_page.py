"""docs/errors.md has every error text of the package, each with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import CHECKOUT
from docs_site import errors, messages
from docs_site.messages import Message

from trainbench.errors import TrainbenchError

PAGE = CHECKOUT / "docs" / "errors.md"


@pytest.fixture(scope="module")
def found() -> tuple[Message, ...]:
    return messages.messages(errors.PACKAGE)


def test_every_message_says_what_to_do_or_has_advice(found: tuple[Message, ...]) -> None:
    problems = errors.problems(found, errors.advice())
    assert not problems, "correct scripts/docs_site/advice.yml:\n" + "\n".join(problems)


def test_the_page_is_that_of_the_source() -> None:
    assert PAGE.read_text() == errors.page(), "run ./scripts/docs.sh --errors"


def test_every_exit_code_of_an_error_has_its_section() -> None:
    codes = {error.exit_code for error in messages.errors(errors.PACKAGE)}
    assert codes == errors.advice()["codes"].keys()
    assert {kind.exit_code for kind in TrainbenchError.__subclasses__()} <= codes


def texts(tmp_path: Path, source: str) -> set[str]:
    """The messages of a package with one module."""
    (tmp_path / "errors.py").write_text(
        "class TrainbenchError(Exception):\n    exit_code = 1\n"
        "class ConfigError(TrainbenchError):\n    exit_code = 2\n"
    )
    (tmp_path / "made.py").write_text(source)
    return {m.text for m in messages.messages(tmp_path) if m.exit_code == 2}


def test_what_is_filled_in_is_left_open(tmp_path: Path) -> None:
    source = 'raise ConfigError(f"{path}: found {n:,} lines, wanted {m}")'
    assert texts(tmp_path, source) == {"...: found ... lines, wanted ..."}


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    said = "no such folder"\n    raise ConfigError(said)',
        'def say():\n    return "no such folder"\ndef f():\n    raise ConfigError(say())',
        "def refuse(yes, said):\n    raise ConfigError(said)\ndef f(x):\n"
        '    refuse(x, "no such folder")',
        'TOLD = {"a": "no such folder"}\ndef f(x):\n    raise ConfigError(TOLD[x])',
        'raise ConfigError("no such " + "folder")',
        'error = ConfigError("no such folder" if x else y)',
    ],
)
def test_a_text_is_followed_to_where_it_is_written(source: str, tmp_path: Path) -> None:
    assert texts(tmp_path, source) == {"no such folder"}


def test_a_message_without_advice_is_named_and_so_is_advice_without_a_message() -> None:
    told = {"messages": {"it is gone": "Look for it."}}
    assert errors.problems([Message(1, "ncf", "the disk broke down")], told) == [
        "advice.yml: no advice on: the disk broke down",
        "advice.yml: no such message: it is gone",
    ]
