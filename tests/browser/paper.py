"""A printed page: whether a table is cut at the edge of the paper or between two sheets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pypdfium2
from PIL import Image

POINTS_PER_MM = 72 / 25.4
MARGIN_MM = 14
"""Left and right, as templates/style.css has it."""
SLACK_POINTS = 2.0
LONGEST_WORD, LEAST_FOUND = 8, 0.7
"""A full table breaks words over lines: of a row, most of the short ones are on one sheet."""
DPI = 60


def print_options() -> dict[str, Any]:
    """A4 with the margins of the page's own style, without backgrounds but those it insists on."""
    return {"format": "A4", "prefer_css_page_size": True, "print_background": False}


def cut(file: Path, rows: Sequence[str]) -> Iterator[str]:
    """What lies beyond the margin, and which of ``rows`` are on no sheet as a whole."""
    document = pypdfium2.PdfDocument(file)
    words = []
    for number, sheet in enumerate(document, start=1):
        text = sheet.get_textpage()
        right = sheet.get_width() - MARGIN_MM * POINTS_PER_MM + SLACK_POINTS
        beyond = [i for i in range(text.count_chars()) if text.get_charbox(i)[2] > right]
        # A blank at the end of a line has a box, and nobody misses it.
        beyond = [i for i in beyond if text.get_text_range(i, 1).strip()]
        if beyond:
            shown = text.get_text_range(max(0, beyond[0] - 30), 60)
            yield f"sheet {number}: cut at the right edge near {' '.join(shown.split())!r}"
        words.append(Counter(_words(text.get_text_range())))
    for row in rows:
        wanted = Counter(w for w in _words(row) if len(w) <= LONGEST_WORD)
        found = max(((wanted & sheet).total() for sheet in words), default=0)
        if found < LEAST_FOUND * wanted.total():
            yield f"a row is cut between sheets or lost: {' '.join(row.split())[:120]!r}"


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9]+", text)


def picture(file: Path, out: Path) -> None:
    """All sheets of ``file`` one below the other."""
    sheets = [sheet.render(scale=DPI / 72).to_pil() for sheet in pypdfium2.PdfDocument(file)]
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height + 4 for sheet in sheets)), "grey")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height + 4
    whole.save(out)
