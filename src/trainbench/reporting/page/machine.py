"""One trial second by second: its phases on the axis of the clock, and what it took meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from trainbench.machine.load import Sample
from trainbench.reporting.page import drawing
from trainbench.reporting.page.drawing import INK, MUTED, SERIES, WIDE, Figure, Key, Panel
from trainbench.reporting.page.tables import Table
from trainbench.reporting.records import Phase, Results, Trial, typical
from trainbench.reporting.text import count, gib, percent, seconds

MOST_POINTS, MOST_ROWS = 300, 60
# Phases that are shaded: those that took the longest; more tints could not be told apart.
TINTS = (SERIES[5], SERIES[4], SERIES[2])
STEAL_SHOWN = 0.005
GIB = 2.0**30


@dataclass(frozen=True)
class Shown:
    """The trial that drawings of one trial show, on one axis: in ``unit`` since ``run_start``."""

    trial: Trial
    why: str
    phases: tuple[Phase, ...]
    unit: str
    unit_s: float
    limits: tuple[float, float]
    left_px: float

    def at(self, unix_s: float) -> float:
        """A time on the axis."""
        return (unix_s - (self.trial.zero_s or 0.0)) / self.unit_s

    def span(self, phase: Phase) -> tuple[float, float]:
        """Begin and length of a phase on the axis."""
        return self.at(phase.start_unix_s or 0.0), (phase.duration_s or 0.0) / self.unit_s

    def mark_clock(self, drawn: Axes) -> None:
        """Draw when the clock began to run and when it stopped."""
        for edge in (0.0, self.trial.time_on_clock_s):
            if edge is not None:
                drawn.axvline(edge / self.unit_s, color=INK, linewidth=1)


def shown(results: Results) -> Shown | None:
    """The typical trial with its phases; ``None`` where no trial says when they were."""
    trial = typical(results.trials)
    if trial is None:
        return None
    phases = tuple(results.sections.phases(trial))
    zero = trial.zero_s or 0.0
    starts = [(p.start_unix_s or 0.0) - zero for p in phases]
    ends = [at + (p.duration_s or 0.0) for at, p in zip(starts, phases, strict=True)]
    low, high = min(0.0, *starts), max(trial.time_on_clock_s or 0.0, *ends)
    unit, unit_s = drawing.time_unit(high - low)
    room = 0.01 * (high - low) or 1.0
    return Shown(
        trial=trial,
        why=_why(results, trial),
        phases=phases,
        unit=unit,
        unit_s=unit_s,
        limits=((low - room) / unit_s, (high + room) / unit_s),
        left_px=14 + 6.4 * max(len(name_of(phase)) for phase in phases),
    )


def _why(results: Results, trial: Trial) -> str:
    """Why it is this trial that is shown; nothing where there is no other."""
    if len(results.trials) == 1:
        return ""
    reached = sum(t.time_s is not None for t in results.trials)
    if trial.time_s is None:
        return f"Trial {trial.index} is shown, the first with phases: none reached the target."
    if reached == 1:
        return f"Trial {trial.index} is shown, the only one that reached the target."
    middle = "the median" if reached % 2 else "the lower of the two in the middle"
    return (
        f"Trial {trial.index} is shown: its time to train, {seconds(trial.time_s)}, is {middle} of "
        f"the {reached} that reached the target."
    )


def name_of(phase: Phase) -> str:
    """A phase in words."""
    return str(phase.name).replace("_", " ")


@dataclass(frozen=True)
class Line:
    """One measure of one chart: how it is called, drawn and taken from a look at the machine."""

    label: str
    colour: str
    value: Callable[[Sample], float | None]
    key: str = ""


@dataclass(frozen=True)
class Track:
    """One chart: its heading, the top of its axis (``None``: as the values are) and its lines."""

    title: str
    lines: tuple[Line, ...]
    top: float | None = None


def figure(results: Results) -> Figure | None:
    """CPU, memory, GPU and power while the shown trial ran, as far as they were measured."""
    trial = shown(results)
    samples = [s for s in results.samples if s.unix_s is not None and s.interval_s is not None]
    if trial is None or not samples:
        return None
    samples = [s for s in samples if trial.limits[0] <= _middle(trial, s) <= trial.limits[1]]
    measured = [track for track in tracks(samples) if track.lines]
    if not measured:
        return None
    binned = list(_bins(samples, MOST_POINTS))
    tints = _tints(trial.phases)
    drawn = [_drawn(t, trial, binned, tints, last=t is measured[-1]) for t in measured]
    lines = {(line.key or line.label): line for track in measured for line in track.lines}
    keys = [Key(drawing.VARIABLES[line.colour], "solid", key) for key, line in lines.items()]
    keys += [Key(drawing.VARIABLES[tint], "shade", name) for name, tint in tints.items()]
    return Figure(
        "machine",
        f"The machine while trial {trial.trial.index} ran",
        _alt(trial.trial, measured),
        tuple(
            Panel(track.title, drawing.svg(axes, f"machine{i}"))
            for i, (track, axes) in enumerate(zip(measured, drawn, strict=True))
        ),
        tuple(keys),
        _table(trial, measured, list(_bins(samples, MOST_ROWS))),
        note=trial.why,
        stacked=True,
        section="time",
    )


def tracks(samples: Sequence[Sample]) -> list[Track]:
    """The charts, each with the lines of which ``samples`` have a value."""
    cpus = max((s.cpus or 0 for s in samples), default=0)
    gpus = max((len(s.gpus or ()) for s in samples), default=0)
    stolen = any((s.steal_cpu or 0.0) >= STEAL_SHOWN for s in samples)
    cpu = [
        Line("this trial, % of CPU", SERIES[0], _times("own_cpu", 100), "this trial"),
        Line("other processes, % of CPU", SERIES[1], _times("foreign_cpu", 100), "other processes"),
    ]
    if stolen:
        steal = "other virtual machines (steal)"
        cpu.append(Line(f"{steal}, % of CPU", MUTED, _times("steal_cpu", 100), steal))
    resident = Line("memory, GiB", SERIES[0], _times("resident_bytes", 1 / GIB), "this trial")
    several = "GPUs" if gpus > 1 else "GPU"
    each = [_gpu_line(i, gpus) for i in range(gpus)]
    memory = Line(f"{several} memory, GiB", SERIES[3], _gpu_sum("memory_bytes", 1 / GIB), several)
    power = [
        Line(f"{several}, W", SERIES[3], _gpu_sum("power_w"), several),
        Line("CPU packages, W", SERIES[1], _cpu_power, "CPU packages"),
    ]
    charts = (
        Track(f"CPU, percent of the time of {count(cpus)} CPUs", tuple(cpu), 100.0),
        Track("Memory of the trial's processes, GiB", (resident,)),
        Track(f"{several} at work, percent", tuple(each), 100.0),
        Track(f"Memory of the {several}, GiB", (memory,)),
        Track("Power, W", tuple(power)),
    )
    return [Track(t.title, tuple(_measured(t.lines, samples)), t.top) for t in charts]


def _measured(lines: Iterable[Line], samples: Sequence[Sample]) -> Iterator[Line]:
    return (line for line in lines if any(line.value(s) is not None for s in samples))


def _times(name: str, factor: float) -> Callable[[Sample], float | None]:
    def value(sample: Sample) -> float | None:
        found = getattr(sample, name)
        return None if found is None else found * factor

    return value


def _gpu_line(index: int, gpus: int) -> Line:
    def value(sample: Sample) -> float | None:
        of_all = sample.gpus or ()
        found = of_all[index].utilisation if index < len(of_all) else None
        return None if found is None else 100 * found

    label = f"GPU {index}, % at work" if gpus > 1 else "GPU, % at work"
    return Line(label, SERIES[3], value, "GPUs" if gpus > 1 else "GPU")


def _gpu_sum(name: str, factor: float = 1.0) -> Callable[[Sample], float | None]:
    def value(sample: Sample) -> float | None:
        told = [v for gpu in sample.gpus or () if (v := getattr(gpu, name)) is not None]
        return factor * sum(told) if told else None

    return value


def _cpu_power(sample: Sample) -> float | None:
    energy, length = sample.cpu_energy_j, sample.interval_s
    return None if energy is None or not length else energy / length


def _middle(trial: Shown, sample: Sample) -> float:
    return trial.at((sample.unix_s or 0.0) - (sample.interval_s or 0.0) / 2)


def _bins(samples: Sequence[Sample], most: int) -> Iterator[Sequence[Sample]]:
    """The looks in their order, in at most so many groups of nearly equal size."""
    groups = min(most, len(samples))
    for i in range(groups):
        yield samples[i * len(samples) // groups : (i + 1) * len(samples) // groups]


def _mean(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told else None


def _tints(phases: Sequence[Phase]) -> dict[str, str]:
    """The colour of each phase that is shaded, by its name."""
    lengths: dict[str, float] = {}
    for phase in phases:
        lengths[name_of(phase)] = lengths.get(name_of(phase), 0.0) + (phase.duration_s or 0.0)
    longest = sorted(lengths, key=lambda name: -lengths[name])
    return dict(zip(longest, TINTS, strict=False))


def _drawn(
    track: Track,
    trial: Shown,
    bins: Sequence[Sequence[Sample]],
    tints: dict[str, str],
    *,
    last: bool,
) -> Axes:
    xlabel = f"{trial.unit} since run_start" if last else ""
    drawn = drawing.axes(
        WIDE, 1.35 if last else 0.95, left_px=max(40.0, trial.left_px), xlabel=xlabel
    )
    for name, tint in tints.items():
        spans = [trial.span(p) for p in trial.phases if name_of(p) == name]
        drawn.broken_barh(
            _joined(spans, (trial.limits[1] - trial.limits[0]) / MOST_POINTS),
            (0, 1),
            transform=drawn.get_xaxis_transform(),
            color=tint,
            alpha=0.2,
            linewidth=0,
        )
    for line in track.lines:
        points = [
            (_middle(trial, group[len(group) // 2]), value)
            for group in bins
            if (value := _mean(map(line.value, group))) is not None
        ]
        marker = "o" if len(points) == 1 else None
        xs, ys = zip(*points, strict=True)
        drawn.plot(xs, ys, color=line.colour, linewidth=1.3, marker=marker)
    drawn.set_xlim(*trial.limits)
    drawn.set_ylim(0, max(track.top or 0.0, 1.04 * drawn.get_ylim()[1] if not track.top else 0.0))
    drawn.locator_params(axis="y", nbins=4)
    trial.mark_clock(drawn)
    return drawn


def _joined(spans: Sequence[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Begin and length of each span, with those joined that no page can keep apart."""
    joined: list[tuple[float, float]] = []
    for start, length in spans:
        if joined and start - sum(joined[-1]) <= gap and len(spans) > MOST_POINTS:
            joined[-1] = (joined[-1][0], start + length - joined[-1][0])
        else:
            joined.append((start, length))
    return joined


def _alt(trial: Trial, measured: Sequence[Track]) -> str:
    titles = "; ".join(track.title for track in measured)
    text = f"Over the time of trial {trial.index}: {titles}"
    load = trial.load
    if load is None:
        return text
    return (
        f"{text}. While the clock ran this trial took {percent(load.own_cpu)} of the CPUs, other "
        f"processes {percent(load.foreign_cpu)}; at most {gib(load.resident_bytes)} of memory"
    )


def _table(trial: Shown, measured: Sequence[Track], bins: Sequence[Sequence[Sample]]) -> Table:
    lines = [line for track in measured for line in track.lines]
    rows = tuple(
        (
            f"{_middle(trial, group[len(group) // 2]) * trial.unit_s:.1f}",
            *(_number(_mean(map(line.value, group))) for line in lines),
        )
        for group in bins
    )
    return Table(("Second", *(line.label for line in lines)), rows, numeric_from=0)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,.1f}"
