"""The figures of a review: of each benchmark the quality by epoch and the times, by set."""

from __future__ import annotations

from collections.abc import Sequence

from trainbench.reporting.arrivals.review import Review
from trainbench.reporting.arrivals.sets import LogSet
from trainbench.reporting.page import drawing, plots, tables
from trainbench.reporting.page.drawing import MUTED, SERIES, TARGET, WIDE, Figure, Key, Panel
from trainbench.reporting.page.published import Ranked, cut_label, ranking
from trainbench.reporting.published import task
from trainbench.reporting.published.tables import results as published
from trainbench.reporting.text import plural, seconds

MOST_SETS = 24
"""Rows of a chart of times; the tables have all sets."""
MOST_CURVES = 60


def figures(review: Review, benchmark: str, name: str) -> list[Figure]:
    """The figures that the sets of a benchmark can fill.

    ``name`` sets them apart from those of other benchmarks, whose names may be any text.
    """
    sets = review.of(benchmark)
    with drawing.style():
        drawn = [_quality(sets, name), _times(sets, name)]
    return [figure for figure in drawn if figure]


def _colour(index: int) -> tuple[str, str]:
    """Colour and CSS variable of a set; beyond the colours there are, all are grey."""
    return (SERIES[index], f"--series-{index}") if index < len(SERIES) else (MUTED, "--muted")


def _quality(sets: Sequence[LogSet], name: str) -> Figure | None:
    drawn = drawing.axes(WIDE, 3.0, left_px=40, xlabel="epoch, as logs number it")
    each = max(MOST_CURVES // len(sets), 1)
    for index, found in enumerate(sets):
        for trial in plots.thinned(found.results.trials, each):
            points = [(e.epoch, e.quality) for e in trial.epochs]
            known = [(x, y) for x, y in points if x is not None and y is not None]
            if known:
                at, rates = zip(*known, strict=True)
                marker = "o" if len(known) == 1 else None
                drawn.plot(at, rates, color=_colour(index)[0], linewidth=1.1, marker=marker)
    if not drawn.has_data():
        return None
    benchmark, quality = sets[0].benchmark, sets[0].results.quality.name
    targets = {log.check.target for s in sets for log in s.logs if log.check.target}
    for target in sorted(targets)[:2]:
        drawn.axhline(target, color=TARGET, linewidth=1.2, linestyle=(0, (5, 3)))
    low, high = drawn.get_ylim()
    drawing.fit(drawn, share=low >= -0.1 and high <= 1.1)
    keys = [Key("--target", "dashed", f"target {target:g}") for target in sorted(targets)[:2]]
    title = f"{quality} after each evaluation"
    return Figure(
        f"quality-{name}",
        title,
        f"{title} of {plural(len(sets), 'set')} of runs of {benchmark}",
        (Panel("", drawing.svg(drawn, f"quality-{name}")),),
        (*_keys(sets), *keys),
        _curves(sets),
    )


def _keys(sets: Sequence[LogSet]) -> list[Key]:
    named = [
        Key(_colour(i)[1], "solid", cut_label(s.name)) for i, s in enumerate(sets[: len(SERIES)])
    ]
    rest = len(sets) - len(named)
    return [*named, Key("--muted", "solid", f"{rest} other sets")] if rest else named


def _curves(sets: Sequence[LogSet]) -> tables.Table:
    """Of each set the best quality after each epoch that any of its logs has."""
    best: dict[float, dict[int, float]] = {}
    for index, found in enumerate(sets):
        for trial in found.results.trials:
            for e in trial.epochs:
                if e.epoch is not None and e.quality is not None:
                    row = best.setdefault(e.epoch, {})
                    row[index] = max(row.get(index, e.quality), e.quality)
    rows = (
        (f"{epoch:g}", *(f"{row[i]:.4f}" if i in row else "" for i in range(len(sets))))
        for epoch, row in sorted(best.items())
    )
    return tables.Table(
        ("Epoch", *(f"{cut_label(found.name)}, best" for found in sets)),
        tuple(rows),
        numeric_from=0,
    )


def _positive(found: LogSet) -> list[float]:
    """Times that a logarithmic axis can have; a damaged log may have any."""
    return [t.time_s for t in found.results.trials if t.time_s is not None and t.time_s > 0]


def _times(sets: Sequence[LogSet], name: str) -> Figure | None:
    """Every time to train by set, with the published results where the task is theirs."""
    rows: list[Ranked] = [(s.name, _positive(s), True) for s in sets]
    rows = [row for row in rows if row[1]][:MOST_SETS]
    if not rows:
        return None
    benchmark = sets[0].benchmark
    own, keys = len(rows), [Key("--ink", "dot", "one run that arrived")]
    if any(not task.reasons(s.results) for s in sets):
        rows += [(r.system, [r.score_s], False) for r in published() if r.benchmark == benchmark]
        keys.append(Key("--series-0", "dot", "published, v0.5 statistic"))
    rows.sort(key=lambda row: min(row[1]))
    shown = ((cut_label(n), str(len(t)), seconds(min(t)), seconds(max(t))) for n, t, _ in rows)
    fastest = f"the fastest is {rows[0][0]} with {seconds(min(rows[0][1]))}"
    return Figure(
        f"times-{name}",
        "Times to train",
        f"Times to train of {plural(own, 'set')} of runs of {benchmark}: {fastest}",
        (Panel("", drawing.svg(ranking(rows), f"times-{name}")),),
        tuple(keys),
        tables.Table(("Set or system", "Times", "Shortest", "Longest"), tuple(shown)),
    )
