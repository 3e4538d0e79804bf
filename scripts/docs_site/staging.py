"""What the site is built from: the pages of the repository, with links that hold on the site.

On a forge a page is read where it lies: README.md links to ``docs/rules.md`` and a page in docs/ to
``../examples/ncf_minimal.py``. On the site all pages are in one folder, and a file that is no page
is shown as one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

# Pages outside docs/, and their names on the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "image_classification/README.md": "images.md",
}
GLOSSARY = Path("docs/glossary.md")
LANGUAGES = {".py": "python", ".yml": "yaml", ".sh": "bash", ".json": "json", ".toml": "toml"}

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_NESTED = re.compile(r"^( +)(?=[-*] |\d+\. )")
_TERM = re.compile(r"^- \*\*(.+?)\*\*(.*?): ", re.MULTILINE)
_FENCE = re.compile(r"^ *```")


class LinkError(Exception):
    """A link to something that the repository does not have."""


def stage(repository: Path, out: Path) -> list[Path]:
    """Write the repository's pages into ``out`` and return them, as relative paths.

    Raises:
        LinkError: a page links to a file that is not there.
    """
    sources = {path: path.relative_to("docs") for path in _relative(repository, "docs/**/*.md")}
    sources |= {Path(source): Path(name) for source, name in PAGES.items()}
    shown: set[Path] = set()
    for source, name in sources.items():
        text = (repository / source).read_text()
        text = _nested(_linked(text, source, repository, sources, shown))
        _write(out / name, _terms(text) if source == GLOSSARY else text)
    for path in sorted(shown):
        _write(out / _page_of(path), _as_page(path, (repository / path).read_text()))
    return sorted([*sources.values(), *map(_page_of, shown)])


def _relative(repository: Path, pattern: str) -> list[Path]:
    return sorted(path.relative_to(repository) for path in repository.glob(pattern))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _linked(
    text: str, source: Path, repository: Path, pages: dict[Path, Path], shown: set[Path]
) -> str:
    """``text`` with each link to a file of the repository led to that file's page on the site."""
    here = pages[source].parent

    def led(match: re.Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if not target or ":" in target:
            return match[0]
        path = Path(os.path.normpath(source.parent / target))
        if (repository / path / "README.md").is_file():
            path /= "README.md"
        if not (repository / path).is_file():
            raise LinkError(f"{source}: links to {target}, which is not there")
        if path not in pages:
            shown.add(path)
        page = pages.get(path) or _page_of(path)
        named = path in pages and match["text"] in (target, path.name, str(path))
        words = _title(repository / path) if named else match["text"]
        return f"[{words}]({os.path.relpath(page, here)}{'#' + anchor if anchor else ''})"

    return "".join(line if fenced else _LINK.sub(led, line) for line, fenced in _lines(text))


def _title(page: Path) -> str:
    """What a link says on the site that on a forge says the name of the file."""
    return page.read_text().split("\n", 1)[0].removeprefix("# ")


def _lines(text: str) -> list[tuple[str, bool]]:
    """Each line, and whether it is of a block of code."""
    found, fenced = [], False
    for line in text.splitlines(keepends=True):
        mark = bool(_FENCE.match(line))
        found.append((line, fenced or mark))
        fenced ^= mark
    return found


def _nested(text: str) -> str:
    """Lists in lists by four columns a level, as Python-Markdown wants them; a forge takes both."""

    def deeper(match: re.Match[str]) -> str:
        return " " * 4 * ((len(match[1]) + 1) // 2 if len(match[1]) != 3 else 1)

    return "".join(line if fenced else _NESTED.sub(deeper, line) for line, fenced in _lines(text))


def _terms(text: str) -> str:
    """The list of terms as sections, which the search finds by their titles."""
    return _TERM.sub(r"\n### \1\2\n\n", text).replace("\n  ", "\n")


def _page_of(path: Path) -> Path:
    return Path("files", f"{path}.md")


def _as_page(path: Path, text: str) -> str:
    """A file of the repository as a page of the site."""
    return f"# {path}\n\n```{LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n```\n"
