"""What a reviewer looks at and the v0.5 checker never did: values, order, epochs, outcome.

Every rule is a row of ``STRICT``: its id, what it wants, and the function that finds the breaches
in an ``EventIndex``. The numbers are those of the v0.5 rules and of MovieLens 20M after the
reference's preprocessing (mlcommons/training@fe17e837 recommendation/pytorch). Rules on a set of
logs are in ``cross_log``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from trainbench.compliance import two_clocks
from trainbench.compliance.event import shown
from trainbench.compliance.event_index import Breach, EventIndex, is_number
from trainbench.compliance.rules import ordering
from trainbench.compliance.rules.ordering import USERS
from trainbench.compliance.rules.rule import Rule, at_least_one
from trainbench.compliance.tags import ncf as tags

TARGET = 0.635
EVAL_NEGATIVES = 999
TRAIN_PAIRS = 19_861_770
TRAIN_NEGATIVES = 4
EPOCH_SAMPLES = TRAIN_PAIRS * (1 + TRAIN_NEGATIVES)


def _value(key: str, wanted: str, holds: Callable[[Any], bool]) -> Rule:
    """Every value of the tag holds; a breach is reported once, at the first value that does not."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        for event in index.all(key):
            if not holds(event.scalar):
                yield shown(event.scalar), event
                return

    return Rule(f"value/{key}", f"{key} {wanted}", judge)


def equal(key: str, *allowed: Any) -> Rule:
    """Every value of the tag is one of ``allowed``."""

    def holds(value: Any) -> bool:
        return any(value == a and isinstance(value, bool) == isinstance(a, bool) for a in allowed)

    return _value(key, " or ".join(shown(a) for a in allowed), holds)


def _number(key: str, wanted: str, holds: Callable[[float], bool]) -> Rule:
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


def identity(benchmark: str) -> Rule:
    """Every line names ``benchmark`` and the version of the rules."""

    def judge(index: EventIndex) -> Iterator[Breach]:
        for event in index.events:
            if (event.benchmark, event.version) != (benchmark, tags.VERSION):
                yield f"{event.benchmark} v{event.version}", event
                return

    return Rule("identity", f"every line of {benchmark} v{tags.VERSION}", judge)


def _finite(index: EventIndex) -> Iterator[Breach]:
    for event in index.events:
        if not _is_finite(event.value):
            yield shown(event.value), event
            return


def _is_finite(value: Any) -> bool:
    """No NaN and no infinity at any depth, as a number or as the text of one."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return all(_is_finite(item) for item in inner)
    if isinstance(value, str | float):
        with contextlib.suppress(ValueError):
            return math.isfinite(float(value))
    return True


def present(key: str) -> Rule:
    """The tag is there."""
    return at_least_one(key, "present")


# What every benchmark has.
FINITE = Rule("finite", "no NaN and no infinity", _finite)
TIME = Rule("order/time", "times that do not go back", ordering.monotone)
CACHES = Rule(
    "order/caches", "run_clear_caches once, before run_start", ordering.caches_before_start
)
BETWEEN = Rule(
    "order/between", "nothing between run_clear_caches and run_start", ordering.nothing_between
)
AFTER_STOP = Rule(
    "order/after-stop", "no training and evaluation after run_stop", ordering.nothing_after_stop
)
FINAL = Rule("order/final", "run_final as the last line", ordering.final_is_last)


# What every log is held against, of whatever benchmark, where it has a clock.jsonl.
def _by_clocks(name: str, wanted: str, breaches: Callable[..., Iterator[Breach]]) -> Rule:
    return Rule(name, wanted, lambda index: breaches(index.events, index.clocks))


CLOCKS = tuple(_by_clocks(*rule) for rule in two_clocks.RULES)

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

STRICT: tuple[Rule, ...] = (
    *(present(key) for key in _ALSO_WANTED),
    identity(tags.BENCHMARK),
    FINITE,
    equal(tags.EVAL_TARGET, TARGET),
    equal(tags.EVAL_HP_NUM_NEG, EVAL_NEGATIVES),
    equal(tags.EVAL_HP_NUM_USERS, USERS),
    equal(tags.EVAL_SIZE, USERS * (1 + EVAL_NEGATIVES)),
    equal(tags.INPUT_HP_NUM_NEG, TRAIN_NEGATIVES),
    equal(tags.INPUT_HP_SAMPLE_TRAIN_REPLACEMENT, True),
    equal(tags.MODEL_HP_LOSS_FN, tags.BCE),
    equal(tags.MODEL_HP_MF_DIM, 64),
    equal(tags.MODEL_HP_MLP_LAYER_SIZES, [256, 256, 128, 64]),
    equal(tags.PREPROC_HP_MIN_RATINGS, 20),
    # The reference logs the negatives of one user, TensorFlow's NCF later all candidates.
    equal(tags.PREPROC_HP_NUM_EVAL, EVAL_NEGATIVES, USERS * (1 + EVAL_NEGATIVES)),
    equal(tags.PREPROC_HP_SAMPLE_EVAL_REPLACEMENT, True),
    Rule(
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
    equal(tags.PRECISION, "fp64", "fp32", "fp16", "bf16"),
    Rule("constant", "hyperparameters that stay the same in a run", _constant),
    TIME,
    CACHES,
    BETWEEN,
    Rule("order/clock", "work on data and model after run_start", ordering.work_on_clock),
    AFTER_STOP,
    Rule("order/stop", "run_stop within 1 s of the last evaluation", ordering.stop_at_once),
    FINAL,
    Rule("epochs/from-zero", "epochs numbered 0, 1, 2, ...", ordering.epochs_from_zero),
    Rule("epochs/evaluated", "every epoch trained, then evaluated", ordering.each_epoch_evaluated),
    Rule(
        "outcome/success", "success exactly if the last HR@10 >= target", ordering.success_is_true
    ),
    Rule("outcome/first-hit", "the end at the first HR@10 >= target", ordering.stops_at_first_hit),
    Rule("outcome/hits", "HR@10 = whole hits / users", ordering.hits_are_counted),
    Rule("outcome/band", "HR@10 as in the public v0.5 logs", ordering.in_band),
)
