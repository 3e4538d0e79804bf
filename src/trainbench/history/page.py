"""index.html of a history: every run in a list that can be filtered, every trend in a figure.

The page is complete in itself and works from a file: its one script filters the list and asks
nobody for anything. The same runs give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path
from statistics import geometric_mean
from urllib.parse import quote

from markupsafe import Markup

from trainbench.files import write_atomically
from trainbench.history import changes, charts
from trainbench.history.charts import revision
from trainbench.history.measured import Measured, Quantity, describe
from trainbench.history.record import history_json
from trainbench.history.series import History, Series, level
from trainbench.reporting.page import drawing
from trainbench.reporting.page.drawing import Figure
from trainbench.reporting.page.render import environment, style
from trainbench.reporting.page.tables import Table
from trainbench.reporting.text import fixed, moment, plural

MOST_FIGURES = 24
MOST_LISTED = 3_000
NAME = "index.html"


@dataclass(frozen=True)
class Row:
    """One run of the list. ``words`` is what the filter looks at."""

    run: Measured
    cells: tuple[tuple[str, bool], ...]
    outcome: str
    places: tuple[str, str]
    link: str
    words: str


def write_history(found: History, folder: Path) -> Path:
    """Write index.html and history.json into ``folder``; the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "history.json", history_json(found))
    page = folder / NAME
    write_atomically(page, html(found, folder))
    return page


def html(found: History, folder: Path) -> str:
    """The page as it lies in ``folder``, from where its links go."""
    own = resources.files(__package__).joinpath("templates")
    listed = list(reversed(found.runs))[:MOST_LISTED]
    columns = _columns(found.runs)
    page = environment(escape=True, further="trainbench.history").get_template("history.html.j2")
    return page.render(
        history=found,
        style=style() + Markup(own.joinpath("history.css").read_text("utf-8")),
        script=Markup(own.joinpath("history.js").read_text("utf-8")),
        headline=headline(found),
        tone="bad" if found.alarms else "good",
        columns=columns,
        rows=[_row(run, columns, folder) for run in listed],
        left_out=max(0, len(found.runs) - len(listed)),
        tasks=_choices(found.runs, lambda run: (run.task_key, run.title)),
        machines=_choices(found.runs, lambda run: (run.fingerprint, describe(run.machine))),
        figures=_figures(found),
        commits=commits,
        settings=settings,
        sentence=charts.sentence,
        revision=revision,
        moment=moment,
        least=changes.LEAST_RUNS,
        alpha=changes.ALPHA,
        anchor=_anchor,
    )


def headline(found: History) -> str:
    """What a reader wants to know first."""
    if found.alarms:
        return f"{plural(len(found.alarms), 'change')} for the worse"
    return "No change for the worse" if found.runs else "No runs"


def _figures(found: History) -> dict[str, list[Figure]]:
    """By series; of a few thousand series, those of the first."""
    figures: dict[str, list[Figure]] = {}
    left = MOST_FIGURES
    with drawing.style():
        for series in found.series:
            drawable = [trend for trend in series.trends if len(trend.values) > 1][:left]
            left -= len(drawable)
            figures[series.key] = [
                charts.figure(series, trend, f"{series.key}-{trend.quantity.key}")
                for trend in drawable
            ]
    return figures


def _columns(runs: Sequence[Measured]) -> list[tuple[str, list[Quantity]]]:
    """Columns of the list: quantities of one name and unit share one."""
    found: dict[str, list[Quantity]] = {}
    for run in runs:
        for key in run.values:
            quantity = run.quantities[key]
            name = f"{quantity.label} ({quantity.unit})" if quantity.unit else quantity.label
            if quantity not in found.setdefault(name, []):
                found[name].append(quantity)
    return list(found.items())


def _row(run: Measured, columns: Sequence[tuple[str, list[Quantity]]], folder: Path) -> Row:
    changed = " +" if run.software.get("uncommitted changes") else ""
    cells = [
        (moment(run.created_unix_s), False),
        (revision(run.revision) + changed, False),
        *((_value(run, quantities), True) for _, quantities in columns),
    ]
    places = (run.title, describe(run.machine))
    outcome = run.left_out or _outcome(run)
    words = " ".join(
        [run.name, *(cell for cell, _ in cells), *places, outcome, run.note, *run.tags]
    )
    return Row(run, tuple(cells), outcome, places, _link(run, folder), words.casefold())


def _value(run: Measured, quantities: Sequence[Quantity]) -> str:
    for quantity in quantities:
        value = level(run, quantity)
        if value is not None:
            return fixed(value, quantity.digits)
    return ""


def _outcome(run: Measured) -> str:
    if run.kind == "cnn":
        return plural(run.trials, "run")
    if run.targetless:
        return f"{run.ended} of {run.trials} ended"
    return f"{run.reached} of {run.trials} reached the target"


def _link(run: Measured, folder: Path) -> str:
    """From the page to the run's report; empty where there is none."""
    if run.report is None:
        return ""
    try:
        relative = os.path.relpath(run.report, folder.resolve())
    except ValueError:  # on another drive of Windows
        return run.report.as_uri()
    return quote(Path(relative).as_posix())


def _choices(runs: Sequence[Measured], pair: object) -> list[tuple[str, str]]:
    """(value, text) of a list to choose from; equal texts get their key beside them."""
    found = dict(pair(run) for run in runs)  # type: ignore[operator]
    texts = list(found.values())
    return sorted(
        (
            (key, f"{text} ({key})" if texts.count(text) > 1 else text)
            for key, text in found.items()
        ),
        key=lambda choice: choice[1],
    )


def _anchor(series: Series) -> str:
    return f"series-{series.key}"


def commits(series: Series) -> Table:
    """The trend by commit: neighbouring runs of one revision are one row."""
    quantities = [trend.quantity for trend in series.trends]
    kept = [run for run in series.runs if not run.left_out]
    rows = []
    for name, group in groupby(kept, key=lambda run: run.revision):
        runs = list(group)
        means = (_mean(runs, quantity) for quantity in quantities)
        started = moment(runs[0].created_unix_s)
        rows.append((revision(name), started, str(len(runs)), *means))
    columns = ("Commit", "First run", "Runs", *(_heading(quantity) for quantity in quantities))
    return Table(columns, tuple(rows), numeric_from=2)


def _heading(quantity: Quantity) -> str:
    return f"{quantity.label} ({quantity.unit})" if quantity.unit else quantity.label


def _mean(runs: Sequence[Measured], quantity: Quantity) -> str:
    values = [value for run in runs if (value := level(run, quantity)) is not None]
    return fixed(geometric_mean(values), quantity.digits) if values else "n/a"


def settings(series: Series) -> Table:
    """Task and machine of a series."""
    from trainbench.reporting.text import shown

    pairs = [("Benchmark", series.first.benchmark)]
    pairs += [(f"machine: {key}", shown(value)) for key, value in series.first.machine.items()]
    pairs += [(key, shown(value)) for key, value in sorted(series.first.task.items())]
    return Table(("", ""), tuple(pairs))
