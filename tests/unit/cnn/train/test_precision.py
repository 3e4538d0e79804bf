"""The loss scale and number formats."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from cnn_standins import Listed, Normalised, Synthetic, Trivial, losses

from trainbench import cnn
from trainbench.cnn.models.layers import Norm
from trainbench.cnn.models.net import Net
from trainbench.cnn.models.spec import CnnModel
from trainbench.cnn.train.precision import LossScale, all_finite, initial_loss_scale


def scale_of(value: float, steps: int, every: int | None, *, is_chief: bool = True) -> LossScale:
    return LossScale(tf.Variable(value), tf.Variable(steps, dtype=tf.int64), every, is_chief)


def state(scale: LossScale) -> tuple[float, int]:
    return float(scale.value), int(scale.good_steps)


@pytest.mark.parametrize(
    ("steps", "finite", "expected"),
    [
        (10, True, (8.0, 0)),
        (9, True, (4.0, 10)),
        (0, True, (4.0, 1)),
        (10, False, (2.0, 0)),
        (0, False, (2.0, 0)),
    ],
)
def test_the_scale_doubles_after_n_and_one_more_finite_steps(
    steps: int, finite: bool, expected: tuple
) -> None:
    scale = scale_of(4.0, steps, 10)
    scale.update(tf.constant(finite))
    assert state(scale) == expected


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_any_sequence_follows_the_rule(every: int) -> None:
    scale = scale_of(128.0, 0, every)
    update = tf.function(scale.update)
    value, counter = 128.0, 0
    for finite in np.random.default_rng(every).random(60) < 0.8:
        update(tf.constant(bool(finite)))
        if not finite:
            value, counter = value / 2, 0
        elif counter < every:
            counter += 1
        else:
            value, counter = value * 2, 0
        assert state(scale) == (value, counter)


@pytest.mark.parametrize("finite", [True, False])
def test_a_fixed_scale_never_changes(finite: bool) -> None:
    scale = scale_of(4.0, 10, None)
    scale.update(tf.constant(finite))
    assert state(scale) == (4.0, 10)


@pytest.mark.parametrize("finite", [True, False])
def test_only_the_chief_changes_the_scale(finite: bool) -> None:
    scale = scale_of(4.0, 10, 10, is_chief=False)
    scale.update(tf.constant(finite))
    assert state(scale) == (4.0, 10)


def test_gradients_are_finite_when_every_element_is() -> None:
    good = [tf.constant([1.0, 3e38, 3e38]), tf.constant(2.0, tf.float16)]
    assert bool(all_finite(good))
    for bad in (np.nan, np.inf, -np.inf):
        assert not bool(all_finite([*good, tf.constant([[0.0, bad]])]))


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ({}, None),
        ({"use_fp16": True}, 128.0),
        ({"use_fp16": True, "fp16_loss_scale": 8}, 8.0),
        ({"use_fp16": True, "fp16_loss_scale": 1}, None),
        ({"use_fp16": True, "fp16_loss_scale": 1, "fp16_enable_auto_loss_scale": True}, 1.0),
        ({"use_fp16": True, "eval": True}, None),
        ({"use_bf16": True}, None),
    ],
)
def test_the_loss_is_scaled_in_float16_training_only(values: dict, scale: float | None) -> None:
    assert initial_loss_scale(cnn.make_params(**values)) == scale


def test_a_step_with_infinite_gradients_changes_no_variable(
    capsys: pytest.CaptureFixture,
) -> None:
    # 60000 * 2 overflows float16, so the first image makes every gradient infinite.
    images = np.concatenate([np.full((4, 8, 8, 3), 6e4), np.zeros((4, 8, 8, 3))])
    dataset = Listed(images, np.arange(8) % 3, num_classes=3)
    params = cnn.make_params(
        device="cpu", batch_size=4, num_batches=4, num_warmup_batches=0, display_every=1,
        use_fp16=True, fp16_enable_auto_loss_scale=True, fp16_loss_scale=4,
        fp16_inc_loss_scale_every_n=100, init_learning_rate=0.1, weight_decay=0,
    )  # fmt: skip
    benchmark = cnn.BenchmarkCNN(params, dataset=dataset, model=Trivial())
    benchmark.run()
    scale = benchmark.session.step.loss_scale
    assert state(scale) == (1.0, 1)
    weights = np.concatenate(
        [
            np.ravel(v)
            for v in benchmark.session.network.named(benchmark.session.step.copies[0]).values()
        ]
    )
    assert np.isfinite(weights).all()
    assert len(losses(capsys.readouterr().out)) == 4


@pytest.mark.parametrize("half", [False, True])
def test_variables_are_float32_unless_asked_for_and_normalisation_always(half: bool) -> None:
    params = cnn.make_params(
        device="cpu", batch_size=2, num_batches=2, num_warmup_batches=0,
        use_fp16=True, fp16_vars=half,
    )  # fmt: skip
    benchmark = cnn.BenchmarkCNN(params, dataset=Synthetic(), model=Normalised())
    stats = benchmark.run()
    network, copy = benchmark.session.network, benchmark.session.step.copies[0]
    assert sum(network.is_normalisation) == 2
    for norm, variable in zip(network.is_normalisation, copy.trainable, strict=True):
        assert variable.dtype == (tf.float16 if half and not norm else tf.float32)
    assert np.isfinite(stats["last_average_loss"])


def test_bfloat16_trains_with_float32_variables() -> None:
    params = cnn.make_params(
        device="cpu", batch_size=2, num_batches=2, num_warmup_batches=0, use_bf16=True
    )
    benchmark = cnn.BenchmarkCNN(params, dataset=Synthetic(), model=Normalised())
    assert np.isfinite(benchmark.run()["last_average_loss"])
    assert {v.dtype for v in benchmark.session.step.copies[0].trainable} == {tf.float32}
    assert benchmark.session.step.loss_scale is None


def test_training_in_bfloat16_follows_float32_over_some_steps() -> None:
    def body(net: Net, x: object) -> object:
        net = net.normed(Norm(decay=0.9, scale=True))
        x = net.conv(x, 16, 3, 2)
        return net.spatial_mean(net.add(x, net.conv(x, 16, 3, activation=None), relu=True))

    def trained(use_bf16: bool) -> list[float]:
        params = cnn.make_params(
            device="cpu", batch_size=8, use_bf16=use_bf16, optimizer="momentum", weight_decay=0
        )
        dataset = Synthetic(size=8)
        model = CnnModel("tiny", 8, 8, 0.01, body)
        session = cnn.BenchmarkCNN(params, dataset=dataset, model=model).build()
        batches, rate = session.batches("train").next(), tf.constant(0.05)
        return [float(session.executor.train(batches, rate)["loss"]) for _ in range(20)]

    exact, rounded = trained(False), trained(True)
    assert exact[-1] < 0.8 * exact[0]
    assert rounded == pytest.approx(exact, abs=0.03 * exact[0])
