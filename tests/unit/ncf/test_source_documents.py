"""docs/source_documents.md has a row for each name in the 2018 documents and names what is here."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from checkout import CHECKOUT

from trainbench.benchmark import find
from trainbench.cli.main import cli
from trainbench.compliance.tags import ncf as tags
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.former import FORMER

SOURCE = CHECKOUT / "src" / "trainbench"
PAGE = (CHECKOUT / "docs" / "source_documents.md").read_text()
FOLDERS = ("cli", "compliance", "machine", "movielens", "ncf", "trials")
CODE = "\n".join(p.read_text() for folder in FOLDERS for p in (SOURCE / folder).rglob("*.py"))
CODE += (CHECKOUT / "settings.py").read_text() + (SOURCE / "progress.py").read_text()
CODE += (CHECKOUT / "scripts" / "run_and_time.sh").read_text()
# What a document says in passing and no user of the system could set.
NOT_FLAGS = {"git", "line", "regexp"}


def rows(heading: str) -> list[tuple[list[str], list[str]]]:
    """Of each row of a table: the names in its first cell and those in its second."""
    section = PAGE.split(f"\n## {heading}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    cells = [[c.strip() for c in line.split(" | ")] for line in lines]
    return [(named(first.removeprefix("| ")), named(second)) for first, second, *_ in cells]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def first_names(heading: str) -> set[str]:
    return {name for first, _ in rows(heading) for name in first}


FLAGS = "Flags of the trainer", "Flags of the generator"


def documents(shared_dir: Path) -> str:
    found = sorted((shared_dir / "documents").glob("00[013]_*.txt"))
    if len(found) != 3:
        pytest.skip(f"the documents are not in {shared_dir}")
    return "".join(path.read_text() for path in found)


def test_each_former_flag_has_a_row_and_each_row_is_set_or_refused() -> None:
    rowed = first_names(FLAGS[0]) | first_names(FLAGS[1])
    settings = {field.name for field in fields(NcfConfig)} | {"flagfile"}
    assert FORMER.keys() <= rowed
    assert rowed <= FORMER.keys() | settings


def test_a_refusal_names_what_the_row_names() -> None:
    for first, second in (*rows(FLAGS[0]), *rows(FLAGS[1])):
        for name in set(first) & FORMER.keys():
            for successor in second:
                word = successor.removeprefix("--set ")
                related = word in FORMER[name] or "nothing is needed" in FORMER[name]
                assert related or name in ("use_xla_for_gpu", "cache_id"), (name, successor)


def test_each_flag_of_the_documents_has_a_row(shared_dir: Path) -> None:
    text = documents(shared_dir)
    found = set(re.findall(r"FLAGS\.(\w+)|name=\"(\w+)\"|(?<![\w-])--([a-z]\w+)", text))
    flags = {name for groups in found for name in groups if name} - NOT_FLAGS
    assert len(flags) > 30
    assert flags <= first_names(FLAGS[0]) | first_names(FLAGS[1])


def test_each_tag_has_a_row_and_is_logged_where_it_says(shared_dir: Path) -> None:
    logged = {getattr(tags, name) for name in re.findall(r"TAGS\.(\w+)", documents(shared_dir))}
    assert logged - {tags.BCE} <= first_names("Tags")


def test_the_tags_of_the_page_are_all_there_are_and_are_logged_where_it_says() -> None:
    constants = {value: name for name, value in vars(tags).items() if isinstance(value, str)}
    assert first_names("Tags") == tags.NCF_TAGS
    for (tag,), (module,) in rows("Tags"):
        assert f"tags.{constants[tag]}" in (SOURCE / module).read_text(), tag


def test_each_environment_variable_of_the_documents_has_a_row(shared_dir: Path) -> None:
    text = documents(shared_dir)
    of_scripts = re.findall(r"^[ +-]*(?:export )?([A-Z_]{3,})=", text, re.MULTILINE)
    of_code = re.findall(r'getenv\("(\w+)"|env\["(\w+)"\]', text)
    found = {*of_scripts, *(name for pair in of_code for name in pair if name)}
    assert found - {"END_TIME", "START_TIME"} <= first_names("Environment variables")


def test_every_thing_that_the_page_names_is_here() -> None:
    headings = (*FLAGS, "Files", "Environment variables", "Messages")
    named_here = {name for heading in headings for _, second in rows(heading) for name in second}
    assert len(named_here) > 60
    assert [name for name in sorted(named_here) if not is_here(name)] == []


def is_here(name: str) -> bool:
    """Whether a setting, an option, a command, a file, or a word of the code has this name."""
    settings = {field.name for field in fields(NcfConfig)}
    if name.startswith("--set "):
        return name.removeprefix("--set ") in settings
    if name.startswith("--"):
        options = {o for c in cli.commands.values() for p in c.params for o in (*p.opts,)}
        return name in options
    if name in cli.commands or name in {f.name for f in fields(GenerationOptions)}:
        return True
    return (CHECKOUT / name).exists() or name in CODE


def test_ncf_is_what_the_page_is_about() -> None:
    assert find("ncf").generate
