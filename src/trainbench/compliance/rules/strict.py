"""What a reviewer looks at and the v0.5 checker never did: values, order, epochs, outcome.

Every rule is a row of ``STRICT``: its id, what it wants, and the function that finds the breaches
in an ``EventIndex``. The numbers are those of the v0.5 rules and of MovieLens 20M after the
reference's preprocessing (mlcommons/training@fe17e837 recommendation/pytorch). Rules on a set of
logs are in ``cross_log``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from trainbench.compliance.event import shown
from trainbench.compliance.event_index import Breach, EventIndex, is_number
from trainbench.compliance.rules import ordering
from trainbench.compliance.rules.ordering import USERS
from trainbench.compliance.tags import ncf as tags

TARGET = 0.635
EVAL_NEGATIVES = 999
TRAIN_PAIRS = 19_861_770
TRAIN_NEGATIVES = 4
EPOCH_SAMPLES = TRAIN_PAIRS * (1 + TRAIN_NEGATIVES)


@dataclass(frozen=True)
class StrictRule:
    """A rule: ``judge`` gives what was found, with the event that shows it, for every breach."""

    name: str
    wanted: str
    judge: Callable[[EventIndex], Iterable[Breach]]

    @property
    def id(self) -> str:
        """The id that findings carry: ``strict/value/eval_target``."""
        return f"strict/{self.name}"


def _value(key: str, wanted: str, holds: Callable[[Any], bool]) -> StrictRule:
    """Every value of the tag holds; a breach is reported once, at the first value that does not."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        for event in index.all(key):
            if not holds(event.scalar):
                yield shown(event.scalar), event
                return

    return StrictRule(f"value/{key}", f"{key} {wanted}", judge)


def _equal(key: str, *allowed: Any) -> StrictRule:
    def holds(value: Any) -> bool:
        return any(value == a and isinstance(value, bool) == isinstance(a, bool) for a in allowed)

    return _value(key, " or ".join(shown(a) for a in allowed), holds)


def _number(key: str, wanted: str, holds: Callable[[float], bool]) -> StrictRule:
    return _value(key, wanted, lambda value: is_number(value) and holds(value))


def _input_size(index: EventIndex) -> Iterator[Breach]:
    """Training pairs, or an epoch's samples with a last batch that is padded or carried over."""
    batches = [e.scalar for e in index.all(tags.INPUT_BATCH_SIZE) if is_number(e.scalar)]
    slack = max(batches, default=1)
    for event in index.all(tags.INPUT_SIZE):
        size = event.scalar
        if size != TRAIN_PAIRS and not (is_number(size) and abs(size - EPOCH_SAMPLES) < slack):
            yield shown(size), event
            return


_HYPERPARAMETERS = (
    tags.INPUT_BATCH_SIZE,
    tags.OPT_HP_ADAM_BETA1,
    tags.OPT_HP_ADAM_BETA2,
    tags.OPT_HP_ADAM_EPSILON,
    tags.OPT_LR,
    tags.OPT_NAME,
)


def _constant(index: EventIndex) -> Iterator[Breach]:
    for key in _HYPERPARAMETERS:
        events = index.all(key)
        for event in events[1:]:
            if event.scalar != events[0].scalar:
                yield f"{key} {shown(events[0].scalar)}, later {shown(event.scalar)}", event
                return


def _identity(index: EventIndex) -> Iterator[Breach]:
    for event in index.events:
        if (event.benchmark, event.version) != (tags.BENCHMARK, tags.VERSION):
            yield f"{event.benchmark} v{event.version}", event
            return


def _finite(index: EventIndex) -> Iterator[Breach]:
    for event in index.events:
        if not _is_finite(event.value):
            yield shown(event.value), event
            return


def _is_finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _present(key: str) -> StrictRule:
    def judge(index: EventIndex) -> Iterator[Breach]:
        if not index.all(key):
            yield "none", None

    return StrictRule(f"present/{key}", f"{key} at least once", judge)


# The tags of the reference that level 2 does not ask for, and the seed.
_ALSO_WANTED = (
    tags.INPUT_BATCH_SIZE,
    tags.INPUT_ORDER,
    tags.INPUT_SHARD,
    tags.INPUT_SIZE,
    tags.MODEL_HP_LOSS_FN,
    tags.OPT_HP_ADAM_BETA1,
    tags.OPT_HP_ADAM_BETA2,
    tags.OPT_HP_ADAM_EPSILON,
    tags.OPT_NAME,
    tags.SEED,
)

