"""The configuration of a run of image classification: a frozen dataclass, presets as functions.

What comes out is written beside the results as config.json; the trials look at nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from trainbench import configuration
from trainbench.errors import ConfigError

DATASETS = ("generated", "cifar10", "imagenet")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "dataset": DATASETS,
    "optimizer": ("momentum", "sgd", "lars"),
    "precision": ("fp32", "bf16", "fp16"),
    "device": ("auto", "cpu", "gpu"),
    "division": ("open", "closed"),
}


@dataclass(frozen=True)
class ImagesConfig:
    """Everything that decides what a run computes.

    The defaults are those of ``imagenet``: ResNet-50 v1.5 to 75.9 % by SGD with a polynomial fall
    of the rate, as MLPerf's rules from 0.7 on have it.

    Attributes:
        generated_train, generated_eval: images of the generated set.
        eval_every_epochs: how often training pauses to be evaluated on every evaluation image.
    """

    preset: str
    dataset: str = "imagenet"
    generated_train: int = 0
    generated_eval: int = 0
    model: str = "resnet50_v1.5"
    target_top_1: float = 0.759
    max_epochs: int = 44
    eval_every_epochs: int = 4
    batch_size: int = 256
    eval_batch_size: int = 250
    optimizer: str = "momentum"
    learning_rate: float = 0.8
    end_learning_rate: float = 1e-4
    warmup_epochs: float = 5.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    distortions: bool = False
    precision: str = "fp32"
    device: str = "auto"
    num_gpus: int = 1
    division: str = "open"
    drop_caches: bool = True


def imagenet() -> ImagesConfig:
    """ImageNet from TFRecord files that are already there."""
    return ImagesConfig(preset="imagenet")


def cifar10() -> ImagesConfig:
    """CIFAR-10 with a ResNet for images of 32 pixels."""
    return replace(
        imagenet(),
        preset="cifar10",
        dataset="cifar10",
        model="resnet26_v1.5",
        target_top_1=0.75,
        max_epochs=40,
        eval_every_epochs=2,
        batch_size=128,
        eval_batch_size=100,
        learning_rate=0.1,
        distortions=True,
    )


def quick() -> ImagesConfig:
    """Generated images: no network, minutes on two cores."""
    return replace(
        cifar10(),
        preset="quick",
        dataset="generated",
        generated_train=4_000,
        generated_eval=1_000,
        model="resnet14_v1.5",
        target_top_1=0.9,
        max_epochs=12,
        eval_every_epochs=1,
        batch_size=50,
        learning_rate=0.03,
        warmup_epochs=1.0,
        distortions=False,
    )


PRESETS: Mapping[str, Callable[[], ImagesConfig]] = {
    "quick": quick,
    "cifar10": cifar10,
    "imagenet": imagenet,
}


def with_settings(config: ImagesConfig, settings: Iterable[str]) -> ImagesConfig:
    """``config`` with each ``key=value`` applied.

    Raises:
        ConfigError: a setting without ``=``, an unknown key, or a value that cannot be.
    """
    return validated(replace(config, **configuration.parsed(ImagesConfig, settings)))


def validated(config: ImagesConfig) -> ImagesConfig:
    """``config`` itself, or a ``ConfigError`` that names the first field out of bounds."""
    configuration.require_choices(config, CHOICES)
    configuration.require_positive(
        config,
        (
            *("max_epochs", "eval_every_epochs", "batch_size", "eval_batch_size", "num_gpus"),
            "learning_rate",
        ),
    )
    for key in ("end_learning_rate", "warmup_epochs", "weight_decay"):
        if getattr(config, key) < 0:
            raise ConfigError(f"{key}={getattr(config, key)}: wanted 0 or more")
    if not 0 <= config.momentum < 1:
        raise ConfigError(f"momentum={config.momentum}: wanted a number from 0 to below 1")
    if not 0 < config.target_top_1 <= 1:
        raise ConfigError(f"target_top_1={config.target_top_1}: wanted a share above 0, at most 1")
    for key in ("generated_train", "generated_eval"):
        if config.dataset == "generated" and getattr(config, key) < 10:
            raise ConfigError(f"{key}={getattr(config, key)}: wanted at least 10 images")
    return config


def from_json(text: str | bytes) -> ImagesConfig:
    """The configuration in the text of a config.json, validated."""
    return validated(configuration.from_json(ImagesConfig, text))
