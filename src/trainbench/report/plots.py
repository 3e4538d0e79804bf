"""The figures of the report: SVG text that is the same for the same results.

matplotlib draws them with fixed ids, no date and text as text. Colours are CSS variables of the
page, so that one drawing is readable on a light and on a dark ground.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from trainbench.report import tables
from trainbench.report.model import Phase, Results, Trial
from trainbench.report.tables import Table
from trainbench.report.text import fixed, seconds

WIDTH = 7.2
INK, MUTED, LINE, TARGET, PAPER = "#111213", "#616263", "#d1d2d3", "#a11213", "#fefdfc"
SERIES = ("#1a5fb1", "#b1621a", "#2b7d4c", "#7c3fa1", "#8a6d1b", "#2b7f91")
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    TARGET: "--target",
    PAPER: "--paper",
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES)},
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trainbench",
    "figure.dpi": 72,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": LINE,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "path.simplify": False,
    "text.parse_math": False,
}
# HR@10 after each epoch of the v0.5 PyTorch reference (mlcommons/training@fe17e837): its example
# log on ml-20m, and a run on ml-1m with seed 1. Only comparable under the same hyperparameters.
REFERENCE_CURVES = {
    "ml-20m": (0.5750, 0.6051, 0.6191, 0.6253, 0.6262, 0.6342, 0.6359),
    "ml-1m": (0.1586, 0.1892, 0.2050, 0.2127, 0.2237, 0.2318),
}
SAME_CURVE = {"dataset", "target_hit_rate", "max_epochs"}
EXECUTION = {
    "xla", "devices", "deterministic", "steps_per_call", "eval_users_per_batch", "epochs_per_cycle",
    "cycles_ahead", "generator_workers", "use_subprocess", "drop_caches", "require_gpu",
}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """One entry of a figure's legend: a CSS variable, a stroke and what it stands for."""

    variable: str
    stroke: str
    label: str


@dataclass(frozen=True)
class Figure:
    """A drawing with everything a reader who cannot see it needs."""

    name: str
    title: str
    alt: str
    svg: str
    keys: tuple[Key, ...]
    table: Table


def figures(results: Results) -> list[Figure]:
    """The figures that the results can fill, in the order of the page."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        drawn = [quality(results), timeline(results), times(results), throughput(results)]
    return [figure for figure in drawn if figure]


def quality(results: Results) -> Figure | None:
    """HR@10 and NDCG@10 after each epoch of every trial, with the target."""
    trials = [t for t in results.trials if t.epochs]
    if not trials:
        return None
    canvas, (left, right) = _panels(2, height=3.4)
    for trial, style in zip(trials, _styles(trials), strict=True):
        _curve(left, trial, "hit_rate", style)
        _curve(right, trial, "ndcg", style)
    keys = _trial_keys(trials)
    if results.target is not None:
        left.axhline(results.target, color=TARGET, linewidth=1.2, linestyle=(0, (5, 3)))
        keys.append(Key("--target", "dashed", f"target {results.target:g}"))
    if reference := reference_curve(results):
        left.plot(
            range(len(reference)), reference, color=MUTED, linewidth=1, linestyle=":", marker="."
        )
        keys.append(Key("--muted", "dotted", "v0.5 PyTorch reference, one run"))
    left.set_title("HR@10")
    right.set_title("NDCG@10")
    best = max((t.best_hit_rate for t in trials if t.best_hit_rate is not None), default=None)
    alt = f"HR@10 and NDCG@10 by epoch for {len(trials)} trials; best HR@10 {fixed(best)}"
    table = tables.quality(results)
    return Figure(
        "quality", "Quality after each epoch", alt, _svg(canvas, "quality"), tuple(keys), table
    )


def reference_curve(results: Results) -> tuple[float, ...]:
    """The reference's HR@10 per epoch, where this run computes the same thing; else empty."""
    keys = {d.key for d in results.differences or ()} - SAME_CURVE - EXECUTION
    known = results.differences is not None and not keys
    return REFERENCE_CURVES.get(str(results.config.get("dataset")), ()) if known else ()


