"""What the report of image classification has beside the common page: evaluations and steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from trainbench.files import fill
from trainbench.reporting.page import drawing, plots
from trainbench.reporting.page.drawing import WIDE, Figure, Panel
from trainbench.reporting.page.tables import Table
from trainbench.reporting.records import LoggedEpoch, Phase, Results, Trial
from trainbench.reporting.sections import Answer, Measure, Rate, Reading, Sections
from trainbench.reporting.sources import Source
from trainbench.reporting.text import NA, count, fixed, plural
from trainbench.trials.paths import TrialDir
from trainbench.trials.status import Status

TRAINING = "train_and_evaluate"
"""The phase of phases.jsonl that result.json divides further."""
PASSES = 3
"""Of a network in a step: forward, and backward to the weights and to the inputs."""
SMOOTHED_STEPS = 20
BINS = 60
# Fields of an evaluation by their names in result.json.
_KEYS = {
    "step": "global_step",
    "top_1": "top_1_accuracy",
    "top_5": "top_5_accuracy",
    "speed": "images_per_sec",
}


@dataclass(frozen=True)
class ImagesStatus(Status):
    """What status.json says beside what every benchmark's does."""

    evaluations: int | None
    num_parameters: int | None


@dataclass(frozen=True)
class Evaluation:
    """One point of the accuracy curve, over ``examples`` images; ``speed`` is in images/s."""

    epoch: float | None
    step: int | None
    unix_s: float | None
    top_1: float | None
    top_5: float | None
    examples: int | None
    speed: float | None

    @property
    def quality(self) -> float | None:
        """Top-1."""
        return self.top_1


@dataclass(frozen=True)
class Startup:
    """What a trial did before its steps; to compile is the first step, less its tracing."""

    build_s: float | None
    trace_s: float | None
    compile_s: float | None


@dataclass(frozen=True)
class Measured:
    """What a trial's result.json says; empty where there is none."""

    trial: int
    batch_size: int
    images_per_s: float | None
    step_times_s: tuple[float, ...]
    evaluations: tuple[Evaluation, ...]
    startup: Startup
    flops_per_image: float | None
    peak_flops_per_s: float | None

    def percentiles(self) -> tuple[float, ...]:
        """Median, 90th and 99th percentile and the longest of the step times, in seconds."""
        return tuple(float(v) for v in np.percentile(self.step_times_s, (50, 90, 99, 100)))


@dataclass(frozen=True)
class _Result:
    """The numbers in result.json and in its ``stats``."""

    batch_size: int | None
    step_times_s: tuple[float, ...] | None
    images_per_sec: float | None
    flops_per_image: float | None
    peak_flops_per_s: float | None


def _read(source: Source, trial: TrialDir, logged: tuple[LoggedEpoch, ...]) -> Reading:
    record = source.mapping(trial.result)
    stats, evaluations = record.get("stats"), record.get("evaluations")
    startup = record.get("startup_s")
    result = fill(_Result, {**(stats if isinstance(stats, dict) else {}), **record})
    measured = Measured(
        trial=trial.index,
        batch_size=result.batch_size or 0,
        images_per_s=result.images_per_sec,
        step_times_s=tuple(s for s in result.step_times_s or () if s > 0),
        evaluations=tuple(
            fill(Evaluation, e, keys=_KEYS)
            for e in (evaluations if isinstance(evaluations, list) else ())
            if isinstance(e, dict)
        ),
        startup=fill(
            Startup,
            startup if isinstance(startup, dict) else {},
            keys={f"{name}_s": name for name in ("build", "trace", "compile")},
        ),
        flops_per_image=result.flops_per_image,
        peak_flops_per_s=result.peak_flops_per_s,
    )
    of_log = ({"epoch": e.epoch, "top_1": e.quality, "unix_s": e.unix_s} for e in logged)
    return measured.evaluations or tuple(fill(Evaluation, e) for e in of_log), measured


def _phases(trial: Trial) -> list[Phase]:
    """The recorded phases, with training and evaluation told apart by result.json."""
    found: list[Phase] = []
    for phase in trial.placed_phases:
        found += _parts(phase, trial.measured) if phase.name == TRAINING else [phase]
    return found


