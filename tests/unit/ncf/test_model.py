"""Claims about NeuMF's parameters, their initialisation and its forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from small_ncf import plain_logits

from trainbench.ncf.model import Geometry, Weights, first_layer, initial_weights, logits, mean_loss

ML_20M = Geometry(138_493, 26_744, 64, (256, 256, 128, 64))
SMALL = Geometry(40, 30, 8, (32, 16, 8))


@pytest.fixture(scope="module")
def weights() -> Weights:
    return initial_weights(Geometry(2_000, 1_000, 64, (256, 256, 128, 64)), seed=1)


def test_ml_20m_has_the_references_number_of_parameters() -> None:
    assert ML_20M.num_parameters == 31_832_577


def test_every_parameter_has_its_documented_shape() -> None:
    assert {n: w.shape for n, w in initial_weights(SMALL, seed=0).items()} == {
        "user_mf": (40, 8),
        "user_mlp": (40, 16),
        "item_mf": (30, 8),
        "item_mlp": (30, 16),
        "mlp_1_kernel": (32, 16),
        "mlp_1_bias": (16,),
        "mlp_2_kernel": (16, 8),
        "mlp_2_bias": (8,),
        "final_kernel": (16, 1),
        "final_bias": (1,),
    }


def test_same_seed_same_weights_and_another_seed_others() -> None:
    first, same, other = (initial_weights(SMALL, seed=s) for s in (5, 5, 6))
    for name, values in first.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, same[name])
        assert not np.array_equal(values, other[name])


@pytest.mark.parametrize("name", ["user_mf", "user_mlp", "item_mf", "item_mlp"])
def test_embeddings_start_normal_with_deviation_one_hundredth(weights: Weights, name: str) -> None:
    values = weights[name].ravel() / 0.01
    assert abs(values.mean()) < 5 / np.sqrt(values.size)
    assert values.std() == pytest.approx(1, abs=0.02)
    assert np.mean(np.abs(values) < 1) == pytest.approx(0.6827, abs=0.01)
    assert np.abs(values).max() > 3.5


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("mlp_1_kernel", np.sqrt(6 / (256 + 256))),
        ("mlp_2_kernel", np.sqrt(6 / (256 + 128))),
        ("mlp_3_kernel", np.sqrt(6 / (128 + 64))),
        ("final_kernel", np.sqrt(3 / 128)),
        ("mlp_1_bias", 1 / np.sqrt(256)),
        ("mlp_2_bias", 1 / np.sqrt(256)),
        ("mlp_3_bias", 1 / np.sqrt(128)),
        ("final_bias", 1 / np.sqrt(128)),
    ],
)
def test_dense_parameters_start_uniform_within_their_limit(
    weights: Weights, name: str, limit: float
) -> None:
    values = weights[name].ravel()
    slack = 6 * limit / np.sqrt(3 * values.size)
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    assert abs(values.mean()) < slack
    if values.size > 1:
        assert np.abs(values).max() > limit - slack
        assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.25)


def test_forward_equals_a_plain_numpy_implementation() -> None:
    weights = initial_weights(SMALL, seed=3)
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 40, 50), rng.integers(0, 30, 50)
    expected = plain_logits(weights, users, items)

    kernel = tf.constant(weights["mlp_1_kernel"])
    first = first_layer(kernel, tf.constant(weights["user_mlp"][users]), "user")
    first += first_layer(kernel, tf.constant(weights["item_mlp"][items]), "item")
    dense = {name: tf.constant(weights[name]) for name in SMALL.dense_shapes}
    mf = tf.constant(weights["user_mf"][users]), tf.constant(weights["item_mf"][items])
    np.testing.assert_allclose(logits(dense, mf, first), expected, rtol=1e-5, atol=1e-7)


def test_loss_is_the_mean_binary_cross_entropy() -> None:
    outputs = np.array([-2.0, 0.0, 3.0], np.float32)
    labels = np.array([0, 1, 1], np.uint8)
    chance = 1 / (1 + np.exp(-outputs.astype(np.float64)))
    expected = -np.mean(np.log(np.where(labels == 1, chance, 1 - chance)))
    assert float(mean_loss(tf.constant(outputs), tf.constant(labels))) == pytest.approx(expected)
