"""The trend of one quantity as a figure: the runs, their levels, and where these change."""

from __future__ import annotations

from matplotlib.ticker import MaxNLocator

from trainbench.history.series import Change, Series, Trend
from trainbench.reporting.page import drawing
from trainbench.reporting.page.drawing import INK, MUTED, SERIES, TARGET, WIDE, Figure, Key, Panel
from trainbench.reporting.page.tables import Table
from trainbench.reporting.text import fixed, moment, plural

SHORT_REVISION = 10


def figure(series: Series, trend: Trend, name: str) -> Figure:
    """The trend drawn over the number of the run; in the style of a report (``drawing.style``)."""
    drawn = drawing.axes(WIDE, 2.9, left_px=64, xlabel="run, in order of time")
    drawn.yaxis.set_major_locator(MaxNLocator(nbins=6))
    numbers = range(1, len(trend.values) + 1)
    drawn.plot(numbers, trend.values, "o", color=SERIES[0], markersize=3.5)
    for first, end, value in trend.levels:
        drawn.plot([first + 0.6, end + 0.4], [value, value], color=INK, linewidth=1.3)
    for change in trend.changes:
        colour = TARGET if change.alarm else MUTED
        drawn.axvline(change.number - 0.5, color=colour, linewidth=1.2, linestyle=(0, (5, 3)))
    drawing.fit(drawn, share=False)
    keys = [Key("--series-0", "dot", "a run"), Key("--ink", "solid", "mean level")]
    if any(change.alarm for change in trend.changes):
        keys.append(Key("--target", "dashed", "change for the worse"))
    if not all(change.alarm for change in trend.changes):
        keys.append(Key("--muted", "dashed", "other change"))
    unit = f" ({trend.quantity.unit})" if trend.quantity.unit else ""
    return Figure(
        name=name,
        title=f"{trend.quantity.label}{unit}",
        alt=alternative(trend),
        panels=(Panel("", drawing.svg(drawn, name)),),
        keys=tuple(keys),
        table=numbers_of(trend),
    )


def alternative(trend: Trend) -> str:
    """The figure in words."""
    quantity, values = trend.quantity, trend.values
    low, high = (fixed(v, quantity.digits) for v in (min(values), max(values)))
    words = f"{quantity.label} of {plural(len(values), 'run')}, from {low} to {high}"
    words += f" {quantity.unit}" if quantity.unit else ""
    told = "; ".join(map(sentence, trend.changes))
    return f"{words}. {told or 'No change of level'}."


def sentence(change: Change) -> str:
    """``5.3 % slower since run 20 (20261118-...)``, with what is to be known of it."""
    step = change.step
    amount = f"{abs(change.worse_percent):.1f} % {change.word}"
    since = f"{'little by little around' if step.gradual else 'since'} run {change.number}"
    values = " to ".join(fixed(v, change.quantity.digits) for v in (step.before, step.after))
    unit = f" {change.quantity.unit}" if change.quantity.unit else ""
    said = f"{change.quantity.label}: {amount} {since} ({change.run.name}), {values}{unit}"
    return f"{said}; no alarm: {change.because}" if change.because else said


def numbers_of(trend: Trend) -> Table:
    """Every run of a trend."""
    digits = trend.quantity.digits
    rows = tuple(
        (str(n), run.name, moment(run.created_unix_s), revision(run.revision), fixed(value, digits))
        for n, (run, value) in enumerate(zip(trend.runs, trend.values, strict=True), start=1)
    )
    return Table(("No.", "Run", "Started", "Commit", trend.quantity.label), rows, numeric_from=4)


def revision(text: str | None) -> str:
    """A git revision as people write it."""
    return "n/a" if text is None else text[:SHORT_REVISION]
