"""Check a log against a rule set: ``check(lines, ruleset) -> findings``, empty when compliant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from trainbench.compliance.dialects import v05
from trainbench.compliance.event import Event, Finding, Line, excerpt, shown, unreadable
from trainbench.compliance.event_index import Breach, EventIndex
from trainbench.compliance.outcome import run_time_s
from trainbench.compliance.parse import Log, parse_line, read_lines, sort_out
from trainbench.compliance.rules.levels import (
    BENCHMARKS,
    CHECKERS,
    LEVELS,
    AtLeastOne,
    ExactlyOne,
    FirstLineBenchmark,
    HasKeys,
    KnownBenchmark,
    Pair,
    Rule,
    RuleSet,
    RunTime,
    SomeEpochZero,
    rule_id,
    ruleset,
)
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
    findings = list(log.findings)
    for rule in (*rules.rules, *_benchmark_rules(log, rules)):
        findings += [
            _finding(rule_id(rule), rule.wanted, *b) for b in _JUDGES[type(rule)](rule, log.events)
        ]
    if rules.strict:
        findings += _strict_findings(parsed, rules)
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


def _strict_findings(parsed: list[_Parsed], rules: RuleSet) -> Iterator[Finding]:
    index = EventIndex(p.content for p in parsed if isinstance(p.content, Event))
    benchmark = index.events[0].benchmark if index.events else tags.BENCHMARK
    for rule in rules.strict_of(benchmark):
        for found, event in rule.judge(index):
            yield _finding(rule.id, rule.wanted, found, event)


def _finding(rule: str, wanted: str, found: str, event: Event | None) -> Finding:
    if event is None:
        return Finding(rule, found, wanted)
    return Finding(rule, found, wanted, event.source.number, excerpt(event.source.text))


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


def _exactly_one(rule: ExactlyOne, events: tuple[Event, ...]) -> Iterator[Breach]:
    found = [event for event in events if event.key == rule.tag]
    if len(found) != 1:
        yield (f"{len(found)} times" if found else "none"), (found[1] if found else None)


def _at_least_one(rule: AtLeastOne, events: tuple[Event, ...]) -> Iterator[Breach]:
    if not any(event.key == rule.tag for event in events):
        yield "none", None


def _pair(rule: Pair, events: tuple[Event, ...]) -> Iterator[Breach]:
    open_since: Event | None = None
    for event in events:
        if event.key == rule.first:
            if open_since is not None:
                yield f"{rule.first} again", event
                return
            open_since = event
        elif event.key == rule.second:
            if open_since is None:
                yield f"{rule.second} before {rule.first}", event
                return
            open_since = None
    if open_since is not None:
        yield f"no {rule.second} after it", open_since


def _has_keys(rule: HasKeys, events: tuple[Event, ...]) -> Iterator[Breach]:
    for event in events:
        if event.key.startswith(rule.tag) and not _has(event.value, rule.names):
            yield shown(event.value), event
            return


def _has(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and all(name in value for name in names)


def _some_epoch_zero(rule: SomeEpochZero, events: tuple[Event, ...]) -> Iterator[Breach]:
    found = [event for event in events if event.key.startswith(rule.tag)]
    epochs = [event.value.get("epoch") for event in found if isinstance(event.value, dict)]
    if 0 not in epochs and not any(event.benchmark in rule.excused for event in found):
        yield (
            (f"first epoch {shown(epochs[0])}" if epochs else "none"),
            (found[0] if found else None),
        )


def _known_benchmark(rule: KnownBenchmark, events: tuple[Event, ...]) -> Iterator[Breach]:
    found = [event for event in events if event.key.startswith(rule.tags)]
    if not any(event.benchmark in BENCHMARKS for event in found):
        yield (found[0].benchmark if found else "none"), (found[0] if found else None)


def _first_line_benchmark(rule: FirstLineBenchmark, events: tuple[Event, ...]) -> Iterator[Breach]:
    if events and events[0].benchmark not in BENCHMARKS:
        yield events[0].benchmark, events[0]


def _run_time(rule: RunTime, events: tuple[Event, ...]) -> Iterator[Breach]:
    duration = run_time_s(events)
    if duration is not None and not 0 < duration <= rule.longest_s:
        yield f"{duration} s", next(e for e in events if e.key == tags.RUN_STOP)


_JUDGES: dict[type, Callable[[Any, tuple[Event, ...]], Iterator[Breach]]] = {
    AtLeastOne: _at_least_one,
    ExactlyOne: _exactly_one,
    FirstLineBenchmark: _first_line_benchmark,
    HasKeys: _has_keys,
    KnownBenchmark: _known_benchmark,
    Pair: _pair,
    RunTime: _run_time,
    SomeEpochZero: _some_epoch_zero,
}
