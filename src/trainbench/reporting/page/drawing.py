"""SVG text that is the same for the same drawing, readable on a light and on a dark background.

matplotlib draws with fixed ids, no date and text as text. Colours become CSS variables of the page
(templates/style.css), so that one drawing serves both.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from trainbench.reporting.page.tables import Table

# Inches of 72 px; the page scales a drawing to its column.
WIDE, HALF = 9.4, 4.6
LEAST_SPAN = 0.02
"""Of an axis of shares: less would make noise look like a change."""
# Colours that stand for a variable: they never reach the page, so they only have to be distinct.
INK, MUTED, LINE, TARGET = "#111213", "#616263", "#d1d2d3", "#a11213"
SERIES = ("#1a5fb1", "#b1621a", "#2b7d4c", "#7c3fa1", "#8a6d1b", "#2b7f91")
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    TARGET: "--target",
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES)},
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trainbench",
    "figure.dpi": 72,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "path.simplify": False,
}


@dataclass(frozen=True)
class Panel:
    """One drawing: its heading and its ``<svg>`` element."""

    title: str
    svg: str


@dataclass(frozen=True)
class Key:
    """One entry of a figure's legend: a CSS variable, a stroke and what it stands for."""

    variable: str
    stroke: str
    label: str


@dataclass(frozen=True)
class Figure:
    """Drawings side by side, or ``stacked`` on one axis, in one ``section`` of the page.

    ``note`` says what they are of, and why.
    """

    name: str
    title: str
    alt: str
    panels: tuple[Panel, ...]
    keys: tuple[Key, ...]
    table: Table
    note: str = ""
    stacked: bool = False
    section: str = "speed"


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's own defaults with ours on top, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def axes(width: float, height: float, *, left_px: float, xlabel: str = "") -> Axes:
    """Empty axes on a canvas of that many inches, with room for labels left and below.

    Without ``xlabel`` there are no labels below: those of a drawing further down hold.
    """
    canvas = Canvas(figsize=(width, height))
    FigureCanvasSVG(canvas)
    made = canvas.subplots()
    canvas.subplots_adjust(
        left=left_px / (72 * width),
        right=1 - 0.25 / width,
        bottom=(0.5 if xlabel else 0.08) / height,
        top=1 - 0.1 / height,
    )
    # A single number of epochs has one tick, not fractions of an epoch around it.
    made.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9, min_n_ticks=1))
    made.set_xlabel(xlabel)
    if not xlabel:
        made.tick_params(labelbottom=False)
    return made


def time_unit(longest_s: float) -> tuple[str, float]:
    """The unit in which a time axis of that length reads best, and its seconds."""
    units = (("hours", 3_600.0), ("minutes", 60.0))
    return next((unit for unit in units if longest_s >= 10 * unit[1]), ("seconds", 1.0))


EDGE = 0.03
"""The part of an axis, at its end, where a long number has no room."""


def plain_numbers(*axes: Axis) -> None:
    """Write the numbers of logarithmic axes out: powers of ten, on a short axis 2 and 5 as well."""
    for axis in axes:
        low, high = axis.get_view_interval()
        subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
        axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
        # The last number of a row would stand out of the drawing.
        last = high ** (1 - EDGE) * low**EDGE if isinstance(axis, XAxis) else high
        axis.set_major_formatter(
            FuncFormatter(lambda value, _, last=last: f"{value:,.10g}" if value <= last else "")
        )
        axis.set_minor_formatter(NullFormatter())


def fit(drawn: Axes, *, share: bool) -> None:
    """Give a lone point axes around it; a ``share`` of one has no axis beyond 0 and 1."""
    low, high = drawn.dataLim.intervalx
    if low == high:
        drawn.set_xlim(low - 0.5, high + 0.5)
    low, high = drawn.get_ylim()
    if not share:
        return
    if high - low < LEAST_SPAN:
        low, high = (low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2
    drawn.set_ylim(max(low, 0.0), min(high, 1.0))


def svg(drawn: Axes, name: str) -> str:
    """The drawing as an ``<svg>`` element: ids start with ``name``, colours are variables."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    drawn.get_figure(root=True).savefig(buffer, format="svg", metadata=nothing)  # type: ignore[union-attr]
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    head, body = text.split(">", 1)
    head = re.sub(r'\s(width|height|version|xmlns(:xlink)?)="[^"]*"', "", head)
    text = f"{head}>{body}".replace("xlink:href", "href")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return re.sub(r"[ \t]+\n", "\n", text).strip()
