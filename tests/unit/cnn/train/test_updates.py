"""Exact sequences of losses for every update rule and strategy."""

from __future__ import annotations

import cnn_standins
import numpy as np
import pytest
import tensorflow as tf
from closed_form import DECAY, IMAGES, RATE, expected
from cnn_standins import Linear, Listed, Synthetic, Trivial, losses

from trainbench import cnn
from trainbench.cnn import console
from trainbench.cnn.train.optimizers import Optimizer
from trainbench.cnn.train.strategies import Strategy

OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")
REDUCTIONS = {"parameter_server": "mean", "replicated": "sum", "independent": "none"}


def run(capsys: pytest.CaptureFixture, **values: object) -> list[float]:
    flags = {
        "num_gpus": 2, "batch_size": 2, "num_batches": 4, "weight_decay": DECAY,
        "init_learning_rate": RATE, **values,
    }  # fmt: skip
    cnn_standins.run(Listed(IMAGES.reshape(-1, 1, 1, 1)), Linear(), **flags)
    return losses(capsys.readouterr().out)


@pytest.fixture(autouse=True)
def _many_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOSS_AND_ACCURACY_DIGITS_TO_SHOW", 15)


@pytest.mark.parametrize("update", REDUCTIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_losses_follow_from_the_rules(
    capsys: pytest.CaptureFixture, optimizer: str, update: str
) -> None:
    found = run(capsys, optimizer=optimizer, variable_update=update)
    wanted = expected(optimizer, REDUCTIONS[update], "total_loss")
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert wanted[0] == 1.15625


@pytest.mark.parametrize("update", REDUCTIONS)
def test_the_loss_that_is_reported_may_leave_out_l2(
    capsys: pytest.CaptureFixture, update: str
) -> None:
    flags = {"optimizer": "adam", "variable_update": update}
    found = run(capsys, **flags, loss_type_to_report="base_loss")
    wanted = expected("adam", REDUCTIONS[update], "base_loss")
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert wanted[0] == 1.0


@pytest.mark.parametrize("devices", [1, 2, 3])
@pytest.mark.parametrize("update", REDUCTIONS)
def test_any_number_of_devices_follows_the_same_rules(
    capsys: pytest.CaptureFixture, update: str, devices: int
) -> None:
    found = run(capsys, optimizer="momentum", variable_update=update, num_gpus=devices)
    wanted = expected("momentum", REDUCTIONS[update], "total_loss", devices=devices)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("update", REDUCTIONS)
def test_float16_follows_within_its_precision(
    capsys: pytest.CaptureFixture, optimizer: str, update: str
) -> None:
    found = run(capsys, optimizer=optimizer, variable_update=update, use_fp16=True)
    wanted = expected(optimizer, REDUCTIONS[update], "total_loss")
    np.testing.assert_allclose(found, wanted, rtol=3e-2)


@pytest.mark.parametrize(
    "values",
    [
        {"single_l2_loss_op": True},
        {"gradient_repacking": 1},
        {"gradient_repacking": 2},
        {"all_reduce_spec": "pscpu"},
        {"all_reduce_spec": "psgpu#2"},
        {"all_reduce_spec": "xring"},
        {"all_reduce_spec": "nccl"},
        {"agg_small_grads_max_bytes": 64},
        {"variable_update": "distributed_all_reduce", "all_reduce_spec": "pscpu:2k:xring"},
        {"variable_update": "collective_all_reduce", "all_reduce_spec": "collective"},
        {"xla_compile": True},
    ],
)
def test_how_a_sum_is_formed_does_not_change_it(
    capsys: pytest.CaptureFixture, values: dict
) -> None:
    found = run(capsys, **{"variable_update": "replicated", "optimizer": "momentum", **values})
    np.testing.assert_allclose(found, expected("momentum", "sum", "total_loss"), rtol=1e-5)


def test_relaxed_consistency_applies_gradients_one_step_late(
    capsys: pytest.CaptureFixture,
) -> None:
    found = run(capsys, variable_update="replicated", variable_consistency="relaxed")
    np.testing.assert_allclose(found, expected("sgd", "sum", "total_loss", delay=True), rtol=1e-5)


def test_gradients_are_clipped_by_value_after_they_are_combined(
    capsys: pytest.CaptureFixture,
) -> None:
    for update, reduction in REDUCTIONS.items():
        found = run(capsys, variable_update=update, gradient_clip=0.75)
        wanted = expected("sgd", reduction, "total_loss", clip=0.75)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_without_weight_decay_both_losses_are_the_same(capsys: pytest.CaptureFixture) -> None:
    found = run(capsys, weight_decay=0)
    np.testing.assert_allclose(found, expected("sgd", "mean", "base_loss", decay=0), rtol=1e-5)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"gradient_repacking": 3},
        {"all_reduce_spec": "pscpu"},
        {"all_reduce_spec": "xring"},
        {"agg_small_grads_max_bytes": 64, "agg_small_grads_max_group": 4},
    ],
)
def test_ten_towers_of_ten_gradients_sum_to_450_and_ten_times_j(values: dict, half: bool) -> None:
    params = cnn.make_params(
        variable_update="replicated", num_gpus=10, use_fp16=half,
        compact_gradient_transfer=half, **values,
    )  # fmt: skip
    strategy = Strategy.of(params, ["/cpu:0"] * 10)
    towers = [[tf.fill((j + 1, 2), float(10 * i + j)) for j in range(10)] for i in range(10)]
    for copy in strategy.combine(towers):
        for j, total in enumerate(copy):
            assert total.shape == (j + 1, 2)
            assert (total.dtype, float(total[0, 0])) == (tf.float32, 450 + 10 * j)


