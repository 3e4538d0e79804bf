"""Claims about hit rate and NDCG of a model: the reference's, however users are batched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_ncf import SMALL, plain_logits, reference_rank, some_candidates, some_epoch

from trainbench.errors import ConfigError, TrainbenchError
from trainbench.ncf.evaluation import evaluator as evaluation
from trainbench.ncf.evaluation.evaluator import Evaluator, picks_from_product, require_missable
from trainbench.ncf.evaluation.rivals import MappedRivals, rivals
from trainbench.ncf.model import Weights
from trainbench.ncf.train import Trainer, build

USERS, ITEMS = 37, 60
CANDIDATES = some_candidates(USERS, 40, items=ITEMS, seed=2)


@pytest.mark.parametrize(("target", "guessed", "untrained"), [(0.5, 0.5, None), (0.5, 0.01, 0.5)])
def test_a_target_that_needs_no_training_is_refused(
    target: float, guessed: float, untrained: float | None
) -> None:
    with pytest.raises(ConfigError, match="it is reached without training"):
        require_missable(target, guessed, untrained)
    require_missable(target + 1e-9, guessed, untrained)
    require_missable(None, guessed, untrained)


@contextmanager
def assigned(trainer: Trainer, weights: Weights) -> Iterator[None]:
    """The trainer's model has these weights inside, and its own again after."""
    kept = trainer.weights()
    trainer.step.assign(weights)
    try:
        yield
    finally:
        trainer.step.assign(kept)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    """A model whose scores are far enough apart that rounding decides no rank."""
    trainer = build(SMALL, USERS, ITEMS, seed=1)
    weights = trainer.weights()
    rng = np.random.default_rng(1)
    trainer.step.assign({n: rng.normal(0, 1, w.shape).astype("f4") for n, w in weights.items()})
    return trainer


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_hit_rate_and_ndcg_are_the_references(trainer: Trainer, xla: bool) -> None:
    hits, gain = 0, 0.0
    for user, row in enumerate(CANDIDATES.items.tolist()):
        scores = plain_logits(trainer.weights(), np.full(ITEMS, user), np.arange(ITEMS))
        place = reference_rank(row, dict(enumerate(scores.tolist())))
        if place is not None:
            hits, gain = hits + 1, gain + math.log(2) / math.log(place + 2)
    trainer = replace(trainer, config=replace(trainer.config, xla=xla))
    found = Evaluator(trainer, CANDIDATES).evaluate()
    assert 0 < found.hits < USERS
    assert found.hits == hits
    assert isinstance(found.hits, int)
    assert found.hit_rate == hits / USERS
    assert found.ndcg == pytest.approx(gain / USERS)
    assert (found.users, found.pairs) == (USERS, USERS * 41)


def test_batching_of_users_does_not_change_the_result(trainer: Trainer) -> None:
    results = set()
    for size in (1, 16, 37, 256):
        config = replace(trainer.config, eval_users_per_batch=size)
        found = Evaluator(replace(trainer, config=config), CANDIDATES).evaluate()
        results.add((found.hits, found.ndcg))
    assert len(results) == 1


def test_chosen_users_get_the_ranks_that_they_have_among_all(trainer: Trainer) -> None:
    evaluator = Evaluator(trainer, CANDIDATES)
    everyone = evaluator._all_ranks(np.arange(USERS), None)
    chosen = np.array([36, 0, 5, 7, 8, 9, 30])
    assert (evaluator._all_ranks(chosen, None) == everyone[chosen]).all()
    found = evaluator.evaluate(chosen=chosen)
    assert (found.users, found.hits) == (7, int((everyone[chosen] < 10).sum()))


