"""The site has a page for each command, all pages in its navigation, and links that hold."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import CHECKOUT
from docs_site import commands, links, staging
from docs_site.commands import Command


class _Loader(yaml.SafeLoader):
    """Takes the names of Python functions in mkdocs.yml for nothing."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
MKDOCS = yaml.load(commands.in_navigation((CHECKOUT / "mkdocs.yml").read_text()), _Loader)


def in_navigation(part: Any) -> set[str]:
    if isinstance(part, str):
        return {part}
    children = part.values() if isinstance(part, dict) else part
    return {name for child in children for name in in_navigation(child)}


def test_every_page_and_every_command_is_in_the_navigation() -> None:
    pages = {str(path.relative_to(CHECKOUT / "docs")) for path in CHECKOUT.glob("docs/**/*.md")}
    made = {f"commands/{command.page}" for command in commands.commands()}
    there = pages | made | set(staging.PAGES.values()) | {"commands/index.md", "samples.md"}
    assert in_navigation(MKDOCS["nav"]) == there, "correct nav in mkdocs.yml"


@pytest.mark.parametrize("command", commands.commands(), ids=lambda command: command.words)
def test_a_page_has_each_option_that_the_help_prints(command: Command) -> None:
    page = " ".join(commands.page(command).split())
    assert page.startswith(f"# `trainbench {command.words}`")
    for parameter in command.context.command.params:
        record = parameter.get_help_record(command.context)
        assert record is None or record[0] in page


def test_the_pages_are_staged_with_links_of_the_site(tmp_path: Path) -> None:
    pages = staging.stage(CHECKOUT, tmp_path)
    assert {"index.md", "rules.md", "files/examples/ncf_minimal.py.md"} <= set(map(str, pages))
    home = (tmp_path / "index.md").read_text()
    assert "(workflow.md)" in home
    assert "(images.md)" in home
    assert "docs/" not in "".join(staging._LINK.findall(home)[0])


def test_every_page_is_reached_from_the_readme(tmp_path: Path) -> None:
    pages = set(map(str, staging.stage(CHECKOUT, tmp_path)))
    reached, waiting = set[str](), ["index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page not in pages:
            continue
        reached.add(page)
        folder = Path(page).parent
        for link in staging._LINK.findall((tmp_path / page).read_text()):
            waiting.append(os.path.normpath(folder / link[1].partition("#")[0]))
    assert pages - reached == set(), "link to them from README.md or a page that it links to"


def repository(folder: Path, page: str) -> Path:
    for name in staging.PAGES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("# Nothing\n")
    (folder / "docs").mkdir()
    (folder / "docs" / "page.md").write_text(page)
    return folder


def test_a_link_to_a_file_that_is_not_there_ends_the_build(tmp_path: Path) -> None:
    checkout = repository(tmp_path / "in", "[x](../src/gone.py)\n")
    with pytest.raises(staging.LinkError, match=r"docs/page\.md: links to \.\./src/gone\.py"):
        staging.stage(checkout, tmp_path / "out")


def test_code_is_not_searched_for_links_and_lists_are_deepened(tmp_path: Path) -> None:
    text = "```\n[x](gone.md)\n```\n\n- a:\n  - b [home](../README.md#nothing)\n   1. c\n"
    staging.stage(repository(tmp_path / "in", text), tmp_path / "out")
    staged = (tmp_path / "out" / "page.md").read_text()
    assert "[x](gone.md)" in staged
    assert "    - b [home](index.md#nothing)" in staged
    assert "    1. c" in staged


def test_a_link_by_a_files_name_has_the_pages_title_on_the_site(tmp_path: Path) -> None:
    text = "# All rules\n\n[page.md](page.md), [docs/page.md](../docs/page.md), [x](page.md)\n"
    staging.stage(repository(tmp_path / "in", text), tmp_path / "out")
    staged = (tmp_path / "out" / "page.md").read_text()
    assert "[All rules](page.md), [All rules](page.md), [x](page.md)" in staged


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="gone.html">x</a>', "gone.html: no such file"),
        ('<a href="#gone">x</a>', "#gone: no such anchor"),
        ('<a href="b.html#gone">x</a>', "b.html#gone: no such anchor"),
        ('<a href=".">x</a>', "a folder, which a browser shows only from a server"),
        ('<a href="../a.html">x</a>', "../a.html: outside the site"),
        ('<img src="gone.png">', "gone.png: no such file"),
        ('<script src="https://example.org/x.js"></script>', "has to work without a network"),
    ],
)
def test_what_a_reader_would_stumble_over_is_found(body: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(body)
    (tmp_path / "b.html").write_text('<h1 id="there">B</h1>')
    found = links.faults(tmp_path)
    assert len(found) == 1
    assert fault in found[0]


def test_links_that_hold_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">x</a> <a href="https://example.org">y</a> <p id="me">'
        '<a href="#me">z</a> <a href="mailto:x@example.org">m</a>'
    )
    (tmp_path / "b.html").write_text('<h1 id="there">B</h1><img src="data:image/png;base64,AA">')
    assert links.faults(tmp_path) == []


def test_every_command_has_its_row_in_the_page_of_the_workflow() -> None:
    rows = (CHECKOUT / "docs" / "workflow.md").read_text().split("## Commands")[1]
    first = {command.words.split()[0] for command in commands.commands()}
    assert [word for word in sorted(first) if not re.search(rf"^\|.*`{word}\b", rows, re.M)] == []


def test_every_extra_of_the_package_is_in_the_page_on_installing() -> None:
    project = (CHECKOUT / "pyproject.toml").read_text()
    listed = project.split("[project.optional-dependencies]")[1].split("\n[project")[0]
    extras = set(re.findall(r"^([a-z-]+) = \[", listed, re.MULTILINE)) - {"dev"}
    rows = re.findall(r"^\| `([a-z-]+)` \|", (CHECKOUT / "docs" / "install.md").read_text(), re.M)
    assert set(rows) == extras
