"""Rules on a set of logs: the runs of one result, one configuration, one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trainbench.compliance.event import Event, Finding, excerpt
from trainbench.compliance.outcome import outcome
from trainbench.compliance.tags import ncf as tags

SEEDS = "set/seeds"
CONFIGURATION = "set/configuration"
OVERLAP = "set/overlap"
SAME_LOG = "set/same-log"

# The rules of this module for a reader: id and what is wanted.
SET_RULES = (
    (SEEDS, "a seed of its own for every run"),
    (CONFIGURATION, "one set of hyperparameters for all runs"),
    (OVERLAP, "runs one after another on one system"),
    (SAME_LOG, "a log of its own for every run"),
)
_WANTED = dict(SET_RULES)

# What one result has in common.
_SHARED = (
    tags.EVAL_HP_NUM_NEG,
    tags.EVAL_HP_NUM_USERS,
    tags.EVAL_SIZE,
    tags.EVAL_TARGET,
    tags.INPUT_BATCH_SIZE,
    tags.INPUT_HP_NUM_NEG,
    tags.INPUT_SIZE,
    tags.MODEL_HP_LOSS_FN,
    tags.MODEL_HP_MF_DIM,
    tags.MODEL_HP_MLP_LAYER_SIZES,
    tags.OPT_HP_ADAM_BETA1,
    tags.OPT_HP_ADAM_BETA2,
    tags.OPT_HP_ADAM_EPSILON,
    tags.OPT_LR,
    tags.OPT_NAME,
    tags.PRECISION,
    tags.PREPROC_HP_MIN_RATINGS,
    tags.PREPROC_HP_NUM_EVAL,
)


@dataclass(frozen=True)
class _Interval:
    name: str
    start: float
    stop: float


def check_set(logs: Mapping[str, Sequence[Event]]) -> list[Finding]:
    """What in a set of logs, by file name, breaks the rules of ``SET_RULES``.

    Runs on different machines may overlap, but a v0.5 log does not name its machine.
    """
    found = (*_same_log(logs), *_seeds(logs), *_configuration(logs), *_overlap(logs))
    return [Finding(rule, excerpt(text), _WANTED[rule]) for rule, text in found]


def _seeds(logs: Mapping[str, Sequence[Event]]) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for name, events in logs.items():
        seed = outcome(events).seed
        if seed is None:
            yield SEEDS, f"no seed in {name}"
        elif (earlier := first.setdefault(seed, name)) != name:
            yield SEEDS, f"seed {seed} in {earlier} and {name}"


def _configuration(logs: Mapping[str, Sequence[Event]]) -> Iterator[tuple[str, str]]:
    first: dict[str, tuple[str, str]] = {}
    for name, events in logs.items():
        own = {event.key: json.dumps(event.scalar) for event in events if event.key in _SHARED}
        for key, value in own.items():
            earlier, wanted = first.setdefault(key, (name, value))
            if value != wanted:
                yield CONFIGURATION, f"{key} {wanted} in {earlier}, {value} in {name}"


def _overlap(logs: Mapping[str, Sequence[Event]]) -> Iterator[tuple[str, str]]:
    last: _Interval | None = None
    for interval in sorted(_intervals(logs), key=lambda interval: interval.start):
        if last is not None and interval.start < last.stop:
            seconds = min(last.stop, interval.stop) - interval.start
            yield OVERLAP, f"{last.name} and {interval.name} overlap by {seconds:.1f} s"
        if last is None or interval.stop > last.stop:
            last = interval


def _intervals(logs: Mapping[str, Sequence[Event]]) -> Iterator[_Interval]:
    for name, events in logs.items():
        run = outcome(events)
        if run.run_start_unix_s is not None and run.run_stop_unix_s is not None:
            yield _Interval(name, run.run_start_unix_s, run.run_stop_unix_s)


def _same_log(logs: Mapping[str, Sequence[Event]]) -> Iterator[tuple[str, str]]:
    first: dict[tuple[tuple[str, str], ...], str] = {}
    for name, events in logs.items():
        content = tuple((event.timestamp, event.key) for event in events)
        if (earlier := first.setdefault(content, name)) != name:
            yield SAME_LOG, f"{earlier} and {name} are the same"