def test_relaxed_consistency_returns_the_sums_of_the_step_before() -> None:
    params = cnn.make_params(
        variable_update="replicated", num_gpus=2, variable_consistency="relaxed"
    )
    strategy = Strategy.of(params, ["/cpu:0"] * 2)
    combine = tf.function(lambda x: strategy.combine([[x], [2 * x]])[1][0])
    assert [float(combine(tf.constant(float(x)))) for x in (1, 2, 3)] == [0, 3, 6]


def test_lars_scales_each_layer_by_its_own_norms() -> None:
    params = cnn.make_params(
        optimizer="lars", momentum=0.9, weight_decay=0.01, lars_coefficient=0.1
    )
    weights, bias = tf.Variable([3.0, 4.0]), tf.Variable([1.0])
    rule = Optimizer(params, [weights, bias], l2=[True, False])
    grad = np.array([0.6, 0.8])
    value, velocity = np.array([3.0, 4.0]), np.zeros(2)
    for _ in range(3):
        rule.apply([tf.constant(grad, tf.float32), tf.constant([2.0])], tf.constant(0.5))
        norm = np.linalg.norm(value)
        ratio = 0.1 * norm / (1.0 + 0.01 * norm)
        velocity = 0.9 * velocity + 0.5 * ratio * (grad + 0.01 * value)
        value = value - velocity
    np.testing.assert_allclose(weights.numpy(), value, rtol=1e-5)
    np.testing.assert_allclose(bias.numpy(), [1 - 1.0 * (3 + 2 * 0.9 + 0.81)], rtol=1e-5)


def test_the_velocity_does_not_hold_the_learning_rate() -> None:
    # Keras' SGD would: after a change of the rate the two differ.
    params = cnn.make_params(optimizer="momentum")
    variable = tf.Variable([0.0])
    rule = Optimizer(params, [variable], l2=[True])
    rule.apply([tf.constant([1.0])], tf.constant(1.0))
    rule.apply([tf.constant([0.0])], tf.constant(0.1))
    np.testing.assert_allclose(variable.numpy(), [-1.9 - 0.1 * 0.9 * 0.9], rtol=1e-6)


def test_copies_of_a_replicated_model_stay_equal_and_independent_ones_do_not() -> None:
    for update, equal in (("replicated", True), ("independent", False)):
        params = cnn.make_params(
            device="cpu", num_gpus=2, batch_size=2, num_batches=2, num_warmup_batches=0,
            variable_update=update, init_learning_rate=0.1,
        )  # fmt: skip
        benchmark = cnn.BenchmarkCNN(params, dataset=_Apart(), model=Trivial())
        benchmark.run()
        one, two = (copy.trainable[0].numpy() for copy in benchmark.session.step.copies)
        assert np.array_equal(one, two) is equal


class _Apart(Synthetic):
    is_synthetic = False
