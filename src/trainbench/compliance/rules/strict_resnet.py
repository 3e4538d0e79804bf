"""What a reviewer looks at in a v0.5 ResNet log: values of the task, order, outcome.

The numbers are those of the v0.5 rules (training_policies of December 2018): ImageNet to 74.9 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainbench.compliance.event_index import Breach, Trace
from trainbench.compliance.parse import shown
from trainbench.compliance.rules import ordering as course
from trainbench.compliance.rules.strict import StrictRule
from trainbench.compliance.tags import ncf as keys
from trainbench.compliance.tags import resnet as resnet_keys

TARGET = 0.749
TRAIN_EXAMPLES = 1_281_167
EVAL_EXAMPLES = 50_000


def _value(key: str, allowed: Any) -> StrictRule:
    def judge(trace: Trace) -> Iterator[Breach]:
        for event in trace.all(key):
            if event.scalar != allowed:
                yield shown(event.scalar), event
                return

    return StrictRule(f"resnet/value/{key}", f"{key} {shown(allowed)}", judge)


def _present(key: str) -> StrictRule:
    def judge(trace: Trace) -> Iterator[Breach]:
        if not trace.all(key):
            yield "none", None

    return StrictRule(f"resnet/present/{key}", f"{key} at least once", judge)


def _identity(trace: Trace) -> Iterator[Breach]:
    for event in trace.events:
        if (event.benchmark, event.version) != (resnet_keys.BENCHMARK, keys.VERSION):
            yield f"{event.benchmark} v{event.version}", event
            return


STRICT_RESNET: tuple[StrictRule, ...] = (
    _present(resnet_keys.RUN_SET_RANDOM_SEED),
    _present(resnet_keys.INPUT_BN_SPAN),
    _present(keys.OPT_NAME),
    StrictRule("resnet/identity", f"every line of resnet v{keys.VERSION}", _identity),
    _value(keys.EVAL_TARGET, TARGET),
    _value(keys.EVAL_SIZE, EVAL_EXAMPLES),
    _value(resnet_keys.PREPROC_NUM_TRAIN_EXAMPLES, TRAIN_EXAMPLES),
    _value(resnet_keys.PREPROC_NUM_EVAL_EXAMPLES, EVAL_EXAMPLES),
    StrictRule("resnet/order/time", "times that do not go back", course.monotone),
    StrictRule(
        "resnet/order/caches", "run_clear_caches once, before run_start", course.caches_before_start
    ),
    StrictRule(
        "resnet/order/between",
        "nothing between run_clear_caches and run_start",
        course.nothing_between,
    ),
    StrictRule(
        "resnet/order/after-stop",
        "no training and evaluation after run_stop",
        course.nothing_after_stop,
    ),
    StrictRule("resnet/order/final", "run_final as the last line", course.final_is_last),
    StrictRule(
        "resnet/outcome/success",
        "success exactly if the last accuracy >= target",
        course.success_is_true,
    ),
)
