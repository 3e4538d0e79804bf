"""The second forward pass: what the papers say, and how far rounding can be from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_ncf import SMALL, some_candidates, some_epoch

from trainbench.ncf.evaluation.evaluator import Evaluator
from trainbench.ncf.model import Geometry, initial_weights
from trainbench.ncf.proof.forward import DEVIATIONS, Network, Rounding
from trainbench.ncf.proof.ranking import place
from trainbench.ncf.train import build
from trainbench.ncf.weights import keras_model

USERS, ITEMS = 40, 48
NONE = Rounding(0.0, 0.0)


def errors(variance: np.ndarray) -> np.ndarray:
    return DEVIATIONS * np.sqrt(variance.astype(np.float64))


def some_weights(seed: int = 3, scale: float = 20.0) -> dict[str, np.ndarray]:
    """Of trained size: embeddings of order 0.2 instead of 0.01."""
    geometry = Geometry.of(SMALL, USERS, ITEMS)
    weights = initial_weights(geometry, seed=seed)
    return {n: w * np.float32(scale if n.startswith(("user", "item")) else 1) for n, w in
            weights.items()}  # fmt: skip


def in_words(weights: dict[str, np.ndarray], user: int, item: int) -> float:
    """One logit, a number at a time, as section 3.4 of He et al. has it."""
    hidden = [float(x) for side in ("user", "item") for x in weights[f"{side}_mlp"][
        user if side == "user" else item]]  # fmt: skip
    for layer in (1, 2):
        kernel, bias = weights[f"mlp_{layer}_kernel"], weights[f"mlp_{layer}_bias"]
        hidden = [
            max(0.0, sum(h * float(w) for h, w in zip(hidden, kernel[:, unit], strict=True))
                + float(bias[unit]))
            for unit in range(kernel.shape[1])
        ]  # fmt: skip
    rows = zip(weights["user_mf"][user], weights["item_mf"][item], strict=True)
    joined = [float(p) * float(q) for p, q in rows] + hidden
    final = (float(w) for w in weights["final_kernel"][:, 0])
    return sum(x * w for x, w in zip(joined, final, strict=True)) + float(weights["final_bias"][0])


def test_a_network_of_ones_has_the_logit_that_one_can_add_up() -> None:
    weights = {
        **{name: np.full((1, 1), 2, np.float32) for name in ("user_mf", "item_mf")},
        **{name: np.full((1, 1), 3, np.float32) for name in ("user_mlp", "item_mlp")},
        "mlp_1_kernel": np.array([[1], [-2]], np.float32),
        "mlp_1_bias": np.array([4], np.float32),
        "final_kernel": np.array([[5], [7]], np.float32),
        "final_bias": np.array([11], np.float32),
    }
    found = Network(weights, NONE).scores(np.array([0]), np.array([[0]]))
    assert found.of.tolist() == [[5 * 2 * 2 + 7 * (3 - 6 + 4) + 11]]
    weights["mlp_1_bias"] = np.array([2], np.float32)
    found = Network(weights, NONE).scores(np.array([0]), np.array([[0]]))
    assert found.of.tolist() == [[5 * 2 * 2 + 7 * 0 + 11]]


def test_logits_are_those_of_the_formula_written_out() -> None:
    weights = some_weights()
    users, items = np.array([0, 5, 39]), np.array([[0, 1, 47], [3, 3, 2], [9, 8, 7]])
    found = Network(weights, NONE).scores(users, items).of
    wanted = [[in_words(weights, u, i) for i in row] for u, row in zip(users, items, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def every_pair() -> tuple[np.ndarray, np.ndarray]:
    return np.arange(USERS), np.tile(np.arange(ITEMS), (USERS, 1))


def computed_in(weights: dict[str, np.ndarray], kind: Any) -> np.ndarray:
    """Logits of every pair with rows and layers in ``kind``, every result rounded to it."""
    users, items = np.repeat(np.arange(USERS), ITEMS), np.tile(np.arange(ITEMS), USERS)
    hidden = tf.cast(
        np.concatenate([weights["user_mlp"][users], weights["item_mlp"][items]], 1), kind
    )
    for layer in (1, 2):
        hidden = tf.matmul(hidden, tf.cast(weights[f"mlp_{layer}_kernel"], kind))
        hidden = tf.nn.relu(hidden + tf.cast(weights[f"mlp_{layer}_bias"], kind))
    mf = weights["user_mf"][users] * weights["item_mf"][items]
    joined = np.concatenate([mf, tf.cast(hidden, tf.float32).numpy()], axis=1)
    logits = joined @ weights["final_kernel"][:, 0] + weights["final_bias"]
    return np.asarray(logits).reshape(USERS, ITEMS)


@pytest.mark.parametrize(("precision", "kind"), [("fp32", tf.float32), ("bf16", tf.bfloat16)])
def test_no_error_is_above_the_bound_and_the_bound_is_not_far_above(
    precision: str, kind: Any
) -> None:
    ratios = []
    for seed in range(5):
        weights = some_weights(seed)
        exact = Network(weights, Rounding.of(precision, "CPU:0")).scores(*every_pair())
        wrong = np.abs(computed_in(weights, kind) - exact.of)
        ratios.append(wrong / errors(exact.variance))
    largest = np.max(ratios)
    assert 0.02 < largest < 1


def test_the_formats_bounds_are_in_the_order_of_their_digits() -> None:
    weights = some_weights()
    cpu, gpu, bf16 = (
        Network(weights, Rounding.of(*kind)).scores(*every_pair()).variance.mean()
        for kind in (("fp32", "CPU:0"), ("fp32", "GPU:0"), ("bf16", "CPU:0"))
    )
    assert cpu < gpu < bf16


def test_logits_are_those_of_the_saved_keras_model_within_the_bound() -> None:
    weights = some_weights()
    users, items = every_pair()
    found = Network(weights, Rounding.of("fp32", "CPU:0")).scores(users, items)
    model = keras_model(Geometry.of(SMALL, USERS, ITEMS), weights)
    pairs = [np.repeat(users, ITEMS), items.ravel()]
    keras = model.predict_on_batch(pairs).reshape(USERS, ITEMS)
    assert (np.abs(keras - found.of) <= errors(found.variance)).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rounding_explains_every_rank_that_the_evaluation_of_a_trained_model_finds(
    precision: str,
) -> None:
    config = replace(SMALL, precision=precision)
    trainer = build(config, USERS, ITEMS, seed=1)
    trainer.train_epoch(some_epoch(60, users=USERS, items=ITEMS))
    rows = some_candidates(USERS, 40, items=ITEMS).items
    found = Evaluator(trainer, some_candidates(USERS, 40, items=ITEMS)).evaluate()
    network = Network(trainer.weights(), Rounding.of(precision, "CPU:0"))
    scores = network.scores(np.arange(USERS), rows)
    places = [place(*row) for row in zip(rows, scores.of, errors(scores.variance), strict=True)]
    ranks = found.ranks.tolist()
    assert all(p.can_be(rank) for p, rank in zip(places, ranks, strict=True))
    if precision == "fp32":
        assert [p.rank for p in places] == ranks