def _parts(phase: Phase, measured: Measured) -> Iterator[Phase]:
    """Start-up, and training and evaluation in turn; as it is where nothing tells them apart.

    An evaluation ends when its accuracy is known, and takes its images at its own speed.
    """
    at, end = phase.start_unix_s or 0.0, (phase.start_unix_s or 0.0) + (phase.duration_s or 0.0)
    known = [e for e in measured.evaluations if e.unix_s is not None and e.examples and e.speed]
    if not known or not all(at <= (e.unix_s or 0.0) <= end for e in known):
        yield phase
        return
    for name in ("build", "trace", "compile"):
        length = getattr(measured.startup, f"{name}_s") or 0.0
        if length > 0:
            yield replace(phase, name=name, start_unix_s=at, duration_s=length)
            at += length
    for evaluation in sorted(known, key=lambda e: e.unix_s or 0.0):
        stop = evaluation.unix_s or 0.0
        begun = max(at, stop - (evaluation.examples or 0) / (evaluation.speed or 1.0))
        yield replace(phase, name="train", start_unix_s=at, duration_s=begun - at)
        yield replace(phase, name="evaluate", start_unix_s=begun, duration_s=max(0.0, stop - begun))
        at = stop
    yield replace(phase, name="finish", start_unix_s=at, duration_s=max(0.0, end - at))


def _rates(results: Results) -> list[Rate]:
    """Training of each trial over its whole run, three times the operations of a forward pass."""
    found = []
    for trial in results.trials:
        own: Measured = trial.measured
        if own.images_per_s:
            flops = None if own.flops_per_image is None else PASSES * own.flops_per_image
            found.append(
                Rate(
                    trial.index,
                    "training",
                    "images/s",
                    own.images_per_s,
                    flops=flops,
                    flops_per_s=own.peak_flops_per_s,
                )
            )
    return found


def _timed(results: Results) -> list[Trial]:
    return [t for t in results.trials if t.measured.step_times_s and t.measured.batch_size]


def _images_per_s(results: Results) -> float | None:
    """Over whole runs, the median of all trials."""
    speeds = [t.measured.images_per_s for t in results.trials if t.measured.images_per_s]
    return median(speeds) if speeds else None


def _speed(results: Results) -> Answer:
    speed = _images_per_s(results)
    if speed is None:
        return Answer("Training speed", NA)
    detail = "over the whole run, compiling and evaluations included"
    return Answer("Training speed", f"{fixed(speed, 1)} images/s", detail)


