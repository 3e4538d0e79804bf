"""A rule on one log, and the kinds of rules that levels 1 and 2 are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from trainbench.benchmark import registered
from trainbench.compliance.event import shown
from trainbench.compliance.event_index import Breach, EventIndex
from trainbench.compliance.tags import ncf as tags

BENCHMARKS = ("gnmt", "maskrcnn", "minigo", "ncf", "resnet", "ssd", "transformer")


@dataclass(frozen=True)
class Rule:
    """A rule: ``judge`` gives what was found, with the event that shows it, for every breach."""

    name: str
    wanted: str
    judge: Callable[[EventIndex], Iterable[Breach]]
    level: str = "strict"

    @property
    def id(self) -> str:
        """The id that findings carry: ``strict/value/eval_target``."""
        return f"{self.level}/{self.name}"


def known_benchmarks() -> tuple[str, ...]:
    """The v0.5 suite, and what is registered here beyond it."""
    return tuple(dict.fromkeys((*BENCHMARKS, *registered())))


def exactly_one(tag: str) -> Rule:
    """The tag appears in the log once."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        found = index.all(tag)
        if len(found) != 1:
            yield (f"{len(found)} times" if found else "none"), (found[1] if found else None)

    return Rule(f"exactly-one/{tag}", f"{tag} exactly once", judge)


def at_least_one(tag: str, kind: str = "at-least-one") -> Rule:
    """The tag appears in the log, whatever its value."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        if not index.all(tag):
            yield "none", None

    return Rule(f"{kind}/{tag}", f"{tag} at least once", judge)


def pair(first: str, second: str) -> Rule:
    """The two tags alternate, ``first`` first."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        open_since = None
        for event in index.events:
            if event.key == first:
                if open_since is not None:
                    yield f"{first} again", event
                    return
                open_since = event
            elif event.key == second:
                if open_since is None:
                    yield f"{second} before {first}", event
                    return
                open_since = None
        if open_since is not None:
            yield f"no {second} after it", open_since

    return Rule(f"pair/{first}/{second}", f"every {first} followed by one {second}", judge)


def has_keys(tag: str, names: tuple[str, ...]) -> Rule:
    """Every value of a tag that starts with ``tag`` has these keys."""

    def holds(value: Any) -> bool:
        return isinstance(value, dict) and all(name in value for name in names)

    def judge(index: EventIndex) -> Iterator[Breach]:
        for event in index.events:
            if event.key.startswith(tag) and not holds(event.value):
                yield shown(event.value), event
                return

    return Rule(f"has-keys/{tag}", f"every {tag} with {' and '.join(names)}", judge)


def some_epoch_zero(tag: str, excused: tuple[str, ...]) -> Rule:
    """Some value of the tag is of epoch 0; benchmarks that evaluate less often are excused."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        found = [event for event in index.events if event.key.startswith(tag)]
        epochs = [event.value.get("epoch") for event in found if isinstance(event.value, dict)]
        if 0 not in epochs and not any(event.benchmark in excused for event in found):
            text = f"first epoch {shown(epochs[0])}" if epochs else "none"
            yield text, (found[0] if found else None)

    return Rule(f"epoch-zero/{tag}", f"{tag} of epoch 0", judge)


def known_benchmark(tags: tuple[str, ...]) -> Rule:
    """Some tag that starts with one of ``tags`` is of a benchmark of the suite."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        found = [event for event in index.events if event.key.startswith(tags)]
        if not any(event.benchmark in known_benchmarks() for event in found):
            yield (found[0].benchmark if found else "none"), (found[0] if found else None)

    wanted = f"{' or '.join(tags)} of one of {', '.join(BENCHMARKS)}"
    return Rule("known-benchmark", wanted, judge)


def first_line_benchmark(listed: tuple[str, ...]) -> Rule:
    """The first line names a benchmark that has a list, which is what else level 2 asks for."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        first = next(iter(index.events), None)
        if first and first.benchmark not in (*listed, *registered()):
            yield first.benchmark, first

    return Rule("first-line-benchmark", f"a first line of one of {', '.join(listed)}", judge)


def run_time(longest_s: int) -> Rule:
    """``run_stop - run_start``, in 64-bit floats, is above 0 and at most ``longest_s`` seconds."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        starts, stops = index.all(tags.RUN_START), index.all(tags.RUN_STOP)
        if len(starts) == len(stops) == 1:
            duration = float(stops[0].time) - float(starts[0].time)
            if duration <= 0 or duration > longest_s:
                yield f"{duration} s", stops[0]

    return Rule("run-time", f"run_stop after run_start, by at most {longest_s:,} s", judge)


def one_value(tag: str) -> Rule:
    """A list or object as the value stops the checker when all else is well."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        for event in index.all(tag):
            value = event.value.get("value") if isinstance(event.value, dict) else event.value
            if isinstance(value, list | dict):
                yield shown(value), event
                return

    return Rule(f"one-value/{tag}", f"{tag} with a value that is no list and no object", judge)


def comparable(tag: str) -> Rule:
    """A best value that cannot be taken stops the checker when all else is well."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        for event in index.all(tag):
            value = event.value.get("value", 0) if isinstance(event.value, dict) else 0
            if not isinstance(value, int | float):
                yield shown(value), event
                return

    return Rule(f"comparable/{tag}", f"{tag} with a value that is a number", judge)
