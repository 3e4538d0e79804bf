"""What a reviewer looks at in a v0.5 ResNet log: values of the task, order, outcome.

The numbers are those of the v0.5 rules (training_policies of December 2018): ImageNet to 74.9 %.
"""

from __future__ import annotations

from dataclasses import replace

from trainbench.compliance.rules import ordering, strict
from trainbench.compliance.rules.rule import Rule
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.tags import resnet as resnet_tags

TARGET = 0.749
TRAIN_EXAMPLES = 1_281_167
EVAL_EXAMPLES = 50_000


STRICT_RESNET: tuple[Rule, ...] = tuple(
    replace(rule, name=f"resnet/{rule.name}")
    for rule in (
        strict.present(resnet_tags.RUN_SET_RANDOM_SEED),
        strict.present(resnet_tags.INPUT_BN_SPAN),
        strict.present(tags.OPT_NAME),
        strict.identity(resnet_tags.BENCHMARK),
        strict.FINITE,
        strict.equal(tags.EVAL_TARGET, TARGET),
        strict.equal(tags.EVAL_SIZE, EVAL_EXAMPLES),
        strict.equal(resnet_tags.PREPROC_NUM_TRAIN_EXAMPLES, TRAIN_EXAMPLES),
        strict.equal(resnet_tags.PREPROC_NUM_EVAL_EXAMPLES, EVAL_EXAMPLES),
        strict.TIME,
        strict.CACHES,
        strict.BETWEEN,
        strict.AFTER_STOP,
        strict.FINAL,
        Rule(
            "outcome/success",
            "success exactly if the last accuracy >= target",
            ordering.success_is_true,
        ),
    )
)
