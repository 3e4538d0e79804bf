"""What a reviewer looks at in a v0.5 ResNet log: values of the task, order, outcome.

The numbers are those of the v0.5 rules (training_policies of December 2018): ImageNet to 74.9 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainbench.compliance.event import shown
from trainbench.compliance.event_index import Breach, EventIndex
from trainbench.compliance.rules import ordering
from trainbench.compliance.rules.strict import StrictRule
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.tags import resnet as resnet_tags

TARGET = 0.749
TRAIN_EXAMPLES = 1_281_167
EVAL_EXAMPLES = 50_000


def _value(key: str, allowed: Any) -> StrictRule:
    def judge(index: EventIndex) -> Iterator[Breach]:
        for event in index.all(key):
            if event.scalar != allowed:
                yield shown(event.scalar), event
                return

    return StrictRule(f"resnet/value/{key}", f"{key} {shown(allowed)}", judge)


def _present(key: str) -> StrictRule:
    def judge(index: EventIndex) -> Iterator[Breach]:
        if not index.all(key):
            yield "none", None

    return StrictRule(f"resnet/present/{key}", f"{key} at least once", judge)


def _identity(index: EventIndex) -> Iterator[Breach]:
    for event in index.events:
        if (event.benchmark, event.version) != (resnet_tags.BENCHMARK, tags.VERSION):
            yield f"{event.benchmark} v{event.version}", event
            return


STRICT_RESNET: tuple[StrictRule, ...] = (
    _present(resnet_tags.RUN_SET_RANDOM_SEED),
    _present(resnet_tags.INPUT_BN_SPAN),
    _present(tags.OPT_NAME),
    StrictRule("resnet/identity", f"every line of resnet v{tags.VERSION}", _identity),
    _value(tags.EVAL_TARGET, TARGET),
    _value(tags.EVAL_SIZE, EVAL_EXAMPLES),
    _value(resnet_tags.PREPROC_NUM_TRAIN_EXAMPLES, TRAIN_EXAMPLES),
    _value(resnet_tags.PREPROC_NUM_EVAL_EXAMPLES, EVAL_EXAMPLES),
    StrictRule("resnet/order/time", "times that do not go back", ordering.monotone),
    StrictRule(
        "resnet/order/caches",
        "run_clear_caches once, before run_start",
        ordering.caches_before_start,
    ),
    StrictRule(
        "resnet/order/between",
        "nothing between run_clear_caches and run_start",
        ordering.nothing_between,
    ),
    StrictRule(
        "resnet/order/after-stop",
        "no training and evaluation after run_stop",
        ordering.nothing_after_stop,
    ),
    StrictRule("resnet/order/final", "run_final as the last line", ordering.final_is_last),
    StrictRule(
        "resnet/outcome/success",
        "success exactly if the last accuracy >= target",
        ordering.success_is_true,
    ),
)
