"""Weights are made constants where the run repays it."""

from __future__ import annotations

import pytest

from trainbench.cnn.train.freezing import Passes

RESNET50 = {"weight_bytes": 102_400_000, "has_normalization": True, "device": "cpu"}
ALEXNET = {"weight_bytes": 247_400_000, "has_normalization": False, "device": "cpu"}
FLOPS = {"resnet50": 8 * 10**9, "alexnet": 14 * 10**8}


@pytest.mark.parametrize(
    ("model", "images", "repays"),
    [
        ("alexnet", 1, False),
        ("alexnet", 50_000, False),
        ("alexnet", 100_000, True),
        ("resnet50", 1, False),
        ("resnet50", 2_000, False),
        ("resnet50", 2_200, True),
    ],
)
def test_the_images_of_a_run_decide(model: str, images: int, repays: bool) -> None:
    passes = Passes(images=images, **(RESNET50 if model == "resnet50" else ALEXNET))
    assert passes.repay_constants(lambda: FLOPS[model]) is repays


def test_a_faster_device_needs_more_images() -> None:
    passes = Passes(images=10_000, **{**RESNET50, "device": "gpu"})
    assert not passes.repay_constants(lambda: FLOPS["resnet50"])


def test_few_weights_cost_nothing_and_no_operations_are_counted() -> None:
    passes = Passes(images=1, weight_bytes=10**7, has_normalization=False, device="cpu")
    assert passes.repay_constants(lambda: pytest.fail("counted"))


def test_operations_that_cannot_be_counted_repay_nothing() -> None:
    assert not Passes(images=10**6, **RESNET50).repay_constants(lambda: None)
