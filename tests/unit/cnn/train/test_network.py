"""Real models in the harness: what L2 applies to, their rates, layouts and precisions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from cnn_standins import Listed, Normalised

from trainbench import cnn
from trainbench.cnn.flags.params import Params
from trainbench.cnn.models import registry
from trainbench.cnn.train import schedules
from trainbench.cnn.train.network import Network
from trainbench.cnn.train.schedules import Rate

IMAGENET = 1_281_167


@pytest.mark.parametrize(
    ("name", "dataset", "trainable", "regularised"),
    [("trivial", "cifar10", 6, 6), ("resnet20", "cifar10", 59, 21)],
)
def test_l2_applies_to_all_but_normalisation_by_type(
    name: str, dataset: str, trainable: int, regularised: int
) -> None:
    network = Network(registry.get_model(name, dataset).build(11))
    assert (len(network.names), sum(network.regularised)) == (trainable, regularised)
    assert len(set(network.names)) == trainable


def rate(params: Params, name: str, dataset: str, examples: int) -> Rate:
    batch = params.batch_size * params.num_gpus
    model = registry.get_model(name, dataset)
    own = schedules.model_rate(params, model, batch, examples)
    horizon = schedules.Horizon(examples / batch, 100)
    return schedules.rate(params, horizon, model_rate=own)


@pytest.mark.parametrize(
    ("name", "dataset", "batch", "expected"),
    [
        ("resnet50", "imagenet", 256, {
            0: 0, 12511: 0.064, 25021: 0.12799488, 25022: 0.128, 150136: 0.128, 150137: 0.0128,
            300273: 0.0128, 300274: 0.00128, 400364: 0.00128, 400365: 0.000128,
            450411: 0.0000128}),
        ("resnet20", "cifar10", 128, {31980: 0.1, 31981: 0.01, 47971: 0.001, 117001: 0.0002}),
        ("official_resnet50", "imagenet", 256, {0: 0.1, 150136: 0.1, 150137: 0.01}),
    ],
)  # fmt: skip
def test_the_models_own_rates(
    name: str, dataset: str, batch: int, expected: dict[int, float]
) -> None:
    examples = IMAGENET if dataset == "imagenet" else 50_000
    found = rate(cnn.make_params(batch_size=batch), name, dataset, examples)
    for step, wanted in expected.items():
        assert np.float32(found(step)) == np.float32(wanted), step


def test_resnets_rate_is_scaled_by_flags_and_devices() -> None:
    params = cnn.make_params(
        batch_size=256, num_gpus=8, variable_update="replicated", resnet_base_lr=0.06
    )
    found = rate(params, "resnet50_v1.5", "imagenet", IMAGENET)
    warm = int(IMAGENET / 2048 * 5)
    assert np.float32(found(warm)) == np.float32(0.06)
    assert np.float32(found(warm // 2)) == pytest.approx(0.03, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("resnet20", {"data_format": "NCHW", "use_bf16": True}),
        # Synthetic images are not normalised: the usual scale of 128 overflows float16 at once.
        ("trivial", {"use_fp16": True, "fp16_loss_scale": 1, "num_gpus": 2,
                     "variable_update": "replicated"}),
        ("trivial", {"xla_compile": True}),
        ("resnet20", {"forward_only": True}),
        ("trivial", {"print_training_accuracy": True, "num_gpus": 2}),
    ],
)  # fmt: skip
def test_the_registrys_models_run_in_every_way(model: str, values: dict) -> None:
    params = cnn.make_params(
        model=model, data_name="cifar10", device="cpu", batch_size=2, num_batches=2,
        num_warmup_batches=1, init_learning_rate=1e-7, **values,
    )  # fmt: skip
    stats = cnn.BenchmarkCNN(params).run()
    assert stats["num_steps"] == 2
    assert np.isfinite(stats.get("last_average_loss", 0.0))


def test_moving_statistics_are_those_of_the_first_device() -> None:
    values = []
    for update in ("parameter_server", "replicated"):
        params = cnn.make_params(
            device="cpu", batch_size=2, num_batches=2, num_warmup_batches=0, num_gpus=2,
            variable_update=update, init_learning_rate=0.0,
        )  # fmt: skip
        images = np.random.default_rng(0).normal(size=(8, 8, 8, 3))
        dataset = Listed(images, np.arange(8) % 3, num_classes=3)
        benchmark = cnn.BenchmarkCNN(params, dataset=dataset, model=Normalised())
        benchmark.run()
        values.append([v.numpy() for v in benchmark.session.step.copies[0].state])
    for one, two in zip(*values, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


class Forked:
    """A model with an auxiliary classifier, as some papers have one half way."""

    name, image_size, default_batch_size, default_learning_rate = "forked", 4, 2, 0.01
    learning_rate_fn = None

    def build(self, num_classes: int, *, data_format: str) -> keras.Model:
        """Logits, and the logits of the auxiliary classifier."""
        images = keras.Input((4, 4, 3))
        flat = keras.layers.Flatten()(images)
        heads = [keras.layers.Dense(num_classes, name=name)(flat) for name in ("main", "side")]
        return keras.Model(images, heads)


def test_an_auxiliary_classifier_counts_four_tenths_in_training_alone() -> None:
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    labels = np.array([1, 2], np.int32)
    network = Network(Forked().build(3, data_format="channels_last"))
    (copy,) = network.copies(["/cpu:0"])
    outputs = network.call(copy, images, training=True)

    def cross_entropy(logits: np.ndarray) -> float:
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        return -np.log(shifted[[0, 1], labels] / shifted.sum(1)).mean()

    main, side = (np.asarray(logits) for logits in network.model(images))
    expected = cross_entropy(main) + 0.4 * cross_entropy(side)
    assert float(network.loss(labels, outputs)) == pytest.approx(expected, rel=1e-5)

    params = cnn.make_params(
        device="cpu", batch_size=2, num_batches=2, num_warmup_batches=0, forward_only=True
    )
    stats = cnn.BenchmarkCNN(params, model=Forked()).run()
    assert stats["num_steps"] == 2