def _milliseconds(values: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{1e3 * value:,.1f} ms" for value in values)


def _steps(results: Results) -> Table:
    """Times of the training steps of each trial."""
    columns = ("Trial", "Steps", "Median", "p90", "p99", "Longest")
    speeds = ("Images/s, median step", "Images/s, whole run")
    rows = tuple(
        (
            str(t.index),
            count(len(t.measured.step_times_s)),
            *_milliseconds(t.measured.percentiles()),
            fixed(t.measured.batch_size / median(t.measured.step_times_s), 1),
            fixed(t.measured.images_per_s, 1),
        )
        for t in _timed(results)
    )
    return Table((*columns, *speeds), rows)


def _startup(results: Results) -> Table:
    """What each trial did before its steps."""
    columns = ("Trial", "Build", "Trace", "Compile")
    starts = ((trial.index, trial.measured.startup) for trial in _timed(results))
    rows = tuple(
        (
            str(index),
            *(_seconds(value) for value in (start.build_s, start.trace_s, start.compile_s)),
        )
        for index, start in starts
    )
    return Table(columns, rows)


def _seconds(value: float | None) -> str:
    return NA if value is None else f"{fixed(value, 1)} s"


def _figures(results: Results) -> list[Figure]:
    trials = _timed(results)
    return [_speed_by_step(trials), _step_times(trials)] if trials else []


def _speed_by_step(trials: Sequence[Trial]) -> Figure:
    drawn = drawing.axes(WIDE, 2.4, left_px=40, xlabel="step")
    shown = plots.drawn_trials(trials)
    for trial, style in zip(shown, plots.styles(shown), strict=True):
        times = np.asarray(trial.measured.step_times_s)
        whole = len(times) // SMOOTHED_STEPS * SMOOTHED_STEPS
        groups = times[:whole].reshape(-1, SMOOTHED_STEPS) if whole else times[np.newaxis]
        steps = (np.arange(len(groups)) + 1) * groups.shape[1]
        marker = "o" if len(groups) == 1 else None
        drawn.plot(steps, trial.measured.batch_size / groups.mean(1), marker=marker, **style)
    drawing.fit(drawn, share=False)
    drawn.set_ylim(bottom=0)
    rows = tuple(
        (str(t.index), f"{t.measured.batch_size / s:,.1f}", *_milliseconds([s]))
        for t in trials
        for s in t.measured.percentiles()[:1]
    )
    return Figure(
        "speed",
        f"Images per second, mean of {SMOOTHED_STEPS} steps",
        f"Training speed by step of {plural(len(trials), 'trial')}",
        (Panel("", drawing.svg(drawn, "speed0")),),
        tuple(plots.trial_keys(trials)),
        Table(("Trial", "Images/s at the median step", "Median step"), rows),
    )


def _step_times(trials: Sequence[Trial]) -> Figure:
    label = "milliseconds of a step, up to the 99th percentile"
    drawn = drawing.axes(WIDE, 2.4, left_px=40, xlabel=label)
    longest = max(t.measured.percentiles()[2] for t in trials)
    shortest = min(min(t.measured.step_times_s) for t in trials)
    edges = np.linspace(1e3 * shortest, 1e3 * longest, BINS + 1)
    shown = plots.drawn_trials(trials)
    for trial, style in zip(shown, plots.styles(shown), strict=True):
        counts, _ = np.histogram(1e3 * np.asarray(trial.measured.step_times_s), edges)
        drawn.stairs(counts, edges, color=style["color"], linewidth=1.4)
    rows = tuple((str(t.index), *_milliseconds(t.measured.percentiles())) for t in trials)
    return Figure(
        "steps",
        "How long steps took",
        f"Histogram of the step times of {plural(len(trials), 'trial')}",
        (Panel("", drawing.svg(drawn, "steps0")),),
        tuple(plots.trial_keys(trials)),
        Table(("Trial", "Median", "p90", "p99", "Longest"), rows),
    )


def _trial_columns(trial: Trial) -> Mapping[str, Any]:
    steps = trial.measured.step_times_s
    return {
        "images_per_s": trial.measured.images_per_s,
        "median_step_s": median(steps) if steps else None,
    }


def _task(config: Mapping[str, Any]) -> str:
    return f"{config.get('model', NA)} on {config.get('dataset', NA)}"


RESNET = Sections(
    task=_task,
    status=ImagesStatus,
    read=_read,
    epoch_columns=(
        ("Epoch", lambda e: fixed(e.epoch, 2)),
        ("Step", lambda e: count(e.step)),
        ("Top-1", lambda e: fixed(e.top_1)),
        ("Top-5", lambda e: fixed(e.top_5)),
        ("Images", lambda e: count(e.examples)),
        ("Images/s evaluated", lambda e: fixed(e.speed, 0)),
    ),
    second=("top-5", "top_5"),
    speed=_speed,
    rates=_rates,
    tables=lambda results: {"Steps": _steps(results), "Start-up": _startup(results)},
    figures=_figures,
    phases=_phases,
    trial_columns=_trial_columns,
    # The logged rate follows a schedule, which is not the setting of that name.
    logged={
        "batch_size": "input_batch_size",
        "momentum": "opt_momentum",
        "optimizer": "opt_name",
        "target_top_1": "eval_target",
        "weight_decay": "model_l2_regularization",
    },
    outcomes=(
        Measure(
            "images_per_s",
            "Training, median images/s",
            "images/s",
            _images_per_s,
            lambda value: fixed(value, 1),
        ),
    ),
    behind={
        "strict/resnet/value/eval_target": ("target_top_1",),
        "strict/resnet/value/eval_size": ("dataset",),
        "strict/resnet/value/preproc_num_train_examples": ("dataset",),
        "strict/resnet/value/preproc_num_eval_examples": ("dataset",),
    },
)
