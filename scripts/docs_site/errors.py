"""docs/errors.md: every error text of the package with what to do, by exit code and part."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from docs_site import messages
from docs_site.messages import Message

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "trainbench"
_ADVICE = Path(__file__).with_name("advice.yml")
_AREAS = {
    "bench": "Benchmarks of parts (`bench`)",
    "benchmark": "Benchmarks and presets",
    "cli": "Command line",
    "cnn": "CNN benchmark (`cnn`)",
    "compliance": "Compliance logs",
    "configuration": "Settings (`--set`)",
    "distribution": "Several machines",
    "files": "Files",
    "history": "History and comparisons",
    "image_classification": "Image classification (`images`)",
    "machine": "The machine",
    "movielens": "Ratings: download and preparation",
    "ncf": "NCF",
    "reporting": "Report",
    "statistics": "Statistics",
    "trials": "Runs and trials",
}
Shown = Callable[[str, str], str]

# A text says what to do by a clause behind a semicolon that has words, or by what it wants.
_CLAUSE = re.compile(r"; (?![^;]*\.\.\.$)[^;]*[a-z]{3}|; [^;]*[a-z]{3} [^;]*[a-z]{3}")
_WANTS = re.compile(
    r"wanted|must be|requires|did you mean|pip install|Please|run .* first|wants a|must also|"
    # Of options that exclude one another; what to do then stands above all of them.
    r"Only one|At most one|only (supported|compatible|works)|not (yet )?supported|invalid in a|"
    r"not be specified|not currently compatible|incompatible|cannot be used with|should be set"
)


def says_what_to_do(text: str) -> bool:
    """Whether a message needs no further advice."""
    return bool(_CLAUSE.search(text) or _WANTS.search(text))


def advice() -> dict[str, Any]:
    """The texts that are not in the source, as advice.yml has them."""
    loaded: dict[str, Any] = yaml.safe_load(_ADVICE.read_text())
    return loaded


def problems(found: Iterable[Message], told: dict[str, Any]) -> list[str]:
    """Messages without advice, and advice on messages that are no more."""
    texts = {message.text for message in found}
    missing = {t for t in texts if not says_what_to_do(t)} - told["messages"].keys()
    return [
        *(f"advice.yml: no advice on: {text}" for text in sorted(missing)),
        *(
            f"advice.yml: no such message: {text}"
            for text in sorted(told["messages"].keys() - texts)
        ),
    ]


def page(*, sections: bool = False) -> str:
    """The whole page, as Markdown.

    Args:
        sections: each message is a section of its own, which a search of the site finds by its
            title; otherwise a list item.
    """
    found = messages.messages(PACKAGE)
    classes = messages.errors(PACKAGE)
    told = advice()
    parts = [_HEAD, _codes(told), _outside(told, _section if sections else _item)]
    for code, mine in groupby(found, key=lambda message: message.exit_code):
        if code is None:
            parts += ["## Inside other messages", _fill(told["inside"])]
        else:
            parts += [f"## Exit code {code}: {told['codes'][code]['title']}"]
            parts += [_fill(told["codes"][code]["do"]), _classes(classes, code)]
        parts += _areas(list(mine), told["messages"], _section if sections else _item)
    return "\n\n".join(parts) + "\n"


_HEAD = """\
# Errors: every text, and what to do

An error is one line that begins with `error:`. It names the file or the option, what was found and
what was wanted. **What follows a semicolon is what to do**; where a message has no such part, the
line below it on this page has. `...` stands for what differs from case to case: search for the
words around it.

`./scripts/docs.sh --errors` writes this page from the source and from
`scripts/docs_site/advice.yml`; a test compares."""


def _codes(told: dict[str, Any]) -> str:
    rows = [
        f"| [{code}](#{_anchor(code, entry)}) | {entry['title']} |"
        for code, entry in told["codes"].items()
    ]
    after = _fill(
        "`check` alone is different, as linters are: 0 no findings, 1 findings, 2 a file could not "
        "be read. Popper turns every code above 0 into 1; `data/steps.jsonl` and each trial's "
        "`status.json` keep the original, and `scripts/run.sh` returns it."
    )
    table = "\n".join(["| exit code | meaning |", "|---|---|", "| 0 | ok |", *rows])
    return f"{table}\n\n{after}"


def _anchor(code: int, entry: dict[str, Any]) -> str:
    return f"exit-code-{code}-{entry['title'].replace(' ', '-')}"


def _outside(told: dict[str, Any], shown: Shown) -> str:
    items = [shown(text, do) for text, do in told["outside"].items()]
    return "\n\n".join(
        [
            "## Errors of other programs, and warnings",
            "### Popper, Docker, the system",
            "\n".join(items),
        ]
    )


def _classes(classes: list[messages.Error], code: int) -> str:
    names = [f"`{c.name}` ({c.meaning.rstrip('.')})" for c in classes if c.exit_code == code]
    return _fill(f"In Python: {'; '.join(names)}.")


def _areas(found: list[Message], told: dict[str, str], shown: Shown) -> list[str]:
    parts = []
    for area, mine in groupby(found, key=lambda message: message.area):
        items = [shown(m.text, told.get(m.text, "")) for m in mine]
        parts += [f"### {_AREAS.get(area, area.replace('_', ' ').capitalize())}", "\n".join(items)]
    return parts


def _section(text: str, do: str) -> str:
    return f"#### `{text}`\n" + (f"\n{do.strip()}\n" if do else "")


def _item(text: str, do: str) -> str:
    item = textwrap.fill(
        f"- `{text}`",
        100,
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return item + ("\n" + _fill(f"**Do:** {do.strip()}", "  ") if do else "")


def _fill(text: str, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        100,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
