"""The figures of the report, each with a legend, a data table and an alternative text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any, TypeVar

from matplotlib.axes import Axes

from trainbench.reporting.page import drawing, tables
from trainbench.reporting.page.drawing import (
    HALF,
    INK,
    MUTED,
    SERIES,
    TARGET,
    WIDE,
    Figure,
    Key,
    Panel,
)
from trainbench.reporting.page.tables import Table
from trainbench.reporting.records import Phase, Results, Trial, typical
from trainbench.reporting.text import fixed, plural, seconds

T = TypeVar("T")
MOST_DOTS = 30
MOST_CURVES = 100
MOST_POINTS = 400


def figures(results: Results) -> list[Figure]:
    """The figures that the results can fill, in the order of the page."""
    with drawing.style():
        drawn = [quality(results), times(results), timeline(results)]
        drawn += results.sections.figures(results)
    return [figure for figure in drawn if figure]


def quality(results: Results) -> Figure | None:
    """The quality after each epoch of every trial, with the target, and what is drawn beside it."""
    trials, name = [t for t in results.trials if t.epochs], results.quality.name
    if not trials:
        return None
    shown = dict([(name, "quality"), *filter(None, [results.sections.second])])
    width = HALF if len(shown) > 1 else WIDE
    drawn = {title: drawing.axes(width, 3.0, left_px=36, xlabel="epoch") for title in shown}
    for title, field in shown.items():
        curves(drawn[title], trials, field)
    keys = trial_keys(trials)
    if results.target is not None:
        drawn[name].axhline(results.target, color=TARGET, linewidth=1.2, linestyle=(0, (5, 3)))
        keys.append(Key("--target", "dashed", f"target {results.target:g}"))
    label, curve = results.sections.curve(results)
    if curve:
        drawn[name].plot(range(len(curve)), curve, color=MUTED, linewidth=1.2, linestyle=":")
        keys.append(Key("--muted", "dotted", label))
    words = f"{' and '.join(shown)} by epoch for {plural(len(trials), 'trial')}"
    return Figure(
        "quality",
        f"Quality after each {results.quality.every}",
        f"{words}; best {name} {fixed(results.best)}",
        panels(drawn, "quality"),
        tuple(keys),
        tables.quality(results),
    )


def times(results: Results) -> Figure | None:
    """The times to train of the trials that reached the target; only for two or more."""
    values = sorted(t.time_s for t in results.trials if t.time_s is not None)
    if len(values) < 2:
        return None
    dots = len(values) <= MOST_DOTS
    height = 0.95 + 0.14 * max(_stacked(values)) if dots else 2.4
    drawn = drawing.axes(WIDE, height, left_px=14 if dots else 40, xlabel="seconds to train")
    if dots:
        _dots(drawn, values)
    else:
        drawn.hist(values, bins="fd", color=SERIES[0])
    middle = median(values)
    drawn.axvline(middle, color=INK, linewidth=1.2)
    keys = (
        Key("--series-0", "dot" if dots else "bar", "one trial" if dots else "trials"),
        Key("--ink", "rule", f"median {seconds(middle)}"),
    )
    spread = f"{seconds(values[0])} to {seconds(values[-1])}"
    return Figure(
        "times",
        "Times to train",
        f"Times to train of {len(values)} trials: {spread}, median {seconds(middle)}",
        panels({"": drawn}, "times"),
        keys,
        Table(("Rank", "Time to train"), _ranked(values), numeric_from=0),
    )


def _ranked(values: Sequence[float]) -> tuple[tuple[str, ...], ...]:
    return tuple((str(rank), seconds(value)) for rank, value in enumerate(values, start=1))


def _dots(drawn: Axes, values: Sequence[float]) -> None:
    heights = _stacked(values)
    drawn.plot(values, heights, "o", color=SERIES[0], markersize=8)
    drawn.set_ylim(-0.8, max(heights) + 0.8)
    drawn.set_yticks([])
    drawn.spines["left"].set_visible(False)
    drawn.margins(x=0.05)


def _stacked(values: Sequence[float]) -> list[int]:
    """Heights that keep dots of nearly equal ``values`` (sorted) from hiding each other."""
    gap = (values[-1] - values[0]) / 60
    heights: list[int] = []
    for i, value in enumerate(values):
        near = i > 0 and value - values[i - 1] <= gap
        heights.append(heights[-1] + 1 if near else 0)
    return heights


def timeline(results: Results) -> Figure | None:
    """When each phase of one trial ran, from ``run_start``, and what was on the clock."""
    trial = typical(results.trials)
    if trial is None:
        return None
    spans = _merged(trial.placed_phases)
    names = list(dict.fromkeys(str(p.name).replace("_", " ") for p in spans))
    margin = 14 + 6.4 * max(map(len, names))
    drawn = drawing.axes(
        WIDE, 0.7 + 0.26 * len(names), left_px=margin, xlabel="seconds since run_start"
    )
    for phase in spans:
        _bar(drawn, phase, names.index(str(phase.name).replace("_", " ")), trial.zero_s or 0.0)
    drawn.set_yticks(range(len(names)), names)
    drawn.set_ylim(len(names) - 0.4, -0.6)
    drawn.grid(visible=False, axis="y")
    drawn.grid(visible=True, axis="x")
    for edge in (0.0, trial.time_on_clock_s):
        if edge is not None:
            drawn.axvline(edge, color=INK, linewidth=1)
    keys = (
        Key("--series-0", "bar", "on the clock"),
        Key("--muted", "hollow", "off the clock"),
        Key("--ink", "rule", "run_start, run_stop"),
    )
    return Figure(
        "timeline",
        f"Where the time went (trial {trial.index})",
        f"Phases of trial {trial.index}: {seconds(trial.time_on_clock_s)} on the clock",
        panels({"": drawn}, "timeline"),
        keys,
        tables.phases(trial),
    )


def _merged(spans: Sequence[Phase]) -> list[Phase]:
    """The phases, with those of one name joined that no page has the width to keep apart."""
    if len(spans) <= MOST_POINTS:
        return list(spans)
    ends = [(p.start_unix_s or 0.0) + (p.duration_s or 0.0) for p in spans]
    gap = (max(ends) - min(p.start_unix_s or 0.0 for p in spans)) / MOST_POINTS
    merged: list[Phase] = []
    last: dict[tuple[str | None, bool | None], int] = {}
    for phase, end in zip(spans, ends, strict=True):
        kind = (phase.name, phase.timed)
        if kind in last:
            before = merged[last[kind]]
            start = before.start_unix_s or 0.0
            if (phase.start_unix_s or 0.0) - start - (before.duration_s or 0.0) <= gap:
                merged[last[kind]] = replace(before, duration_s=end - start)
                continue
        last[kind] = len(merged)
        merged.append(phase)
    return merged


def _bar(drawn: Axes, phase: Phase, row: int, zero: float) -> None:
    face, edge = (SERIES[0], SERIES[0]) if phase.timed else ("none", MUTED)
    left = (phase.start_unix_s or 0.0) - zero
    drawn.barh(
        row,
        phase.duration_s or 0.0,
        left=left,
        height=0.6,
        color=face,
        edgecolor=edge,
        linewidth=0.8,
    )


def panels(drawn: dict[str, Axes], name: str) -> tuple[Panel, ...]:
    """The drawings that have something in them."""
    drawn = {title: axes for title, axes in drawn.items() if axes.has_data()}
    return tuple(
        Panel(title, drawing.svg(axes, f"{name}{i}"))
        for i, (title, axes) in enumerate(drawn.items())
    )


def curves(drawn: Axes, trials: Sequence[Trial], name: str, scale: float = 1.0) -> None:
    """One line a trial, of ``drawn_trials``; a lone epoch is still seen, as a dot."""
    trials = drawn_trials(trials)
    for trial, style in zip(trials, styles(trials), strict=True):
        points = [
            (e.epoch, value * scale)
            for e in trial.epochs
            if e.epoch is not None and (value := getattr(e, name)) is not None
        ]
        shown = thinned(points, MOST_POINTS)
        if shown:
            marker = "o" if len(trials) <= MOST_DOTS or len(shown) == 1 else None
            drawn.plot([x for x, _ in shown], [y for _, y in shown], marker=marker, **style)


def drawn_trials(trials: Sequence[Trial]) -> Sequence[Trial]:
    """The trials of which a figure has a curve: all, or as many spread evenly over them."""
    return thinned(trials, MOST_CURVES)


def thinned(values: Sequence[T], most: int) -> Sequence[T]:
    """At most ``most`` of the values, evenly spaced, with the first and the last."""
    if len(values) <= most:
        return values
    last = len(values) - 1
    return [values[round(i * last / (most - 1))] for i in range(most)]


def styles(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One colour a trial while colours last; beyond, one for those that reached the target."""
    if len(trials) <= len(SERIES):
        return [{"color": SERIES[i]} for i in range(len(trials))]
    reached = {"color": SERIES[0], "alpha": 0.45, "linewidth": 0.9, "markersize": 2}
    short = {"color": SERIES[1], "alpha": 0.8, "linewidth": 1.1, "markersize": 2}
    return [reached if t.reached else short for t in trials]


def trial_keys(trials: Sequence[Trial]) -> list[Key]:
    """The legend of ``styles``."""
    if len(trials) <= len(SERIES):
        return [Key(f"--series-{i}", "solid", f"trial {t.index}") for i, t in enumerate(trials)]
    keys = [Key("--series-0", "solid", "reached the target"), Key("--series-1", "solid", "did not")]
    drawn = len(drawn_trials(trials))
    if drawn < len(trials):
        keys.append(Key("--muted", "hollow", f"{drawn} of {len(trials):,} trials are drawn"))
    return keys
