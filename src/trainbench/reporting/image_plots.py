"""The figures of a run of image classification, and the measurements behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainbench.reporting import drawing
from trainbench.reporting.drawing import HALF, SERIES, TARGET, WIDE, Panel
from trainbench.reporting.plots import Figure, Key
from trainbench.reporting.tables import Table
from trainbench.reporting.text import fixed, plural

SMOOTHED_STEPS = 20
BINS = 60


@dataclass(frozen=True)
class Evaluation:
    """One point of the accuracy curve; ``speed`` is in images per second."""

    epoch: float
    step: int
    unix_s: float
    top_1: float
    top_5: float
    speed: float


@dataclass(frozen=True)
class Measured:
    """What a trial's result.json says; empty where there is none."""

    trial: int
    batch_size: int
    images_per_s: float | None
    step_times_s: tuple[float, ...]
    evaluations: tuple[Evaluation, ...]

    @classmethod
    def of(cls, trial: int, record: Mapping[str, Any]) -> Measured:
        """The measurements in the content of a result.json."""
        stats = record.get("stats") or {}
        return cls(
            trial=trial,
            batch_size=int(record.get("batch_size") or 0),
            images_per_s=stats.get("images_per_sec"),
            step_times_s=tuple(record.get("step_times_s") or ()),
            evaluations=tuple(_evaluation(e) for e in record.get("evaluations") or ()),
        )

    def percentiles(self) -> tuple[float, ...]:
        """Median, 90th and 99th percentile and the longest of the step times, in seconds."""
        return tuple(float(v) for v in np.percentile(self.step_times_s, (50, 90, 99, 100)))


def _evaluation(record: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        epoch=float(record["epoch"]),
        step=int(record["global_step"]),
        unix_s=float(record["unix_s"]),
        top_1=float(record["top_1_accuracy"]),
        top_5=float(record["top_5_accuracy"]),
        speed=float(record["images_per_sec"]),
    )


def figures(measured: Sequence[Measured], target: float | None) -> list[Figure]:
    """The figures that the measurements can fill, in the order of the page."""
    evaluated = [m for m in measured if m.evaluations]
    timed = [m for m in measured if m.step_times_s and m.batch_size]
    with drawing.style():
        drawn = [_accuracy(evaluated, target) if evaluated else None]
        drawn += [_speed(timed), _step_times(timed)] if timed else []
    return [figure for figure in drawn if figure]


def _accuracy(measured: Sequence[Measured], target: float | None) -> Figure:
    top_1 = drawing.axes(HALF, 3.0, left_px=36, xlabel="epoch")
    top_5 = drawing.axes(HALF, 3.0, left_px=36, xlabel="epoch")
    for index, trial in enumerate(measured):
        epochs = [e.epoch for e in trial.evaluations]
        style: dict[str, Any] = {"marker": "o", "color": SERIES[index % len(SERIES)]}
        top_1.plot(epochs, [e.top_1 for e in trial.evaluations], **style)
        top_5.plot(epochs, [e.top_5 for e in trial.evaluations], **style)
    keys = _keys(measured)
    if target is not None:
        top_1.axhline(target, color=TARGET, linewidth=1.2, linestyle=(0, (5, 3)))
        keys.append(Key("--target", "dashed", f"target {target:g}"))
    best = max(e.top_1 for m in measured for e in m.evaluations)
    rows = tuple(
        (str(m.trial), fixed(e.epoch, 2), fixed(e.top_1), fixed(e.top_5))
        for m in measured
        for e in m.evaluations
    )
    return Figure(
        "accuracy",
        "Accuracy on the evaluation images",
        f"Top-1 and top-5 accuracy by epoch of {plural(len(measured), 'trial')}; best {best:.4f}",
        (
            Panel("Top-1", drawing.svg(top_1, "accuracy0")),
            Panel("Top-5", drawing.svg(top_5, "accuracy1")),
        ),
        tuple(keys),
        Table(("Trial", "Epoch", "Top-1", "Top-5"), rows, numeric_from=1),
    )


def _speed(measured: Sequence[Measured]) -> Figure:
    drawn = drawing.axes(WIDE, 2.4, left_px=40, xlabel="step")
    for index, trial in enumerate(measured):
        times = np.asarray(trial.step_times_s)
        whole = len(times) // SMOOTHED_STEPS * SMOOTHED_STEPS
        groups = times[:whole].reshape(-1, SMOOTHED_STEPS) if whole else times[np.newaxis]
        steps = (np.arange(len(groups)) + 1) * groups.shape[1]
        drawn.plot(steps, trial.batch_size / groups.mean(1), color=SERIES[index % len(SERIES)])
    drawn.set_ylim(bottom=0)
    rows = tuple(
        (str(m.trial), f"{m.batch_size / s:,.1f}", f"{1e3 * s:,.1f} ms")
        for m in measured
        for s in m.percentiles()[:1]
    )
    return Figure(
        "speed",
        f"Images per second, mean of {SMOOTHED_STEPS} steps",
        f"Training speed by step of {plural(len(measured), 'trial')}",
        (Panel("", drawing.svg(drawn, "speed0")),),
        tuple(_keys(measured)),
        Table(("Trial", "Images/s at the median step", "Median step"), rows),
    )


def _step_times(measured: Sequence[Measured]) -> Figure:
    label = "milliseconds of a step, up to the 99th percentile"
    drawn = drawing.axes(WIDE, 2.4, left_px=40, xlabel=label)
    longest = max(m.percentiles()[2] for m in measured)
    shortest = min(min(m.step_times_s) for m in measured)
    edges = np.linspace(1e3 * shortest, 1e3 * longest, BINS + 1)
    for index, trial in enumerate(measured):
        counts, _ = np.histogram(1e3 * np.asarray(trial.step_times_s), edges)
        drawn.stairs(counts, edges, color=SERIES[index % len(SERIES)], linewidth=1.4)
    rows = tuple((str(m.trial), *(f"{1e3 * s:,.1f} ms" for s in m.percentiles())) for m in measured)
    return Figure(
        "steps",
        "How long steps took",
        f"Histogram of the step times of {plural(len(measured), 'trial')}",
        (Panel("", drawing.svg(drawn, "steps0")),),
        tuple(_keys(measured)),
        Table(("Trial", "Median", "p90", "p99", "Longest"), rows),
    )


def _keys(measured: Sequence[Measured]) -> list[Key]:
    return [
        Key(f"--series-{index % len(SERIES)}", "solid", f"trial {trial.trial}")
        for index, trial in enumerate(measured)
    ]
