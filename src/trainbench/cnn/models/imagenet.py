"""The models for ImageNet: 1000 classes and one for the background."""

from __future__ import annotations

from typing import Any

from trainbench.cnn.models import classic, inception, mobilenet, nasnet, resnet
from trainbench.cnn.models.rates import StepRate
from trainbench.cnn.models.spec import Body, CnnModel

_FALLS = ((1.0, 0.1, 0.01, 0.001, 0.0001), (30, 60, 80, 90))
_RESNET_RATE = StepRate(0.128, *_FALLS, base_batch=256, warmup_epochs=5)
_OFFICIAL_RATE = StepRate(0.1, *_FALLS, base_batch=256)
_COUNTS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


def _model(name: str, size: int, default_batch_size: int, body: Body, **kwargs: Any) -> CnnModel:
    kwargs.setdefault("default_learning_rate", 0.005)
    return CnnModel(name, size, default_batch_size, body=body, **kwargs)


def _resnets() -> list[CnnModel]:
    return [
        _model(
            f"resnet{depth}{'' if version == 'v1' else '_' + version}",
            224,
            64 if depth == 50 else 32,
            resnet.resnet(version, _COUNTS[depth]),
            default_learning_rate=0.128,
            learning_rate_fn=_RESNET_RATE,
            scales_rate=True,
        )
        for depth in (50, 101, 152)
        for version in ("v1", "v1.5", "v2")
    ]


def _official_resnets() -> list[CnnModel]:
    return [
        _model(
            f"official_resnet{depth}{'_v2' if version == 2 else ''}",
            224,
            128 if depth == 50 else 32,
            resnet.official_resnet(version, counts, bottleneck=depth >= 50),
            default_learning_rate=0.05 if depth == 50 else 0.0125,
            learning_rate_fn=_OFFICIAL_RATE,
        )
        for depth, counts in _COUNTS.items()
        for version in (1, 2)
    ]


IMAGENET = {
    model.name: model
    for model in (
        _model("trivial", 227, 32, classic.trivial),
        _model("lenet", 28, 32, classic.lenet),
        _model("alexnet", 227, 512, classic.alexnet),
        _model("overfeat", 231, 32, classic.overfeat),
        _model("vgg11", 224, 64, classic.vgg(1, 1, 2, 2, 2)),
        _model("vgg16", 224, 64, classic.vgg(2, 2, 3, 3, 3)),
        _model("vgg19", 224, 64, classic.vgg(2, 2, 4, 4, 4)),
        _model("googlenet", 224, 32, inception.googlenet),
        _model("inception3", 299, 32, inception.inception3),
        _model("inception4", 299, 32, inception.inception4),
        _model("nasnet", 224, 32, nasnet.nasnet(nasnet.MOBILE)),
        _model("nasnetlarge", 331, 16, nasnet.nasnet(nasnet.LARGE)),
        _model("mobilenet", 224, 32, mobilenet.mobilenet),
        *_resnets(),
        *_official_resnets(),
    )
}
