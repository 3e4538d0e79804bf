"""What a log says of its run: settings, epoch times, cache drop; by its tags or else by its text.

Logs of v0.5 hold everything that the programs printed. Where a tag is missing, the printed settings
are taken: what Intel's program says of its batch size, NVIDIA's command line of its precision. Each
fact has its source, so that a reviewer can look it up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import Any

from trainbench.compliance.event import Event, excerpt
from trainbench.compliance.event_index import is_number
from trainbench.compliance.tags import ncf as tags

BEFORE, AFTER = "before run_start", "after run_start"
LEAST_COVERED = 0.1
"""Of the time between evaluations, by spans of ``train_epoch`` that are believed."""
MOST_LINES = 10_000
"""Printed lines with a word of a setting that are looked at."""
MOST_TEXT = 4_000
"""Characters of a printed line that are looked at: settings stand at its beginning."""


@dataclass(frozen=True)
class Fact:
    """A value in ``unit``, and what says so: a tag, or the number of a printed line.

    ``lowest`` is the other end of a value that changes in the run, as of a learning rate.
    """

    value: Any
    unit: str
    source: str
    lowest: Any = None


def facts(events: Sequence[Event], printed: Mapping[str, Fact]) -> Mapping[str, Fact]:
    """Every fact by name, in the order of the page. ``printed`` holds those of the text."""
    optimizer = _optimizer(events)
    found = {
        "batch_size": _tag(events, tags.INPUT_BATCH_SIZE),
        "learning_rate": _rate(events, tags.OPT_LR, "train_learn_rate"),
        "optimizer": _tag(events, tags.OPT_NAME),
        "beta1": _tag(events, tags.OPT_HP_ADAM_BETA1),
        "beta2": _tag(events, tags.OPT_HP_ADAM_BETA2),
        "epsilon": _tag(events, tags.OPT_HP_ADAM_EPSILON),
        "momentum": _tag(events, "opt_momentum"),
        "precision": _tag(events, tags.PRECISION),
        "seed": _tag(events, tags.SEED, "run_set_random_seed"),
        "cache_drop": _cache_drop(events),
        **_epoch_times(events),
    }
    told = {name: found[name] or optimizer.get(name) or printed.get(name) for name in found}
    # Seeds have up to 64 bits, which JavaScript and spreadsheets keep as text alone.
    return {
        name: replace(fact, value=str(fact.value)) if name == "seed" else fact
        for name, fact in told.items()
        if fact is not None
    }


def _tag(events: Iterable[Event], *names: str) -> Fact | None:
    """The first value of the first of ``names`` that is logged with one."""
    for name, values in _valued(events, names):
        value = values[0] if is_number(values[0]) else excerpt(str(values[0]))
        return Fact(value, "", name)
    return None


def _rate(events: Iterable[Event], *names: str) -> Fact | None:
    """The highest learning rate of a schedule, and the lowest."""
    for name, values in _valued(events, names):
        numbers = [value for value in values if is_number(value)]
        if numbers:
            low, high = min(numbers), max(numbers)
            return Fact(high, "", name, None if low == high else low)
    return None


def _valued(events: Iterable[Event], names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """The values of each of ``names`` that has any; of a list of one value that."""
    by_name: dict[str, list[Any]] = {name: [] for name in names}
    for event in events:
        if event.key in by_name and event.scalar is not None:
            value = event.scalar
            alone = isinstance(value, list) and len(value) == 1
            by_name[event.key].append(value[0] if alone else value)
    return ((name, values) for name, values in by_name.items() if values)


def _optimizer(events: Iterable[Event]) -> Mapping[str, Fact]:
    """The settings in one line for the whole optimizer, as Intel's logs have it."""
    names = {"name": "optimizer", "lr": "learning_rate", "eps": "epsilon"}
    found: dict[str, Fact] = {}
    for event in events:
        if "optim" in event.key and isinstance(event.value, dict):
            for name, value in event.value.items():
                if is_number(value) or isinstance(value, str):
                    plain = excerpt(value) if isinstance(value, str) else value
                    found.setdefault(names.get(str(name)) or str(name), Fact(plain, "", event.key))
    return found


def _cache_drop(events: Sequence[Event]) -> Fact | None:
    keys = [event.key for event in events]
    if tags.RUN_CLEAR_CACHES not in keys:
        return None
    started = tags.RUN_START in keys[: keys.index(tags.RUN_CLEAR_CACHES)]
    return Fact(AFTER if started else BEFORE, "", tags.RUN_CLEAR_CACHES)


def _epoch_times(events: Sequence[Event]) -> dict[str, Fact | None]:
    """Medians over the epochs of a run."""
    spans = list(_spans(events))
    evaluation_s = [float(stop - start) for start, stop, _ in spans]
    by_line, between = list(_trained(events)), list(_between(spans))
    # Some programs write their train_epoch lines when training is over, all at once.
    late = bool(spans) and sum(by_line) < LEAST_COVERED * float(spans[-1][0] - spans[0][0])
    told = between if late or not by_line else by_line
    line = tags.EVAL_STOP if told is between else tags.TRAIN_EPOCH
    return {
        "train_epoch_s": _median(told, f"{line}, {tags.EVAL_START}"),
        "evaluation_s": _median(evaluation_s, f"{tags.EVAL_START}, {tags.EVAL_STOP}"),
    }


