"""The plot of a sweep: images per second over batch size, a panel for each number format."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from trainbench.files import write_atomically
from trainbench.reporting.page.drawing import MUTED, SERIES, style

Row = Mapping[str, str]
_PANEL, _HEIGHT = 4.2, 3.6
_WIDE = 30
"""Speeds further apart than this share a logarithmic axis: small ones would be invisible."""
_MARKERS = "osD^vP"


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draw the rows of a sweep's CSV file into the PNG file ``path``.

    Bars are confidence intervals, where runs were repeated; runs that failed are left out.
    """
    measured = [row for row in rows if row["status"] == "ok"]
    precisions = list(dict.fromkeys(row["precision"] for row in measured)) or ["nothing measured"]
    models = list(dict.fromkeys(row["model"] for row in measured))
    with style():
        figure = Figure(figsize=(_PANEL * len(precisions), _HEIGHT), layout="constrained", dpi=144)
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(precisions), sharey=True, squeeze=False)[0]
        for panel, precision in zip(panels, precisions, strict=True):
            _panel(panel, [row for row in measured if row["precision"] == precision], models)
            panel.set_title(precision, loc="left", fontsize=11)
        panels[0].set_ylabel("images/sec")
        speeds = [float(row["images_per_sec"]) for row in measured]
        if measured and max(speeds) > _WIDE * min(speeds):
            panels[0].set_yscale("log")
            panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        else:
            panels[0].set_ylim(bottom=0)
        if measured:
            panels[-1].legend(frameon=False)
        content = io.BytesIO()
        figure.savefig(content, format="png", facecolor="white", metadata={"Software": None})
    write_atomically(path, content.getvalue())


def _panel(panel: Axes, rows: Sequence[Row], models: Sequence[str]) -> None:
    sizes: set[int] = set()
    for index, model in enumerate(models):
        own = sorted(
            (row for row in rows if row["model"] == model),
            key=lambda row: int(row["global_batch_size"]),
        )
        x = [int(row["global_batch_size"]) for row in own]
        y = [float(row["images_per_sec"]) for row in own]
        reach = [
            float(row["ci95_high"]) - float(row["images_per_sec"]) if row["ci95_high"] else 0.0
            for row in own
        ]
        colour, marker = SERIES[index % len(SERIES)], _MARKERS[index % len(_MARKERS)]
        bars = reach if any(reach) else None
        panel.errorbar(x, y, yerr=bars, color=colour, marker=marker, capsize=3, label=model)
        sizes.update(x)
    panel.set_xlabel("batch size (all devices)")
    if sizes:
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(FixedLocator(sorted(sizes)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticklabels([str(size) for size in sorted(sizes)])
    else:
        panel.text(
            0.5, 0.5, "no run succeeded", transform=panel.transAxes, ha="center", color=MUTED
        )
