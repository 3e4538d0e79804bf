"""The tables of a review: every log, the sets side by side, what is not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trainbench.compliance.rules.levels import LEVELS
from trainbench.reporting.arrivals.logs import V05, ArrivedLog
from trainbench.reporting.arrivals.review import Review, SideBySide
from trainbench.reporting.arrivals.sets import LogSet
from trainbench.reporting.compare import Several
from trainbench.reporting.page.published import cut_label
from trainbench.reporting.page.tables import Table
from trainbench.reporting.text import NA, count, of_target, plural, seconds, shown
from trainbench.reporting.verdict import found_by, grouped

MOST_VALUES = 4
"""Different values of one setting in a set that a page shows."""


def logs(review: Review) -> Table:
    """One row per log: what it is of, its result and its verdict."""
    columns = ("Log", "Benchmark", "Target reached", "Verdict", "Time", "Best", "Target")
    rows = tuple(
        (
            log.file,
            log.benchmark,
            result(log),
            verdict(log),
            seconds(log.check.time_s),
            of_target(log.check.best, log.check.target),
            shown_number(log.check.target),
            count(len(log.epochs)),
            NA if log.strict is None else _found(log.strict),
            cut_label(found.name),
        )
        for found in review.sets
        for log in found.logs
    )
    return Table((*columns, "Evaluations", "Strict rules", "Set"), rows, numeric_from=99)


def result(log: ArrivedLog) -> str:
    """Whether it reached its target, by its own evidence."""
    if log.damage:
        return "damaged"
    if log.check.converged:
        return "yes"
    return "did not end" if log.check.time_s is None else "no"


def verdict(log: ArrivedLog) -> str:
    """The highest level that it passes, by checker where they disagree."""
    if log.round != V05:
        return f"MLPerf 0.6 or later: see trainbench score ({log.round})"
    passed = {checker: _level(level) for checker, level in log.levels.items()}
    if len(set(passed.values())) > 1:
        return "; ".join(f"{checker}: {text}" for checker, text in passed.items())
    text = next(iter(passed.values()))
    missing = [f.rule.split("/")[-1] for f in log.check.findings if f.level == LEVELS[1]]
    return f"{text}, lacks {_few(missing)}" if missing and text == _level("1") else text


def _level(level: str) -> str:
    return {"0": "fails level 1", "1": "passes level 1 only", "2": "passes level 2"}[level]


def _found(number: int) -> str:
    return "passed" if number == 0 else f"{number} found"


def _few(values: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
    return between.join(values[:MOST_VALUES]) + more


def shown_number(value: float | None) -> str:
    """A number with all its digits."""
    return NA if value is None else f"{value:.9g}"


def beside(found: SideBySide) -> Table:
    """The sets of a benchmark as columns."""
    rows = tuple(
        (row.label, *(_cell(value, row.unit) for value in row.values)) for row in found.rows
    )
    return Table(("", *map(cut_label, found.sets)), rows, numeric_from=99)


def _cell(value: Any, unit: str) -> str:
    if isinstance(value, Several):
        return _few([_cell(v, unit) for v in value], "; ")
    if unit == "s":
        return seconds(value)
    if isinstance(value, float):
        return f"{value:.9g}"
    return shown(value)


def unread(review: Review) -> Table:
    """Every file that could not be read, or that ends early."""
    rows = tuple((item.file, item.reason) for item in review.unread)
    return Table(("File", "Why it is not read, or not to its end"), rows, numeric_from=99)


def duplicates(review: Review) -> Table:
    """Every log that arrived twice."""
    rows = tuple((item.file, item.same_as) for item in review.duplicates)
    return Table(("File", "Has the content of"), rows, numeric_from=99)


def sources(review: Review) -> Table:
    """What says the settings of each log: its tags or its text."""
    rows = tuple(
        (log.file, ", ".join(f"{name}: {fact.source}" for name, fact in log.facts.items()) or NA)
        for log in review.logs
    )
    return Table(("Log", "Settings, and the tag or line that says them"), rows, numeric_from=99)


def findings(review: Review) -> Table:
    """Each rule that logs of a set break."""
    return Table(
        ("Set", "Rule", "Level", "Logs", "Found", "Wanted"),
        tuple(row for found in review.sets for row in _findings(found)),
        numeric_from=99,
    )


def _findings(found: LogSet) -> Iterator[tuple[str, ...]]:
    for group in grouped(found.results):
        of = f"{len(group.trials)} of {plural(len(found.logs), 'log')}" if group.trials else "all"
        finding = group.finding
        yield (
            cut_label(found.name),
            finding.rule,
            finding.level,
            of,
            found_by(group),
            finding.wanted,
        )
