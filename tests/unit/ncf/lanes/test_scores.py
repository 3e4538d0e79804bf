"""Claims about evaluation in lanes: the scores are those of the other form, up to bfloat16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_ncf import ITEMS, SMALL, USERS, some_candidates, some_epoch

from trainbench.ncf.config import Lanes
from trainbench.ncf.evaluation.evaluator import Evaluator
from trainbench.ncf.lanes.scores import Scores
from trainbench.ncf.train import build

IN_LANES = replace(SMALL, lanes=Lanes(16, 1))


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "compiled"])
def test_scores_in_lanes_are_those_without_them(xla: bool) -> None:
    config = replace(IN_LANES, precision="bf16", xla=xla)
    trainer = build(config, USERS, ITEMS, seed=4)
    trainer.train_epoch(some_epoch(64))
    evaluator = Evaluator(trainer, some_candidates(40, 20))
    assert evaluator.scores
    tensors = trainer.tensors()
    tensors |= evaluator.project(tensors)
    users, items, _ = evaluator.inputs(np.arange(16))
    found = evaluator._scores(tensors, users, items).numpy()
    evaluator.scores = None
    expected = evaluator._scores(tensors, users, items).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * np.abs(expected).max())
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_evaluation_in_fp32_is_in_one_form_whatever_the_lanes() -> None:
    found = []
    for lanes in (IN_LANES.lanes, None):
        trainer = build(replace(SMALL, lanes=lanes), USERS, ITEMS, seed=4)
        evaluator = Evaluator(trainer, some_candidates(40, 20))
        assert not isinstance(evaluator.scores, Scores)
        found.append(evaluator.evaluate().ranks)
    np.testing.assert_array_equal(*found)
