"""Makes a v0.5 NCF log without a fault, to be broken in one place by a test."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from trainbench.compliance.dialects.v05 import format_line
from trainbench.compliance.event import Event, Line
from trainbench.compliance.tags import ncf as tags

USERS = 138_493
START = 1_541_635_650
# The counts behind the reference's own curve, the last one the first above the target.
HITS = (79_629, 83_799, 85_742, 86_602, 86_722, 87_832, 88_071)
FAILED = (*HITS[:-1], 87_943)

Events = list[Event]


def run(
    *,
    seed: int = 1234,
    start: float = START,
    hits: Sequence[int] = HITS,
    epoch_s: float = 20.0,
    target: float = 0.635,
) -> Events:
    """The events of a whole run: preprocessing, caches, set-up, one epoch per count, the end."""
    clock = Decimal(str(start))
    events: Events = []

    def emit(key: str, value: Any = None, after: float = 0.001) -> None:
        nonlocal clock
        clock += Decimal(str(after))
        events.append(Event(key, value, f"{clock:.9f}", "ncf/trial.py", 100 + len(events)))

    emit(tags.PREPROC_HP_MIN_RATINGS, 20)
    emit(tags.PREPROC_HP_NUM_EVAL, 999)
    emit(tags.PREPROC_HP_SAMPLE_EVAL_REPLACEMENT, True)
    emit(tags.RUN_CLEAR_CACHES, after=30)
    emit(tags.RUN_START)
    emit(tags.SEED, seed)
    emit(tags.MODEL_HP_MF_DIM, 64)
    emit(tags.MODEL_HP_MLP_LAYER_SIZES, [256, 256, 128, 64])
    emit(tags.OPT_NAME, "adam")
    emit(tags.OPT_LR, 0.00281936)
    emit(tags.OPT_HP_ADAM_BETA1, 0.0490852)
    emit(tags.OPT_HP_ADAM_BETA2, 0.965095)
    emit(tags.OPT_HP_ADAM_EPSILON, 1.23757e-8)
    emit(tags.MODEL_HP_LOSS_FN, "binary_cross_entropy")
    emit(tags.PRECISION, "fp32")
    emit(tags.INPUT_STEP_EVAL_NEG_GEN)
    emit(tags.EVAL_HP_NUM_USERS, USERS)
    emit(tags.EVAL_SIZE, USERS * 1000)
    emit(tags.INPUT_SHARD)
    emit(tags.TRAIN_LOOP)
    for epoch, count in enumerate(hits):
        emit(tags.INPUT_STEP_TRAIN_NEG_GEN)
        emit(tags.INPUT_HP_NUM_NEG, 4)
        emit(tags.INPUT_HP_SAMPLE_TRAIN_REPLACEMENT, True)
        emit(tags.INPUT_ORDER)
        emit(tags.INPUT_SIZE, 19_861_770)
        emit(tags.INPUT_BATCH_SIZE, 65_536)
        emit(tags.TRAIN_EPOCH, epoch)
        emit(tags.EVAL_START, epoch, after=epoch_s)
        emit(tags.EVAL_TARGET, {"epoch": epoch, "value": target})
        emit(tags.EVAL_ACCURACY, {"epoch": epoch, "value": count / USERS}, after=2)
        emit(tags.EVAL_HITS, {"epoch": epoch, "value": count})
        emit(tags.EVAL_HP_NUM_NEG, {"epoch": epoch, "value": 999})
        emit(tags.EVAL_HP_NUM_USERS, USERS)
        emit(tags.EVAL_STOP, epoch)
    emit(tags.RUN_STOP, {"success": hits[-1] / USERS >= target})
    emit(tags.RUN_FINAL, after=0.5)
    return events


def lines(events: Events) -> list[str]:
    """The lines of a log, with their line ends."""
    return [format_line(event) + "\n" for event in events]


def numbered(events: Events) -> list[Line]:
    """The lines of a log as the reader gives them."""
    return [Line(i, format_line(event)) for i, event in enumerate(events, start=1)]


def without(key: str) -> Callable[[Events], Events]:
    """A log that lacks a tag."""
    return lambda events: [event for event in events if event.key != key]


def valued(key: str, value: Any, *, which: slice = slice(None)) -> Callable[[Events], Events]:
    """A log in which a tag, everywhere or only some times, has another value."""

    def change(events: Events) -> Events:
        chosen = {id(event) for event in [e for e in events if e.key == key][which]}
        return [replace(e, value=value) if id(e) in chosen else e for e in events]

    return change


def inserted(key: str, value: Any, *, after: str) -> Callable[[Events], Events]:
    """A log with one more line, at the instant after the first line with a certain tag."""

    def change(events: Events) -> Events:
        place = position(events, after)
        time = f"{events[place].time + Decimal('0.000001'):.9f}"
        line = replace(events[place], key=key, value=value, timestamp=time)
        return [*events[: place + 1], line, *events[place + 1 :]]

    return change


def moved(key: str, *, after: str) -> Callable[[Events], Events]:
    """A log in which the first line with a tag stands, and happened, later or earlier."""

    def change(events: Events) -> Events:
        line = events[position(events, key)]
        return inserted(line.key, line.value, after=after)([e for e in events if e is not line])

    return change


def position(events: Events, key: str) -> int:
    """The place of the first line with a tag."""
    return next(i for i, event in enumerate(events) if event.key == key)


def many(runs: int, *, converged: int, order_seed: int = 0) -> list[Events]:
    """The logs of a set of runs, one after another, of which so many reach the target."""
    generator = random.Random(order_seed)
    outcomes = [i < converged for i in range(runs)]
    generator.shuffle(outcomes)
    logs, start = [], float(START)
    for index, success in enumerate(outcomes):
        epoch_s = 15 + 10 * generator.random()
        logs.append(run(seed=index, start=start, hits=HITS if success else FAILED, epoch_s=epoch_s))
        start += 1000
    return logs
