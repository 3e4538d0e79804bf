"""What a reader of the built site would stumble over: dead links and anchors, and the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src")}
_NOT_LOADED = {"canonical", "prev", "next", "alternate"}


@dataclass
class _Page(HTMLParser):
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        for name in ("src", "href"):
            if (tag, name) in _LOADED and name in found and found.get("rel") not in _NOT_LOADED:
                self.loaded.append(found[name])


def faults(site: Path) -> list[str]:
    """Each link of ``site`` that leads nowhere, and each file that a page loads from elsewhere."""
    site = site.resolve()
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        # The server of a site, not a reader's browser, decides where 404.html is seen.
        if name == Path("404.html"):
            continue
        for link in page.links:
            found += [f"{name}: {link}: {why}" for why in _dead(link, path, site, pages)]
        for link in page.loaded:
            if urlsplit(link).netloc:
                found.append(f"{name}: loads {link}; the site has to work without a network")
            else:
                found += [f"{name}: {link}: {why}" for why in _dead(link, path, site, pages)]
    return found


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(errors="replace"))
    return page


def _dead(link: str, path: Path, site: Path, pages: dict[Path, _Page]) -> list[str]:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return []
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_relative_to(site):
        return ["outside the site"]
    if target.is_dir():
        return ["a folder, which a browser shows only from a server"]
    if not target.exists():
        return ["no such file"]
    anchor = unquote(parts.fragment)
    if anchor and anchor != "top" and target in pages and anchor not in pages[target].anchors:
        return ["no such anchor"]
    return []
