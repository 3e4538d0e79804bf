"""``python tests/browser PAGES PICTURES``: open every page in Chromium, as its readers do.

No page may break a rule of axe, write to the console, ask for anything but itself or scroll
sideways on a phone. Every drawing has words, and no table is cut on paper. Pictures are kept of
each page: wide, on a phone, dark and printed. scripts/browser.sh makes the environment and PAGES.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from paper import cut, picture, print_options  # noqa: E402
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright  # noqa: E402

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
VIEWS: dict[str, dict[str, Any]] = {
    "wide": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "light"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
}
DRAWINGS = """() => [...document.querySelectorAll("svg")].filter(svg => {
  const said = svg.closest("[role=img]");
  return !said || (said.getAttribute("aria-label") || "").trim().length < 20;
}).map(svg => svg.outerHTML.slice(0, 120))"""
FIGURES = """() => [...document.querySelectorAll("figure")].filter(
  figure => !figure.querySelector("table tbody tr")
).map(figure => figure.id)"""
WIDER = "() => document.documentElement.scrollWidth - window.innerWidth"
OPEN_ALL = "() => document.querySelectorAll('details').forEach(each => { each.open = true; })"
ROWS = """() => [...document.querySelectorAll("tr")].map(
  row => [...row.cells].map(cell => cell.textContent).join(" "))"""


def main() -> int:
    """Look at all pages; 1 if anything is wrong with one."""
    if len(sys.argv) != 4:
        print("usage: python tests/browser PAGES PICTURES CHROMIUM", file=sys.stderr)
        return 2
    pages, pictures, chromium = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    named: dict[str, str] = json.loads((pages / "pages.json").read_text())
    pictures.mkdir(parents=True, exist_ok=True)
    for drawn in pages.glob("*.png"):
        shutil.copy(drawn, pictures)
    wrong = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        for kind, path in named.items():
            started = time.perf_counter()
            found = list(looked_at(browser, (pages / path).resolve(), pictures, kind))
            seconds = time.perf_counter() - started
            print(f"{kind:12} {'; '.join(found) or 'nothing wrong'} ({seconds:.1f} s)", flush=True)
            wrong += len(found)
        browser.close()
    print(f"{len(named)} pages, {wrong} findings; pictures in {pictures}")
    return 1 if wrong else 0


def looked_at(browser: Browser, file: Path, pictures: Path, kind: str) -> Iterator[str]:
    """What is wrong with a page in any view, in words."""
    for view, options in VIEWS.items():
        context = browser.new_context(**options)
        said: list[str] = []
        page = opened(context, file, said)
        page.screenshot(path=pictures / f"{kind}-{view}.png", full_page=True)
        found = [*layout(page), *(on_paper(page, pictures, kind) if view == "wide" else axe(page))]
        yield from (f"{view}: {finding}" for finding in found)
        yield from (f"{view}: {text}" for text in said)
        context.close()


def opened(context: BrowserContext, file: Path, said: list[str]) -> Page:
    """The page, which adds to ``said`` what it writes to the console and asks of others."""
    page = context.new_page()
    page.on("console", lambda message: said.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: (
            said.append(f"asks for {request.url}") if request.url != file.as_uri() else None
        ),
    )
    page.goto(file.as_uri())
    return page


def layout(page: Page) -> Iterator[str]:
    """What is wrong in one view; at the end, everything that can be opened is open."""
    for opening in (None, OPEN_ALL):
        if opening:
            page.evaluate(opening)
        wider = page.evaluate(WIDER)
        if wider > 0:
            yield f"scrolls sideways by {wider} px"
    for drawing in page.evaluate(DRAWINGS):
        yield f"a drawing without words: {drawing}"
    for figure in page.evaluate(FIGURES):
        yield f"no table of numbers in {figure}"


def axe(page: Page) -> Iterator[str]:
    """The rules of axe that a page breaks. On a phone and in the dark: between them is nothing."""
    for violation in Axe().run(page).response["violations"]:
        node = violation["nodes"][0]
        yield (
            f"axe {violation['id']} ({violation['impact']}, {len(violation['nodes'])} times): "
            f"{node['html'][:160]} {' '.join(node['failureSummary'].split())[:240]}"
        )


def on_paper(page: Page, pictures: Path, kind: str) -> Iterator[str]:
    """What is cut when the page is printed, in black on white."""
    file = pictures / f"{kind}-print.pdf"
    page.pdf(path=file, **print_options())
    picture(file, pictures / f"{kind}-print.png")
    yield from cut(file, page.evaluate(ROWS))


if __name__ == "__main__":
    sys.exit(main())
