"""The models for CIFAR-10: 32 pixels a side."""

from __future__ import annotations

from typing import Any

from trainbench.cnn.models import classic, densenet, nasnet, resnet
from trainbench.cnn.models.rates import StaircaseRate, StepRate
from trainbench.cnn.models.spec import Body, CnnModel

_RESNET_RATE = StepRate(0.1, (1.0, 0.1, 0.01, 0.002), (82, 123, 300), whole_batches=True)
_DENSENET_RATE = StepRate(0.1, (1.0, 0.1, 0.01, 0.001), (150, 225, 300), whole_batches=True)


def _model(name: str, default_batch_size: int, rate: float, body: Body, **kwargs: Any) -> CnnModel:
    return CnnModel(name, 32, default_batch_size, rate, body, **kwargs)


def _resnets() -> list[CnnModel]:
    return [
        _model(
            f"resnet{6 * blocks + 2}{'_v2' if version == 'v2' else ''}",
            128,
            0.1,
            resnet.cifar_resnet(version, blocks),
            learning_rate_fn=_RESNET_RATE,
        )
        for blocks in (3, 5, 7, 9, 18)
        for version in ("v1", "v2")
    ]


def _densenets() -> list[CnnModel]:
    return [
        _model(
            f"densenet{3 * layers + 4}_k{growth}",
            64,
            0.1,
            densenet.densenet(layers, growth),
            learning_rate_fn=_DENSENET_RATE,
        )
        for layers, growth in ((12, 12), (32, 12), (32, 24))
    ]


CIFAR10 = {
    model.name: model
    for model in (
        _model("trivial", 32, 0.005, classic.trivial),
        _model(
            "alexnet",
            128,
            0.1,
            classic.alexnet_cifar,
            learning_rate_fn=StaircaseRate(0.1, 0.1, 100),
        ),
        _model("nasnet", 32, 0.025, nasnet.nasnet(nasnet.CIFAR)),
        *_resnets(),
        *_densenets(),
    )
}