def timeline(results: Results) -> Figure | None:
    """When each phase of one trial ran, from ``run_start``, and what was on the clock."""
    trial = typical(results)
    if trial is None:
        return None
    zero = trial.zero_s or 0.0
    spans = [p for p in trial.phases if p.start_unix_s is not None and p.duration_s is not None]
    names = list(dict.fromkeys(p.name for p in spans))
    canvas, (axes,) = _panels(1, height=0.9 + 0.27 * len(names), left=0.20)
    for phase in spans:
        _bar(axes, phase, names.index(phase.name), zero)
    axes.set_yticks(range(len(names)), [str(name).replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("seconds since run_start")
    axes.axvline(0, color=INK, linewidth=1)
    if trial.time_on_clock_s is not None:
        axes.axvline(trial.time_on_clock_s, color=INK, linewidth=1)
    keys = (
        Key("--series-0", "solid", "on the clock"),
        Key("--muted", "hollow", "off the clock"),
        Key("--ink", "rule", "run_start, run_stop"),
    )
    alt = f"Phases of trial {trial.index}: {seconds(trial.time_on_clock_s)} on the clock"
    title = f"Where the time went (trial {trial.index})"
    return Figure("timeline", title, alt, _svg(canvas, "timeline"), keys, tables.phases(trial))


def typical(results: Results) -> Trial | None:
    """The trial with the median time to train; the first one with phases when none converged."""
    timed = sorted((t.time_s, t.index, t) for t in results.trials if t.time_s and _placed(t))
    if timed:
        return timed[(len(timed) - 1) // 2][2]
    return next((t for t in results.trials if _placed(t)), None)


def _placed(trial: Trial) -> bool:
    return any(p.start_unix_s is not None and p.duration_s is not None for p in trial.phases)


def _bar(axes: Axes, phase: Phase, row: int, zero: float) -> None:
    assert phase.start_unix_s is not None
    assert phase.duration_s is not None
    face, edge = (SERIES[0], SERIES[0]) if phase.timed else ("none", MUTED)
    left = phase.start_unix_s - zero
    axes.barh(
        row, phase.duration_s, left=left, height=0.62, color=face, edgecolor=edge, linewidth=0.8
    )


def times(results: Results) -> Figure | None:
    """The times to train of the trials that reached the target; only for two or more."""
    values = sorted(t.time_s for t in results.trials if t.time_s is not None)
    if len(values) < 2:
        return None
    dots = len(values) <= 30
    canvas, (axes,) = _panels(1, height=1.5 if dots else 2.4, left=0.04 if dots else 0.09)
    if dots:
        axes.plot(values, _stacked(values), "o", color=SERIES[0], markersize=7, alpha=0.8)
        axes.set_ylim(-0.5, max(_stacked(values)) + 1.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    else:
        axes.hist(values, bins="fd", color=SERIES[0], alpha=0.85)
        axes.set_ylabel("trials")
    middle = median(values)
    axes.axvline(middle, color=INK, linewidth=1.2)
    axes.set_xlabel("seconds from run_start to run_stop")
    axes.margins(x=0.06)
    keys = (
        Key("--series-0", "dot", "one trial" if dots else "trials"),
        Key("--ink", "rule", f"median {seconds(middle)}"),
    )
    alt = f"Times to train of {len(values)} trials: {seconds(values[0])} to {seconds(values[-1])}"
    rows = tuple((str(n), seconds(v)) for n, v in enumerate(values, start=1))
    table = Table(("Rank", "Time to train"), rows, numeric_from=0)
    return Figure("times", "Times to train", alt, _svg(canvas, "times"), keys, table)


def _stacked(values: Sequence[float]) -> list[int]:
    """Heights that keep dots of nearly equal ``values`` (sorted) from hiding each other."""
    gap = (values[-1] - values[0]) / 40
    heights: list[int] = []
    for i, value in enumerate(values):
        near = i > 0 and value - values[i - 1] < gap
        heights.append(heights[-1] + 1 if near else 0)
    return heights


def throughput(results: Results) -> Figure | None:
    """Training samples per second and seconds waited for input, per epoch of every trial."""
    trials = [t for t in results.trials if tables.mean_of(t, "samples_per_s") is not None]
    if not trials:
        return None
    canvas, (left, right) = _panels(2, height=2.6)
    top = max(e.samples_per_s or 0 for t in trials for e in t.epochs)
    unit, size = ("million", 1e6) if top >= 1e6 else ("thousand", 1e3)
    for trial, style in zip(trials, _styles(trials), strict=True):
        _curve(left, trial, "samples_per_s", style, scale=1 / size)
        _curve(right, trial, "input_wait_s", style)
    left.set_title(f"Training, {unit} samples per second")
    right.set_title("Waiting for input, seconds")
    for axes in (left, right):
        axes.set_ylim(bottom=0)
    rows = tuple(
        (str(t.index), *(f(tables.mean_of(t, name)) for f, name in tables.SPEEDS)) for t in trials
    )
    table = Table(("Trial", *tables.SPEED_NAMES), rows)
    alt = f"Training throughput and input wait by epoch for {len(trials)} trials"
    keys = tuple(_trial_keys(trials))
    return Figure(
        "throughput", "Throughput and input wait", alt, _svg(canvas, "throughput"), keys, table
    )


def _styles(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One colour a trial while colours last; beyond, one for those that reached the target."""
    if len(trials) <= len(SERIES):
        return [{"color": SERIES[i], "marker": "o"} for i in range(len(trials))]
    reached = {"color": SERIES[0], "alpha": 0.45, "linewidth": 1.0}
    short = {"color": SERIES[1], "alpha": 0.8, "linewidth": 1.2}
    return [reached if t.status.state == "converged" else short for t in trials]


def _trial_keys(trials: Sequence[Trial]) -> list[Key]:
    if len(trials) <= len(SERIES):
        return [Key(f"--series-{i}", "solid", f"trial {t.index}") for i, t in enumerate(trials)]
    return [Key("--series-0", "solid", "reached the target"), Key("--series-1", "solid", "did not")]


def _curve(axes: Axes, trial: Trial, name: str, style: dict[str, Any], scale: float = 1.0) -> None:
    points = [
        (e.epoch, value * scale)
        for e in trial.epochs
        if e.epoch is not None and (value := getattr(e, name)) is not None
    ]
    axes.plot([x for x, _ in points], [y for _, y in points], **style)


def _panels(number: int, *, height: float, left: float = 0.07) -> tuple[Canvas, Iterable[Axes]]:
    canvas = Canvas(figsize=(WIDTH, height))
    FigureCanvasSVG(canvas)
    axes = canvas.subplots(1, number, squeeze=False)[0]
    bottom, top = 0.55 / height, 1 - (0.35 if number > 1 else 0.1) / height
    canvas.subplots_adjust(left=left, right=0.985, bottom=bottom, top=top, wspace=0.2)
    for panel in axes:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        panel.tick_params(length=0)
        if number > 1:
            panel.set_xlabel("epoch")
    return canvas, axes


def _svg(canvas: Canvas, name: str) -> str:
    """The drawing as an ``<svg>`` element: ids start with ``name``, colours are variables."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"[ \t]+\n", "\n", svg).strip()
