"""How fast the run was beside what its machine allows, as the run itself measured that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainbench.reporting.page import drawing
from trainbench.reporting.page.drawing import INK, SERIES, WIDE, Figure, Key, Panel
from trainbench.reporting.page.tables import Table
from trainbench.reporting.records import Results, typical
from trainbench.reporting.sections import Rate
from trainbench.reporting.text import percent, scaled

UNKNOWN = (
    "Not known: the run did not measure what its machine does at best, and nothing is guessed. "
    "The command bench measures it on a machine."
)
MEANING = (
    "Measured by the run itself when its clock had stopped, for a moment: it is a yardstick and no "
    "bound. A rate may stand above it where other work ran then, or where its kernels need less."
)


@dataclass(frozen=True)
class Roofline:
    """The part of the page: a sentence, and what is known as table and figure."""

    sentence: str
    table: Table | None = None
    figure: Figure | None = None


def roofline(results: Results, *, drawn: bool = True) -> Roofline | None:
    """Rates beside limits; ``None`` where no rate is known."""
    rates = results.sections.rates(results)
    if not rates:
        return None
    known = [rate for rate in rates if rate.bounds]
    if not known:
        return Roofline(UNKNOWN)
    if not drawn:
        return Roofline(MEANING, table(known))
    with drawing.style():
        return Roofline(MEANING, table(known), _figure(results, known))


def table(rates: Sequence[Rate]) -> Table:
    """One row for each work of a trial."""
    columns = ("Trial", "Work", "Reached", "Allowed", "Share", "Bound by", "One needs", "At best")
    return Table(columns, tuple(map(_row, rates)), numeric_from=2)


def _row(rate: Rate) -> tuple[str, ...]:
    bound, allowed = min(rate.bounds.items(), key=lambda item: item[1])
    needs = [(rate.flops, "FLOP"), (rate.bytes, "B")]
    best = [(rate.flops_per_s, "FLOP/s"), (rate.bytes_per_s, "B/s")]
    return (
        str(rate.trial),
        rate.work,
        f"{scaled(rate.per_s)} {rate.unit}",
        f"{scaled(allowed)} {rate.unit}",
        percent(rate.per_s / allowed),
        bound,
        *(
            ", ".join(f"{_prefixed(value)}{unit}" for value, unit in values if value is not None)
            for values in (needs, best)
        ),
    )


def _prefixed(value: float) -> str:
    """A number with the prefix of its unit: ``600 k``, ``120 G``."""
    sizes = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
    size, prefix = next(((s, p) for s, p in sizes if value >= s), (1.0, ""))
    return f"{value / size:.3g} {prefix}"


def _figure(results: Results, rates: Sequence[Rate]) -> Figure | None:
    """The roof of one trial's machine, and its work below it; only where bytes are known."""
    trial = typical(results.trials)
    own = [r for r in rates if trial and r.trial == trial.index and len(r.bounds) == 2]
    if trial is None or not own:
        return None
    matrix, memory = own[0].flops_per_s or 1.0, own[0].bytes_per_s or 1.0
    intensities = [(r.flops or 1.0) / (r.bytes or 1.0) for r in own]
    ridge = matrix / memory
    low, high = min([ridge, *intensities]) / 4, max([ridge, *intensities]) * 4
    drawn = drawing.axes(WIDE, 2.8, left_px=48, xlabel="operations per byte (logarithmic)")
    drawn.set_xscale("log")
    drawn.set_yscale("log")
    roof = np.array([low, ridge, high])
    drawn.plot(roof, np.minimum(matrix, roof * memory) / 1e9, color=INK, linewidth=1.4)
    keys = [Key("--ink", "solid", "what the machine allows, GFLOP/s")]
    for n, (rate, x) in enumerate(zip(own, intensities, strict=True)):
        y = rate.per_s * (rate.flops or 0.0) / 1e9
        drawn.plot([x], [y], "o", color=SERIES[n % len(SERIES)], markersize=8)
        keys.append(Key(f"--series-{n % len(SERIES)}", "dot", rate.work))
    drawing.plain_numbers(drawn.xaxis, drawn.yaxis)
    shares = "; ".join(f"{r.work} at {percent(r.per_s / min(r.bounds.values()))}" for r in own)
    return Figure(
        "roofline",
        f"Roofline of trial {trial.index}, GFLOP/s",
        f"Roofline: operations per second over operations per byte. Of what is allowed, {shares}",
        (Panel("", drawing.svg(drawn, "roofline0")),),
        tuple(keys),
        table(own),
    )