def _median(values: Sequence[float], source: str) -> Fact | None:
    return Fact(median(values), "s", source) if values else None


def _trained(events: Sequence[Event]) -> Iterator[float]:
    """Seconds from each ``train_epoch`` to the next line that ends its training."""
    ends = (tags.TRAIN_EPOCH, tags.EVAL_START, tags.RUN_STOP)
    begun: Event | None = None
    for event in events:
        if begun is not None and event.key in ends:
            yield float(event.time - begun.time)
            begun = None
        if event.key == tags.TRAIN_EPOCH:
            begun = event


_Span = tuple[Decimal, Decimal, Any]


def _between(spans: Sequence[_Span]) -> Iterator[float]:
    """Seconds an epoch from the end of each evaluation to the next one."""
    for (_, stop, epoch), (start, _, later) in pairwise(spans):
        if is_number(epoch) and is_number(later) and later > epoch:
            yield float(start - stop) / (later - epoch)


def _spans(events: Sequence[Event]) -> Iterator[_Span]:
    """Of each evaluation: its start, the last line of it, and the epoch that its result names."""
    begun: Event | None = None
    last: Event | None = None
    epoch: Any = None
    for event in events:
        if event.key in (tags.EVAL_STOP, tags.EVAL_ACCURACY) and begun is not None:
            last = event
            epoch = event.epoch if event.key == tags.EVAL_ACCURACY else epoch
        elif event.key in (tags.EVAL_START, tags.TRAIN_EPOCH, tags.RUN_STOP):
            if begun is not None and last is not None:
                yield begun.time, last.time, epoch
            begun, last = (event if event.key == tags.EVAL_START else None), None
    if begun is not None and last is not None:
        yield begun.time, last.time, epoch


_NUMBER = r"(?P<value>[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?)"
# What ends a name and begins its value: "=", ":", " ", with a quote or without.
_IS = r"['\"]?\s{0,3}[=:\s]\s{0,3}['\"]?"
_FORMATS = {"16": "fp16", "32": "fp32", "64": "fp64"}


def _named(names: str, value: str = _NUMBER) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{names}){_IS}{value}(?![\w])")


_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("batch_size", _named(r"--batch[-_]size|batch[-_ ]size|BATCH_?SIZE|global[-_]batch[-_]size")),
    ("batch_size", re.compile(rf" -b {_NUMBER}(?![\w])")),
    ("learning_rate", _named(r"--lr|--learning[-_]rate|learning[-_ ]rate|'lr'")),
    ("learning_rate", re.compile(rf" -l {_NUMBER}(?![\w])")),
    ("beta1", _named(r"--beta1|-b1|beta1")),
    ("beta2", _named(r"--beta2|-b2|beta2")),
    ("epsilon", _named(r"--eps|--epsilon|--adam-eps|eps|epsilon")),
    ("seed", _named(r"--seed|random seed|[Uu]sing seed|seed", r"(?P<value>\d{1,20})")),
    ("precision", re.compile(r"(?<![\w-])(?P<value>--fp16|--use_fp16|--amp|--bf16)(?![\w=])")),
    (
        "precision",
        _named(
            r"--math|--dtype|--precision|--use_fp16|math|dtype|precision",
            r"(?P<value>(?:fp|float)(?:16|32|64)|bf16|bfloat16|tf32|mixed|amp|[Tt]rue)",
        ),
    ),
)
_SHORT = frozenset(pattern for _, pattern in _PATTERNS if pattern.pattern.startswith(" -"))
_WORTH = re.compile(
    r"batch|BATCH|-b |lr|learning|seed|fp16|dtype|math|precision|amp|bf16", re.ASCII
)


@dataclass
class Printed:
    """Takes the lines of a log that are not its own tags, and keeps what they say first."""

    found: dict[str, Fact] = field(default_factory=dict)
    looked: int = 0

    def __call__(self, number: int, text: str) -> None:
        """Look at a line of the file."""
        if self.looked == MOST_LINES or not _WORTH.search(text):
            return
        self.looked += 1
        text = text[:MOST_TEXT]
        for name, pattern in _PATTERNS:
            # One letter is an option of the reference's program alone.
            skipped = name in self.found or (pattern in _SHORT and "ncf.py" not in text)
            match = None if skipped else pattern.search(text)
            if match:
                value = (
                    _precision(match["value"]) if name == "precision" else _value(match["value"])
                )
                self.found[name] = Fact(value, "", f"line {number}")


def _precision(text: str) -> str:
    lowered = text.lower()
    if lowered.lstrip("-") in ("amp", "mixed"):
        return "mixed"
    if "bf" in lowered:
        return "bf16"
    if "tf32" in lowered:
        return "tf32"
    return next((name for bits, name in _FORMATS.items() if bits in lowered), "fp16")


def _value(text: str) -> Any:
    """A number as JSON has it; the text where it is none."""
    try:
        number = float(text.rstrip("."))
    except ValueError:
        return text
    whole = number == int(number) and "e" not in text.lower() and "." not in text
    return int(text) if whole and len(text) < 16 else (text if len(text) > 30 else number)
