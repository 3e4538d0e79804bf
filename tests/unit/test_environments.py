"""The environments have a name, a command and a line each, and the page tells of all of them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from checkout import CHECKOUT

PAGE = (CHECKOUT / "docs" / "environments.md").read_text()


@pytest.fixture
def frame(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(CHECKOUT / "tests" / "environments")
    return importlib.import_module("environment")


@pytest.fixture
def page(frame: Any) -> Any:
    return importlib.import_module("page")


def test_an_environment_has_one_name_and_is_run_or_says_why_not(frame: Any) -> None:
    found = frame.environments()
    assert len({each.name for each in found}) == len(found)
    for each in found:
        assert bool(each.run) != bool(each.not_run), each.name
        assert not each.ci or each.run, each.name
        for line in (*each.command.splitlines(), *each.expected.splitlines()):
            assert 0 < len(line) <= 98, each.name


def test_the_page_is_what_the_script_writes(frame: Any, page: Any) -> None:
    """After a change: python tests/environments --write NAME (or ``--page``)."""
    found = frame.environments()
    states = {each.name: page.state(each, "", PAGE) for each in found}
    assert PAGE.partition(page.START)[2] == "\n" + page.generated(found, states)


def test_what_was_changed_since_it_ran_counts_as_not_run(frame: Any, page: Any) -> None:
    def one(expected: str) -> Any:
        return frame.Environment("a-b", "x", "Made.", "cmd", expected, run=lambda _: None)

    before = page.generated([one("line")], {"a-b": "2026-01-01"})
    assert page.state(one("line"), "", before) == "2026-01-01"
    assert page.state(one("other"), "", before) == page.NOT_YET
    assert page.state(one("line"), "FAILED: exit code 1", before).startswith("not run: failed")


@pytest.mark.parametrize(
    ("expected", "code", "output", "problem"),
    [
        ("a line", 0, "before\nthis is a line.\nafter", ""),
        ("from ... to", 0, "from here to\nthere", ""),
        ("from ... to", 0, "from here\nto there", "lacks"),
        ("a line", 6, "a line", "exit code 0, wanted 6"),
    ],
)
def test_a_line_and_a_code_are_looked_for(
    frame: Any, expected: str, code: int, output: str, problem: str
) -> None:
    environment = frame.Environment("x", "", "", "", expected, code=code)
    assert problem in environment.problem(frame.Ended(0, output))
    assert bool(problem) == bool(environment.problem(frame.Ended(0, output)))
