"""The builder of all networks: one method for each kind of layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from trainbench.cnn.models.layers import BatchNorm, Conv, Kernel, Norm, Pair

Tensor = Any
"""A symbolic Keras tensor."""


@dataclass(frozen=True)
class Net:
    """Builds layers of one data format.

    Attributes:
        norm: normalization after every convolution that does not say otherwise; ``None``: a bias.
        initializer: of the convolutions that do not say otherwise.
    """

    data_format: str = "channels_last"
    norm: Norm | None = None
    initializer: Any = None
    _named: Counter[str] = field(default_factory=Counter)

    def normed(self, norm: Norm, initializer: Any = None) -> Net:
        """The same, with ``norm`` after every convolution."""
        return replace(self, norm=norm, initializer=initializer)

    @property
    def axis(self) -> int:
        """Axis of the channels."""
        return 3 if self.data_format == "channels_last" else 1

    def conv(
        self,
        x: Tensor,
        filters: int,
        size: int | Pair,
        strides: int = 1,
        *,
        padding: str = "same",
        bias: float | None = 0.0,
        bare: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """A convolution; ``bare``: with neither bias nor normalization."""
        size = (size, size) if isinstance(size, int) else size
        kwargs.setdefault("initializer", self.initializer)
        bias = None if bare else bias
        setup = Kernel(
            filters, size, strides, padding, bias, data_format=self.data_format, **kwargs
        )
        return Conv(setup, None if bare else self.norm, name=self._name("conv"))(x)

    def depthwise(
        self, x: Tensor, size: int, strides: int = 1, *, bare: bool = False, **kwargs: Any
    ) -> Tensor:
        """A convolution of each channel with a filter of its own."""
        return self.conv(x, 0, size, strides, bare=bare, depthwise=True, **kwargs)

    def batch_norm(self, x: Tensor, norm: Norm, *, relu: bool = True) -> Tensor:
        """Batch normalization on its own, and a rectifier."""
        name = self._name("batch_norm")
        return BatchNorm(norm, data_format=self.data_format, relu=relu, name=name)(x)

    def max_pool(self, x: Tensor, size: int, strides: int = 2, padding: str = "valid") -> Tensor:
        """The greatest value of each window."""
        pool = keras.layers.MaxPooling2D
        return pool(size, strides, padding, data_format=self.data_format)(x)

    def average_pool(
        self, x: Tensor, size: int, strides: int = 2, padding: str = "valid"
    ) -> Tensor:
        """The mean of each window; zeros of the padding do not count."""
        pool = keras.layers.AveragePooling2D
        return pool(size, strides, padding, data_format=self.data_format)(x)

    def spatial_mean(self, x: Tensor) -> Tensor:
        """The mean over the image: [batch, channels]."""
        return keras.layers.GlobalAveragePooling2D(data_format=self.data_format)(x)

    def flatten(self, x: Tensor) -> Tensor:
        """[batch, everything else]."""
        return keras.layers.Flatten()(x)

    def relu(self, x: Tensor) -> Tensor:
        """The rectifier on its own."""
        return keras.layers.ReLU()(x)

    def add(self, x: Tensor, y: Tensor, *, relu: bool = False) -> Tensor:
        """The sum of two branches."""
        total = keras.layers.Add()([x, y])
        return self.relu(total) if relu else total

    def concat(self, branches: Sequence[Tensor]) -> Tensor:
        """Branches side by side, along the channels."""
        return keras.layers.Concatenate(axis=self.axis)(list(branches))

    def dropout(self, x: Tensor, keep: float = 0.5) -> Tensor:
        """Keeps each value with probability ``keep`` while training."""
        return keras.layers.Dropout(1 - keep, name=self._name("dropout"))(x)

    def dense(
        self,
        x: Tensor,
        units: int,
        *,
        activation: str | None = "relu",
        stddev: float | None = None,
        bias: float = 0.0,
    ) -> Tensor:
        """A fully connected layer; its weights start at He's, or Xavier's, scale of the inputs."""
        gain = 2.0 if activation == "relu" else 1.0
        stddev = stddev or math.sqrt(gain / x.shape[-1])
        return keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=stddev),
            bias_initializer=keras.initializers.Constant(bias),
            name=self._name("dense"),
        )(x)

    def logits(self, features: Tensor, num_classes: int) -> Tensor:
        """float32[batch, num_classes], whatever the policy of the model."""
        scores = self.dense(features, num_classes, activation=None)
        return keras.layers.Activation("linear", dtype="float32", name="logits")(scores)

    def images(self, size: int) -> tuple[Tensor, Tensor]:
        """The input, always [batch, size, size, 3], and the same in this data format."""
        dtype = keras.config.dtype_policy().compute_dtype
        inputs = keras.Input((size, size, 3), dtype=dtype, name="images")
        if self.data_format == "channels_last":
            return inputs, inputs
        return inputs, keras.layers.Permute((3, 1, 2))(inputs)

    def _name(self, kind: str) -> str:
        """A name for a layer with variables: the same however many models were built before."""
        self._named[kind] += 1
        return f"{kind}_{self._named[kind]}"
