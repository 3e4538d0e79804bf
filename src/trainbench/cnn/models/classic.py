"""Networks of convolutions in a row: the trivial one, LeNet, AlexNet, OverFeat and VGG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from trainbench.cnn.models.net import Net, Tensor


def trivial(net: Net, x: Tensor) -> Tensor:
    """Two dense layers, for measuring everything except the network."""
    return net.dense(net.dense(net.flatten(x), 1), 4096)


def lenet(net: Net, x: Tensor) -> Tensor:
    """LeNet-5 as TensorFlow's MNIST tutorial had it."""
    x = net.max_pool(net.conv(x, 32, 5), 2)
    x = net.max_pool(net.conv(x, 64, 5), 2)
    return net.dense(net.flatten(x), 512)


def alexnet(net: Net, x: Tensor) -> Tensor:
    """AlexNet on one device (arXiv 1404.5997); 227 pixels leave no padding."""
    x = net.max_pool(net.conv(x, 64, 11, 4, padding="valid"), 3)
    x = net.max_pool(net.conv(x, 192, 5), 3)
    for filters in (384, 384, 256):
        x = net.conv(x, filters, 3)
    return _two_dense(net, net.max_pool(x, 3), (4096, 4096))


def alexnet_cifar(net: Net, x: Tensor) -> Tensor:
    """The AlexNet of TensorFlow's CIFAR-10 tutorial."""
    narrow = keras.initializers.TruncatedNormal(stddev=5e-2)
    x = net.conv(x, 64, 5, initializer=narrow)
    x = ResponseNorm(net.data_format)(net.max_pool(x, 3, padding="same"))
    x = net.conv(x, 64, 5, bias=0.1, initializer=narrow)
    x = net.flatten(net.max_pool(ResponseNorm(net.data_format)(x), 3, padding="same"))
    x = net.dense(x, 384, stddev=0.04, bias=0.1)
    return net.dense(x, 192, stddev=0.04, bias=0.1)


def overfeat(net: Net, x: Tensor) -> Tensor:
    """The fast model of OverFeat (arXiv 1312.6229)."""
    x = net.max_pool(net.conv(x, 96, 11, 4, padding="valid"), 2)
    x = net.max_pool(net.conv(x, 256, 5, padding="valid"), 2)
    for filters in (512, 1024, 1024):
        x = net.conv(x, filters, 3)
    return _two_dense(net, net.max_pool(x, 2), (3072, 4096))


def vgg(*convolutions: int) -> Callable[[Net, Tensor], Tensor]:
    """VGG with so many convolutions in each of its five stages (arXiv 1409.1556)."""

    def body(net: Net, x: Tensor) -> Tensor:
        for count, filters in zip(convolutions, (64, 128, 256, 512, 512), strict=True):
            for _ in range(count):
                x = net.conv(x, filters, 3)
            x = net.max_pool(x, 2)
        return _two_dense(net, x, (4096, 4096))

    return body


class ResponseNorm(keras.layers.Layer):
    """Local response normalization over nine channels, with the tutorial's constants."""

    def __init__(self, data_format: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format

    def call(self, inputs: Any) -> Any:
        """The normalized ``inputs``."""
        first = self.data_format == "channels_first"
        x = tf.transpose(inputs, (0, 2, 3, 1)) if first else inputs
        x = tf.nn.local_response_normalization(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)
        return tf.transpose(x, (0, 3, 1, 2)) if first else x

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """The shape of the input."""
        return input_shape


def _two_dense(net: Net, x: Tensor, units: tuple[int, int]) -> Tensor:
    x = net.flatten(x)
    for width in units:
        x = net.dropout(net.dense(x, width))
    return x
