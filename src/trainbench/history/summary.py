"""A history in a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from trainbench.history import changes
from trainbench.history.charts import sentence
from trainbench.history.series import History, Series
from trainbench.reporting.text import plural


def to_text(found: History) -> str:
    """Every series with its changes."""
    lines = [line for series in found.series for line in _lines(series)]
    lines += [f"not read: {path}: {reason}" for path, reason in found.stored.unreadable]
    if copies := found.stored.copies:
        lines.append(f"{copies} {'copy' if copies == 1 else 'copies'} left out")
    return "\n".join(lines or ["no runs found"]) + "\n"


def _lines(series: Series) -> Iterator[str]:
    gone = sum(bool(run.left_out) for run in series.runs)
    more = f", {gone} left out" if gone else ""
    yield f"{series.title}: {plural(len(series.runs), 'run')}{more}"
    for run in series.runs:
        if run.left_out:
            yield f"  left out: {run.name}: {run.left_out}"
    if all(trend.too_short for trend in series.trends):
        yield f"  fewer than {changes.LEAST_RUNS} runs that count: too few to look for changes"
        return
    told = [change for trend in series.trends for change in trend.changes]
    for change in told:
        yield f"  {'ALARM  ' if change.alarm else ''}{sentence(change)}"
    for trend in series.trends:
        if trend.suspect:
            newest = trend.runs[-1].name
            yield f"  {trend.quantity.label}: the newest run, {newest}, stands out; measure again"
    if not told:
        yield "  no change of level"


def first_alarm(found: History) -> str:
    """The message of exit code 7."""
    more = len(found.alarms) - 1
    others = f"; {more} more" if more else ""
    series = next(s for s in found.series if s.alarms)
    return f"{series.title}: {sentence(found.alarms[0])}{others}"
