"""Check a log against a rule set: ``check(lines, ruleset) -> findings``, empty when compliant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from trainbench.compliance.dialects import v05
from trainbench.compliance.event import Event, Finding, Line, excerpt, unreadable
from trainbench.compliance.event_index import EventIndex
from trainbench.compliance.parse import Log, parse_line, read_lines, sort_out
from trainbench.compliance.rules.levels import CHECKERS, LEVELS, RuleSet, ruleset
from trainbench.compliance.rules.rule import Rule
from trainbench.compliance.tags import ncf as tags


def check_file(path: Path, rules: RuleSet) -> list[Finding]:
    """The findings of the log at ``path``.

    Raises:
        OSError: the file cannot be read.
    """
    return check(read_lines(path), rules)


def judge(lines: Iterable[str]) -> dict[str, tuple[Finding, ...]]:
    """The findings of every level, those of either published checker counted once."""
    text = list(lines)
    return {
        level: tuple(
            dict.fromkeys(
                finding
                for checker in CHECKERS
                for finding in check(text, ruleset(level, checker=checker))
            )
        )
        for level in LEVELS
    }


def check(lines: Iterable[str | Line | Finding], rules: RuleSet) -> list[Finding]:
    """What in ``lines`` breaks the rules, in the order of the rules.

    ``lines`` are the lines of a file, or what ``parse.read_lines`` makes of it. Unreadable lines
    come first: any of them makes a log fail, as in the v0.5 checker.
    """
    parsed = [_parsed(line, number) for number, line in enumerate(lines, start=1)]
    log = _as_checker_reads(parsed, rules.checker)
    plain = (*rules.rules, *_benchmark_rules(log, rules))
    findings = [*log.findings, *_judged(EventIndex(log.events), plain)]
    if rules.strict:
        index = EventIndex(p.content for p in parsed if isinstance(p.content, Event))
        benchmark = index.events[0].benchmark if index.events else tags.BENCHMARK
        findings += _judged(index, rules.strict_of(benchmark))
    return findings


@dataclass(frozen=True)
class _Parsed:
    """A line and what was read in it; ``line`` is None where the file held no readable line."""

    line: Line | None
    content: Event | Finding | None


def _parsed(line: str | Line | Finding, number: int) -> _Parsed:
    if isinstance(line, Finding):
        return _Parsed(None, line)
    if isinstance(line, str):
        line = Line(number, line.rstrip("\r\n"))
    return _Parsed(line, parse_line(line.text, line.number))


def _judged(index: EventIndex, rules: Iterable[Rule]) -> Iterator[Finding]:
    for rule in rules:
        for found, event in rule.judge(index):
            place = (event.source.number, excerpt(event.source.text)) if event else ()
            yield Finding(rule.id, found, rule.wanted, *place)


def _as_checker_reads(parsed: list[_Parsed], checker: str) -> Log:
    """The log as one of the two published checkers sees it: what it reads, in which order.

    Neither looks at the lines of later dialects.
    """
    damage = [p.content for p in parsed if p.line is None]
    lines = [(p.line, p.content) for p in parsed if p.line and v05.TOKEN in p.line.text]
    read = _sorted_as_text(lines) if checker == "2019-04" else _from_line_start(lines)
    return sort_out((*damage, *read))


def _from_line_start(lines: list[tuple[Line, Event | Finding | None]]) -> Iterator[Event | Finding]:
    for line, content in lines:
        if isinstance(content, Event) and not line.text.lstrip().startswith(v05.TOKEN):
            wanted = "the token at the start of the line"
            yield unreadable(line.text, line.number, f"text before {v05.TOKEN}", wanted)
        elif content is not None:
            yield content


def _sorted_as_text(lines: list[tuple[Line, Event | Finding | None]]) -> Iterator[Event | Finding]:
    """Each line once, from its last token on, in the order of the text."""
    unique: dict[str, tuple[Line, Event | Finding | None]] = {}
    for line, content in lines:
        # That checker sorted the lines with their line ends, which are below any other character
        # that can follow a tag; comparing without them gives the same order.
        unique.setdefault(line.text[line.text.rindex(v05.TOKEN) :], (line, content))
    for text, (line, content) in sorted(unique.items(), key=itemgetter(0)):
        yield content if isinstance(content, Event) else v05.parse_line(text, line.number)


def _benchmark_rules(log: Log, rules: RuleSet) -> tuple[Rule, ...]:
    """The level-2 rules of the benchmark that the log's first line names."""
    if not rules.by_benchmark:
        return ()
    if len(rules.by_benchmark) == 1:
        return next(iter(rules.by_benchmark.values()))
    found = log.events[0].benchmark if log.events else tags.BENCHMARK
    return rules.by_benchmark.get(found, ())
