"""docs/environments.md: the table of all environments, and the command and line of each."""

from __future__ import annotations

import datetime
import re
import textwrap
from collections.abc import Mapping, Sequence

from environment import CHECKOUT, Environment

PAGE = CHECKOUT / "docs" / "environments.md"
START = "<!-- Written by: python tests/environments --write -->\n"
NOT_YET = "not run yet"


def write(environments: Sequence[Environment], seen: Mapping[str, str]) -> None:
    """Write the table and the sections; what stands above them is written by hand.

    Args:
        environments: all of them, in the order of the page.
        seen: how those that ran now ended ("seen", "FAILED: ..."), by name.
    """
    text = PAGE.read_text()
    states = {each.name: state(each, seen.get(each.name, ""), text) for each in environments}
    head = text.partition(START)[0]
    PAGE.write_text(head + START + "\n" + generated(environments, states))


def state(environment: Environment, how: str, text: str) -> str:
    """The last column of one row: of this run, else what the page says of the same environment."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    if environment.run is None:
        return "not run"
    if how == "seen":
        return f"{today}{', CI' if environment.ci else ''}"
    if how.startswith("FAILED"):
        return f"not run: failed on {today}"
    return stated(text).get(environment.name, NOT_YET) if section(environment) in text else NOT_YET


def stated(text: str) -> dict[str, str]:
    """The last column of the page's table, by name."""
    return dict(re.findall(r"^\| ([a-z0-9-]+) \| .*\| ([^|]+) \|$", text, re.MULTILINE))


def generated(environments: Sequence[Environment], states: Mapping[str, str]) -> str:
    """The table and the sections, as text."""
    counts = [sum(s.startswith("not run") for s in states.values()), len(states)]
    rows = [f"| {e.name} | {e.what} | {states[e.name]} |" for e in environments]
    return "\n".join(
        [
            f"{counts[1] - counts[0]} of {counts[1]} environments were run.",
            "",
            "| environment | what it is | run |",
            "|---|---|---|",
            *rows,
            "",
            "\n".join(map(section, environments)),
        ]
    )


def section(environment: Environment) -> str:
    """How one is made, its command and its line."""
    ends = f" It ends with exit code {environment.code}." if environment.code else ""
    reason = f" Not run: {environment.not_run}." if environment.not_run else ""
    text = textwrap.fill(f"{environment.made}{ends}{reason}", 100, break_on_hyphens=False)
    return (
        f"### {environment.name}\n\n{text}\n\n"
        f"```\n$ {environment.command}\n{environment.expected}\n```\n"
    )