STRICT: tuple[StrictRule, ...] = (
    *(_present(key) for key in _ALSO_WANTED),
    StrictRule("identity", f"every line of {tags.BENCHMARK} v{tags.VERSION}", _identity),
    StrictRule("finite", "no NaN and no infinity", _finite),
    _equal(tags.EVAL_TARGET, TARGET),
    _equal(tags.EVAL_HP_NUM_NEG, EVAL_NEGATIVES),
    _equal(tags.EVAL_HP_NUM_USERS, USERS),
    _equal(tags.EVAL_SIZE, USERS * (1 + EVAL_NEGATIVES)),
    _equal(tags.INPUT_HP_NUM_NEG, TRAIN_NEGATIVES),
    _equal(tags.INPUT_HP_SAMPLE_TRAIN_REPLACEMENT, True),
    _equal(tags.MODEL_HP_LOSS_FN, tags.BCE),
    _equal(tags.MODEL_HP_MF_DIM, 64),
    _equal(tags.MODEL_HP_MLP_LAYER_SIZES, [256, 256, 128, 64]),
    _equal(tags.PREPROC_HP_MIN_RATINGS, 20),
    # The reference logs the negatives of one user, TensorFlow's NCF later all candidates.
    _equal(tags.PREPROC_HP_NUM_EVAL, EVAL_NEGATIVES, USERS * (1 + EVAL_NEGATIVES)),
    _equal(tags.PREPROC_HP_SAMPLE_EVAL_REPLACEMENT, True),
    StrictRule(
        f"value/{tags.INPUT_SIZE}",
        f"input_size {TRAIN_PAIRS:,} or {EPOCH_SAMPLES:,} give or take a batch",
        _input_size,
    ),
    _number(tags.INPUT_BATCH_SIZE, "a whole number above 0", lambda v: v > 0 and v == int(v)),
    _number(tags.OPT_LR, "above 0", lambda v: v > 0),
    _number(tags.OPT_HP_ADAM_BETA1, "from 0 to below 1", lambda v: 0 <= v < 1),
    _number(tags.OPT_HP_ADAM_BETA2, "from 0 to below 1", lambda v: 0 <= v < 1),
    _number(tags.OPT_HP_ADAM_EPSILON, "above 0", lambda v: v > 0),
    _value(
        tags.OPT_NAME,
        "adam or lazy_adam",
        lambda value: str(value).lower() in (tags.ADAM, tags.LAZY_ADAM),
    ),
    _equal(tags.PRECISION, "fp64", "fp32", "fp16", "bf16"),
    StrictRule("constant", "hyperparameters that stay the same in a run", _constant),
    StrictRule("order/time", "times that do not go back", ordering.monotone),
    StrictRule(
        "order/caches", "run_clear_caches once, before run_start", ordering.caches_before_start
    ),
    StrictRule(
        "order/between", "nothing between run_clear_caches and run_start", ordering.nothing_between
    ),
    StrictRule("order/clock", "work on data and model after run_start", ordering.work_on_clock),
    StrictRule(
        "order/after-stop", "no training and evaluation after run_stop", ordering.nothing_after_stop
    ),
    StrictRule("order/stop", "run_stop within 1 s of the last evaluation", ordering.stop_at_once),
    StrictRule("order/final", "run_final as the last line", ordering.final_is_last),
    StrictRule("epochs/from-zero", "epochs numbered 0, 1, 2, ...", ordering.epochs_from_zero),
    StrictRule(
        "epochs/evaluated", "every epoch trained, then evaluated", ordering.each_epoch_evaluated
    ),
    StrictRule(
        "outcome/success", "success exactly if the last HR@10 >= target", ordering.success_is_true
    ),
    StrictRule(
        "outcome/first-hit", "the end at the first HR@10 >= target", ordering.stops_at_first_hit
    ),
    StrictRule("outcome/hits", "HR@10 = whole hits / users", ordering.hits_are_counted),
    StrictRule("outcome/band", "HR@10 as in the public v0.5 logs", ordering.in_band),
)
