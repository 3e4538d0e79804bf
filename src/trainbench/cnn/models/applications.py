"""Any model of ``keras.applications``, as ``--model=keras:NAME``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from trainbench.cnn.flags.params import ParamError
from trainbench.configuration import nearest

PREFIX = "keras:"
DEFAULT_SIZE = 224
SIZES = {
    "InceptionV3": 299,
    "InceptionResNetV2": 299,
    "Xception": 299,
    "NASNetLarge": 331,
    "EfficientNetB1": 240,
    "EfficientNetB2": 260,
    "EfficientNetB3": 300,
    "EfficientNetB4": 380,
    "EfficientNetB5": 456,
    "EfficientNetB6": 528,
    "EfficientNetB7": 600,
    "EfficientNetV2B1": 240,
    "EfficientNetV2B2": 260,
    "EfficientNetV2B3": 300,
    "EfficientNetV2S": 384,
    "EfficientNetV2M": 480,
    "EfficientNetV2L": 480,
}
"""Images that a network was designed for, where they are not of 224 pixels."""


@dataclass(frozen=True)
class KerasModel:
    """A model of ``keras.applications`` with the attributes of the registry's own."""

    name: str
    image_size: int
    make: Callable[..., keras.Model]
    default_batch_size: int = 32
    default_learning_rate: float = 0.005
    learning_rate_fn: None = None
    scales_rate: bool = False
    fp16_loss_scale: float = 128.0

    def build(self, num_classes: int, *, data_format: str = "channels_last") -> keras.Model:
        """The network with fresh weights, logits out.

        Raises:
            ParamError: another data format, or images too small for the network.
        """
        if data_format != "channels_last":
            raise ParamError(f"--model={self.name} is built for --data_format=NHWC only")
        options: dict[str, Any] = {"weights": None, "classes": num_classes}
        if "include_preprocessing" in inspect.signature(self.make).parameters:
            options["include_preprocessing"] = False
        shape = (self.image_size, self.image_size, 3)
        try:
            return self.make(input_shape=shape, classifier_activation=None, **options)
        except ValueError as error:
            raise ParamError(f"--model={self.name}: {str(error).splitlines()[0]}") from error


def model(name: str, dataset_name: str) -> KerasModel:
    """The model that ``keras:NAME`` means.

    Raises:
        ParamError: ``keras.applications`` has no such model.
    """
    short = name.removeprefix(PREFIX)
    known = names()
    if short not in known:
        near = nearest(short, known)
        hint = f"; did you mean '{PREFIX}{near}'?" if near else f" (known: {', '.join(known)})"
        raise ParamError(f"Invalid model name '{name}': keras.applications has no {short!r}{hint}")
    size = 32 if dataset_name == "cifar10" else SIZES.get(short, DEFAULT_SIZE)
    return KerasModel(name, size, getattr(keras.applications, short))


def names() -> list[str]:
    """What may follow ``keras:``."""
    every = vars(keras.applications).items()
    return sorted(name for name, value in every if name[0].isupper() and callable(value))
