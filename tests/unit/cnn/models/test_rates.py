"""Learning rates of the models, with the values of tf_cnn_benchmarks."""

from __future__ import annotations

import numpy as np
import pytest

from trainbench.cnn.models import registry

IMAGENET, CIFAR = 1_281_167, 50_000


def rate(model: str, dataset: str, step: int, batch: int) -> float:
    function = registry.get_model(model, dataset).learning_rate_fn
    return function(step, batch, IMAGENET if dataset == "imagenet" else CIFAR)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        (12511, 0.064),
        (25021, 0.12799488),
        (25022, 0.128),
        (150136, 0.128),
        (150137, 0.0128),
        (300273, 0.0128),
        (300274, 0.00128),
        (400364, 0.00128),
        (400365, 0.000128),
        (450411, 0.0000128),
    ],
)
@pytest.mark.parametrize("model", ["resnet50", "resnet50_v1.5", "resnet152_v2"])
def test_resnet_warms_up_five_epochs_and_falls_at_30_60_80_90(model, step, expected):
    assert rate(model, "imagenet", step, 256) == pytest.approx(np.float32(expected), rel=1e-6)


@pytest.mark.parametrize("batch", [64, 128, 2048])
def test_the_peak_of_resnet_is_proportional_to_the_batch(batch):
    after_warmup = int(IMAGENET / batch * 5)
    assert rate("resnet50", "imagenet", after_warmup, batch) == pytest.approx(0.128 * batch / 256)


def test_a_given_peak_replaces_the_models_own():
    function = registry.get_model("resnet50", "imagenet").learning_rate_fn
    assert function(30_000, 256, IMAGENET, peak=0.05) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.1), (31980, 0.1), (31981, 0.01), (47971, 0.001), (117001, 0.0002)]
)
def test_cifar_resnet_falls_after_whole_epochs(step, expected):
    assert rate("resnet20", "cifar10", step, 128) == float(np.float32(expected))


@pytest.mark.parametrize(("step", "expected"), [(0, 0.1), (150136, 0.1), (150137, 0.01)])
def test_official_resnet_has_no_warm_up(step, expected):
    assert rate("official_resnet50", "imagenet", step, 256) == float(np.float32(expected))


@pytest.mark.parametrize(
    "name", ["official_resnet18", "official_resnet50", "official_resnet200_v2"]
)
def test_official_default_rate_is_that_of_its_default_batch(name):
    model = registry.get_model(name, "imagenet")
    start = model.learning_rate_fn(0, model.default_batch_size, IMAGENET)
    assert start == pytest.approx(model.default_learning_rate)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(149, 0.1), (151, 0.01), (226, 0.001), (301, 0.0001)]
)
def test_densenet_falls_at_150_225_300(epoch, expected):
    step = epoch * (CIFAR // 64)
    assert rate("densenet40_k12", "cifar10", step, 64) == float(np.float32(expected))


@pytest.mark.parametrize(("step", "expected"), [(39061, 0.1), (39062, 0.01), (78124, 0.001)])
def test_cifar_alexnet_falls_tenfold_every_100_epochs(step, expected):
    assert rate("alexnet", "cifar10", step, 128) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["trivial", "vgg16", "alexnet", "overfeat", "lenet"])
def test_other_models_have_a_constant_rate(name):
    assert registry.get_model(name, "imagenet").learning_rate_fn is None