def test_rivals_that_are_made_for_each_batch_are_those_that_are_held(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = np.concatenate([CANDIDATES.items] * 20)
    np.save(tmp_path / "items.npy", rows)
    mapped = np.load(tmp_path / "items.npy", mmap_mode="r")
    held, made = rivals(rows), rivals(mapped, held=rows.size - 1)
    assert not made.items.size, "nothing is held"
    for users in (np.arange(len(rows)), np.array([5, 3, 3, len(rows) - 1]), np.array([0])):
        for wanted, found in zip(held.of(users), made.of(users), strict=True):
            np.testing.assert_array_equal(wanted, found)
    assert (held.guessed_hit_rate, held.sure_hits) == (made.guessed_hit_rate, made.sure_hits)
    before = Evaluator(trainer, CANDIDATES).evaluate()
    monkeypatch.setattr(rivals, "__kwdefaults__", {"held": 1})
    after = Evaluator(trainer, CANDIDATES)
    assert isinstance(after.rivals, MappedRivals)
    assert after.evaluate().ranks.tolist() == before.ranks.tolist()


def test_a_sample_is_of_all_users_where_they_are_few_and_spread_where_they_are_many(
    trainer: Trainer,
) -> None:
    evaluator = Evaluator(trainer, CANDIDATES)
    assert evaluator.sample().tolist() == list(range(USERS))
    evaluator.held_out = np.zeros(138_493, np.int32)
    sample = evaluator.sample()
    assert (len(set(sample)), sample[0], sample[-1]) == (2_048, 0, 138_492)


def test_users_scored_one_by_one_or_many_at_once_get_the_same_ranks(trainer: Trainer) -> None:
    results = set()
    for group in (1, 2, 4, 16):
        evaluator = Evaluator(trainer, CANDIDATES)
        evaluator.group = group
        found = evaluator.evaluate()
        results.add((found.hits, found.ndcg))
    assert len(results) == 1


def test_picking_from_one_product_or_taking_rows_gives_the_same_logits(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = []
    for picks in (True, False):
        monkeypatch.setattr(evaluation, "picks_from_product", lambda *sizes, answer=picks: answer)
        evaluator = Evaluator(trainer, CANDIDATES)
        tensors = trainer.tensors()
        tensors |= evaluator.project(tensors)
        users, items, _ = evaluator.inputs(np.arange(evaluator.batch))
        logits.append(evaluator._scores(tensors, users, items).numpy())
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5, atol=1e-6)
    assert logits[0].std() > 0


def test_one_product_is_taken_only_where_it_is_less_work_and_fits() -> None:
    assert picks_from_product(256, 992, 26_744)
    assert not picks_from_product(256, 100, 26_744)
    assert not picks_from_product(138_493, 992, 26_744)


def test_evaluation_sees_the_rows_that_lazy_adam_owes() -> None:
    config = replace(SMALL, learning_rate=0.05)
    data = some_epoch(8, users=USERS, items=ITEMS)
    results = []
    for form in ("plain", "fast"):
        trainer = build(config, USERS, ITEMS, seed=1, form=form)
        trainer.train_epoch(data)
        results.append(Evaluator(trainer, CANDIDATES).evaluate().hits)
    assert results[0] == results[1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_parameter_that_is_not_finite_ends_the_evaluation(trainer: Trainer, bad: float) -> None:
    damaged = {name: value.copy() for name, value in trainer.weights().items()}
    # A row of an item that nobody is asked about: it must not pass unseen.
    damaged["item_mf"][ITEMS - 1] = bad
    told = "the parameter item_mf is not finite"
    with assigned(trainer, damaged), pytest.raises(TrainbenchError, match=told):
        Evaluator(trainer, CANDIDATES).evaluate()


def test_scores_that_overflow_are_no_hits(trainer: Trainer) -> None:
    huge = {name: value.copy() for name, value in trainer.weights().items()}
    huge["item_mf"][:] = huge["user_mf"][:] = 1e30
    told = "scores of 37 users are not finite, user 0"
    with assigned(trainer, huge), pytest.raises(TrainbenchError, match=told):
        Evaluator(trainer, CANDIDATES).evaluate()
