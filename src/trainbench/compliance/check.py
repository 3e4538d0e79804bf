"""Check a log against a rule set: ``check(lines, ruleset) -> findings``, empty when compliant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from trainbench.compliance.event import Event, Finding, Line, excerpt
from trainbench.compliance.event_index import EventIndex
from trainbench.compliance.parse import read_lines
from trainbench.compliance.reading import CHECKERS, Reading, read
from trainbench.compliance.rules.levels import LEVELS, RuleSet, ruleset
from trainbench.compliance.rules.rule import Rule
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.two_clocks import Clocks, of_log


def check_file(path: Path, rules: RuleSet) -> list[Finding]:
    """The findings of the log at ``path``.

    Raises:
        OSError: the file cannot be read.
    """
    return check(read_lines(path), rules, of_log(path) if rules.strict else None)


def judge(lines: Iterable[str], clocks: Clocks | None = None) -> dict[str, tuple[Finding, ...]]:
    """The findings of every level, those of either published checker counted once.

    ``lines`` have their line ends.
    """
    known = [_line(line, number) for number, line in enumerate(lines, start=1)]
    logs = {checker: read(known, checker) for checker in CHECKERS}
    return {
        level: tuple(
            dict.fromkeys(
                finding
                for checker, log in logs.items()
                for finding in check_reading(log, ruleset(level, checker=checker), clocks)
            )
        )
        for level in LEVELS
    }


def check(
    lines: Iterable[str | Line | Finding], rules: RuleSet, clocks: Clocks | None = None
) -> list[Finding]:
    """What in ``lines`` breaks the rules, in the order of the rules.

    ``lines`` are the lines of a file, or what ``parse.read_lines`` makes of it. Unreadable lines
    come first: any of them makes a log fail, as in the v0.5 checker. ``clocks`` are the monotonic
    times of the log, where there are any.
    """
    known = (_line(line, number) for number, line in enumerate(lines, start=1))
    return check_reading(read(known, rules.checker), rules, clocks)


def check_reading(log: Reading, rules: RuleSet, clocks: Clocks | None = None) -> list[Finding]:
    """What breaks the rules in a log that was read as ``rules.checker`` does."""
    plain = (*rules.rules, *_benchmark_rules(log.events, rules))
    findings = [*log.findings, *_judged(EventIndex(log.events), plain)]
    if rules.strict:
        index = EventIndex(log.told, clocks)
        benchmark = index.events[0].benchmark if index.events else tags.BENCHMARK
        findings += _judged(index, rules.strict_of(benchmark))
    return findings


def _line(line: str | Line | Finding, number: int) -> Line | Finding:
    if not isinstance(line, str):
        return line
    return Line(number, line.rstrip("\r\n"), line.endswith(("\r", "\n")))


def _judged(index: EventIndex, rules: Iterable[Rule]) -> Iterator[Finding]:
    for rule in rules:
        for found, event in rule.judge(index):
            place = (event.source.number, excerpt(event.source.text)) if event else ()
            yield Finding(rule.id, excerpt(found), rule.wanted, *place)


def _benchmark_rules(events: tuple[Event, ...], rules: RuleSet) -> tuple[Rule, ...]:
    """The level-2 rules of the benchmark that the log's first line names."""
    if not rules.by_benchmark:
        return ()
    if len(rules.by_benchmark) == 1:
        return next(iter(rules.by_benchmark.values()))
    found = events[0].benchmark if events else tags.BENCHMARK
    return rules.by_benchmark.get(found, ())
