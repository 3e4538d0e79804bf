"""The strict rules on order: of the lines of a log, of its epochs, and of its outcome.

Every function gives the breaches of one rule of ``strict.STRICT``.
"""

from __future__ import annotations

from collections.abc import Iterator

from trainbench.compliance.event import shown
from trainbench.compliance.event_index import Breach, EventIndex, hit_rates, target, users
from trainbench.compliance.tags import ncf as tags

# Users of MovieLens 20M.
USERS = 138_493


def monotone(index: EventIndex) -> Iterator[Breach]:
    """A time before that of the line above."""
    for before, event in zip(index.events, index.events[1:], strict=False):
        if event.time < before.time:
            yield f"{event.timestamp} after {before.timestamp}", event
            return


def caches_before_start(index: EventIndex) -> Iterator[Breach]:
    """Caches cleared after the start, or more than once."""
    start, events = index.position(tags.RUN_START), index.all(tags.RUN_CLEAR_CACHES)
    cleared = index.position(tags.RUN_CLEAR_CACHES)
    if start is not None and cleared is not None and cleared > start:
        yield "run_clear_caches after run_start", events[0]
    if len(events) > 1:
        yield f"run_clear_caches {len(events)} times", events[1]


def nothing_between(index: EventIndex) -> Iterator[Breach]:
    """A line between run_clear_caches and run_start, whatever it says."""
    start, cleared = index.position(tags.RUN_START), index.position(tags.RUN_CLEAR_CACHES)
    if start is not None and cleared is not None and cleared + 1 < start:
        event = index.events[cleared + 1]
        yield f"{event.key} between them", event


_ON_CLOCK = (
    tags.EVAL_ACCURACY,
    tags.EVAL_START,
    tags.EVAL_STOP,
    tags.INPUT_ORDER,
    tags.INPUT_STEP_EVAL_NEG_GEN,
    tags.INPUT_STEP_TRAIN_NEG_GEN,
    tags.MODEL_HP_MF_DIM,
    tags.MODEL_HP_MLP_LAYER_SIZES,
    tags.TRAIN_EPOCH,
    tags.TRAIN_LOOP,
)


def work_on_clock(index: EventIndex) -> Iterator[Breach]:
    """Work that depends on data or model, before run_start."""
    start = index.position(tags.RUN_START)
    if start is None:
        return
    early = [event for event in index.events[:start] if event.key in _ON_CLOCK]
    if early:
        yield f"{early[0].key} before run_start", early[0]


# What the producer was asked to make ahead may still be logged while it is being stopped.
_OVER_AT_STOP = (tags.EVAL_ACCURACY, tags.EVAL_START, tags.EVAL_STOP, tags.TRAIN_EPOCH)


def nothing_after_stop(index: EventIndex) -> Iterator[Breach]:
    """Training or evaluation after run_stop."""
    if index.position(tags.RUN_STOP) is None:
        return
    for event in index.between(tags.RUN_STOP, None):
        if event.key in _OVER_AT_STOP:
            yield f"{event.key} after run_stop", event
            return


def stop_at_once(index: EventIndex) -> Iterator[Breach]:
    """run_stop more than a second after the evaluation that decided."""
    stops, evaluations = index.all(tags.RUN_STOP), index.all(tags.EVAL_ACCURACY)
    if stops and evaluations:
        late = stops[0].time - evaluations[-1].time
        if late > 1:
            yield f"{late} s later", stops[0]


def final_is_last(index: EventIndex) -> Iterator[Breach]:
    """A line after run_final."""
    if index.all(tags.RUN_FINAL) and index.events[-1].key != tags.RUN_FINAL:
        yield f"{index.events[-1].key} after run_final", index.events[-1]


def epochs_from_zero(index: EventIndex) -> Iterator[Breach]:
    """An epoch out of 0, 1, 2, ..."""
    for wanted, event in enumerate(index.all(tags.TRAIN_EPOCH)):
        if event.epoch != wanted:
            yield f"{shown(event.epoch)} as epoch {wanted}", event
            return


_CYCLE = (tags.TRAIN_EPOCH, tags.EVAL_START, tags.EVAL_ACCURACY, tags.EVAL_STOP)


def each_epoch_evaluated(index: EventIndex) -> Iterator[Breach]:
    """train, start, accuracy, stop, over and over; an evaluation before training is no epoch.

    Tags that name their epoch must name the one that was trained; some v0.5 logs leave it out.
    """
    expected, epoch = 0, None
    for event in index.between(tags.TRAIN_LOOP, tags.RUN_STOP):
        if event.key not in _CYCLE:
            continue
        if event.key != _CYCLE[expected]:
            yield f"{event.key} in place of {_CYCLE[expected]}", event
            return
        epoch = event.epoch if event.key == tags.TRAIN_EPOCH else epoch
        if event.epoch not in (None, epoch):
            yield f"{event.key} of epoch {shown(event.epoch)} after {shown(epoch)}", event
            return
        expected = (expected + 1) % len(_CYCLE)
    if expected:
        yield f"no {_CYCLE[expected]} in the last epoch", None


def success_is_true(index: EventIndex) -> Iterator[Breach]:
    """run_stop that claims another outcome than the last evaluation."""
    rates, wanted, stops = hit_rates(index), target(index), index.all(tags.RUN_STOP)
    if not stops or not rates or wanted is None:
        return
    value = stops[0].value
    success = value.get("success") if isinstance(value, dict) else None
    if success is not (rates[-1][0] >= wanted):
        yield f"{shown(success)} with a last HR@10 of {rates[-1][0]}", stops[0]


def stops_at_first_hit(index: EventIndex) -> Iterator[Breach]:
    """Training that went on after the target was reached."""
    wanted = target(index)
    for rate, event in hit_rates(index)[:-1]:
        if wanted is not None and rate >= wanted:
            yield f"HR@10 {rate}, and training went on", event
            return


def hits_are_counted(index: EventIndex) -> Iterator[Breach]:
    """HR@10 is a count over all users; public logs print it with 7 digits or as 32-bit floats."""
    number = users(index) or 0
    rates = hit_rates(index) if number > 0 else []
    for rate, event in rates:
        hits = rate * number
        if not 0 <= rate <= 1 or abs(hits - round(hits)) > number * 1.5e-7:
            yield f"{rate} of {number} users, {hits:.3f} hits", event
            return
    counted = [event.scalar for event in index.all(tags.EVAL_HITS)]
    if counted and counted != [round(rate * number) for rate, _ in rates]:
        yield "eval_hits that are not eval_accuracy times users", index.all(tags.EVAL_HITS)[0]


# Lowest and highest HR@10 after each epoch, from the public logs of the v0.5 round: NVIDIA's batch
# of 1 M below and the reference's of 2,048 above, with a margin. Later epochs keep the last row.
_BAND = (
    (0.40, 0.60),
    (0.46, 0.62),
    (0.50, 0.63),
    (0.53, 0.634),
    (0.55, 0.645),
    (0.565, 0.65),
    (0.575, 0.65),
    (0.58, 0.65),
    (0.585, 0.65),
    (0.59, 0.65),
)


def in_band(index: EventIndex) -> Iterator[Breach]:
    """Only for the users of MovieLens 20M: another data set has another curve."""
    if users(index) != USERS:
        return
    for epoch, (rate, event) in enumerate(hit_rates(index)):
        low, high = _BAND[min(epoch, len(_BAND) - 1)]
        if not low <= rate <= high:
            yield f"{rate} after epoch {epoch} (public logs: {low} to {high})", event
            return
