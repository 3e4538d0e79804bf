"""The figures of the report, each with a legend, a data table and an alternative text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, TypeVar

from matplotlib.axes import Axes

from trainbench.reporting.page import drawing, machine, tables
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
from trainbench.reporting.records import Phase, Results, Trial
from trainbench.reporting.text import fixed, of_target, plural, seconds

T = TypeVar("T")
MOST_DOTS = 30
MOST_CURVES = 100
MOST_POINTS = 400


def figures(results: Results) -> list[Figure]:
    """The figures that the results can fill, in the order of the page."""
    with drawing.style():
        drawn = [quality(results), second(results), times(results), timeline(results)]
        drawn += [machine.figure(results), *results.sections.figures(results)]
    return [figure for figure in drawn if figure]


def quality(results: Results) -> Figure | None:
    """The quality of every trial after each epoch and after each second, with the target."""
    trials, name = [t for t in results.trials if t.epochs], results.quality.name
    if not trials:
        return None
    unit, size = drawing.time_unit(max(map(_last_s, trials)))
    every = results.quality.every
    by_epoch = drawing.axes(HALF, 3.0, left_px=36, xlabel="epoch")
    by_time = drawing.axes(HALF, 3.0, left_px=36, xlabel=f"{unit} since run_start")
    curves(by_epoch, trials, "quality")
    curves(by_time, trials, "quality", at=lambda t, e: _scaled(t.elapsed_s(e), size))
    keys = trial_keys(trials)
    label, curve = results.sections.curve(results)
    if curve:
        by_epoch.plot(range(len(curve)), curve, color=MUTED, linewidth=1.2, linestyle=":")
        keys.append(Key("--muted", "dotted", label))
    drawn = {f"{name} by epoch": by_epoch, f"{name} by time": by_time}
    drawn = {title: axes for title, axes in drawn.items() if axes.has_data()}
    for axes in drawn.values():
        _with_target(axes, results)
    if by_time.has_data():
        by_time.set_xlim(left=0)
    if results.target is not None:
        keys.append(Key("--target", "dashed", f"target {results.target:g}"))
    words = f"{name} by epoch and by time for {plural(len(trials), 'trial')}"
    best = of_target(results.best, results.target)
    return Figure(
        "quality",
        f"Quality after each {every}, and when",
        f"{words}; best {best}, target {fixed(results.target, 3)}",
        panels(drawn, "quality"),
        tuple(keys),
        tables.quality(results),
        section="quality",
    )


def _with_target(drawn: Axes, results: Results) -> None:
    values = [q for t in results.trials for e in t.epochs if (q := e.quality) is not None]
    if results.target is not None:
        drawn.axhline(results.target, color=TARGET, linewidth=1.2, linestyle=(0, (5, 3)))
        values.append(results.target)
    drawing.fit(drawn, share=all(0 <= value <= 1 for value in values))


def _last_s(trial: Trial) -> float:
    """When the last quality of a trial was known."""
    return max((at for e in trial.epochs if (at := trial.elapsed_s(e)) is not None), default=0.0)


def _scaled(value: float | None, size: float) -> float | None:
    return None if value is None else value / size


def second(results: Results) -> Figure | None:
    """What is measured beside the quality, after each epoch of every trial."""
    trials = [t for t in results.trials if t.epochs]
    if not trials or results.sections.second is None:
        return None
    name, field = results.sections.second
    drawn = drawing.axes(WIDE, 2.2, left_px=36, xlabel="epoch")
    curves(drawn, trials, field)
    if not drawn.has_data():
        return None
    drawing.fit(drawn, share=drawn.dataLim.y0 >= 0 and drawn.dataLim.y1 <= 1)
    best = drawn.dataLim.y1
    return Figure(
        "second",
        f"{name} after each {results.quality.every}",
        f"{name} by epoch for {plural(len(trials), 'trial')}; best {fixed(best)}",
        panels({"": drawn}, "second"),
        tuple(trial_keys(trials)),
        tables.by_epoch(results, field),
        section="quality",
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
        section="time",
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
    shown = machine.shown(results)
    if shown is None:
        return None
    trial, spans = shown.trial, _merged(shown.phases)
    names = list(dict.fromkeys(machine.name_of(phase) for phase in spans))
    drawn = drawing.axes(
        WIDE,
        0.7 + 0.26 * len(names),
        left_px=shown.left_px,
        xlabel=f"{shown.unit} since run_start",
    )
    for phase in spans:
        _bar(drawn, phase, names.index(machine.name_of(phase)), shown)
    drawn.set_xlim(*shown.limits)
    drawn.set_yticks(range(len(names)), names)
    drawn.set_ylim(len(names) - 0.4, -0.6)
    drawn.grid(visible=False, axis="y")
    drawn.grid(visible=True, axis="x")
    shown.mark_clock(drawn)
    keys = (
        Key("--series-0", "bar", "on the clock"),
        Key("--muted", "hollow", "off the clock"),
        Key("--ink", "rule", "run_start, run_stop"),
    )
    return Figure(
        "timeline",
        f"Phases of trial {trial.index}",
        f"When each phase ran; {seconds(trial.time_on_clock_s)} were on the clock",
        panels({"": drawn}, "timeline"),
        keys,
        tables.phases(trial, shown.phases),
        note=shown.why,
        section="time",
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


def _bar(drawn: Axes, phase: Phase, row: int, shown: machine.Shown) -> None:
    face, edge = (SERIES[0], SERIES[0]) if phase.timed else ("none", MUTED)
    left, width = shown.span(phase)
    drawn.barh(row, width, left=left, height=0.6, color=face, edgecolor=edge, linewidth=0.8)


def panels(drawn: dict[str, Axes], name: str) -> tuple[Panel, ...]:
    """The drawings that have something in them."""
    drawn = {title: axes for title, axes in drawn.items() if axes.has_data()}
    return tuple(
        Panel(title, drawing.svg(axes, f"{name}{i}"))
        for i, (title, axes) in enumerate(drawn.items())
    )


def curves(
    drawn: Axes,
    trials: Sequence[Trial],
    name: str,
    scale: float = 1.0,
    at: Callable[[Trial, Any], float | None] = lambda trial, epoch: epoch.epoch,
) -> None:
    """One line a trial, of ``drawn_trials``; a lone epoch is still seen, as a dot.

    ``at`` is where an epoch of a trial is on the axis of the epochs.
    """
    trials = drawn_trials(trials)
    for trial, style in zip(trials, styles(trials), strict=True):
        points = [
            (x, value * scale)
            for e in trial.epochs
            if (x := at(trial, e)) is not None and (value := getattr(e, name)) is not None
        ]
        shown = thinned(points, MOST_POINTS)
        if shown:
            marker = "o" if len(trials) <= MOST_DOTS or len(shown) == 1 else None
            xs, ys = zip(*shown, strict=True)
            # Nothing lies outside, and a dot on the edge is seen whole.
            drawn.plot(xs, ys, marker=marker, clip_on=False, **style)


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
