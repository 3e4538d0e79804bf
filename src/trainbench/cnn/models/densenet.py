"""Densely connected networks for CIFAR (arXiv 1608.06993), as tf_cnn_benchmarks has them."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras

from trainbench.cnn.models.layers import Norm
from trainbench.cnn.models.net import Net, Tensor

NORM = Norm(decay=0.9, epsilon=1e-5, scale=True)


def densenet(layers: int, growth: int) -> Callable[[Net, Tensor], Tensor]:
    """Three dense blocks of ``layers`` layers that each add ``growth`` channels.

    Unlike the paper: a transition narrows to twice the growth, and convolutions have a bias.
    """

    def body(net: Net, x: Tensor) -> Tensor:
        x = net.conv(x, 16, 3, activation=None)
        for block in range(3):
            for _ in range(layers):
                x = _dense_layer(net, x, growth)
            if block < 2:
                x = _transition(net, x, 2 * growth)
        return net.spatial_mean(net.batch_norm(x, NORM))

    return body


def _dense_layer(net: Net, x: Tensor, growth: int) -> Tensor:
    fresh = net.conv(net.batch_norm(x, NORM), growth, 3, activation=None, initializer=_he(growth))
    return net.concat([x, fresh])


def _transition(net: Net, x: Tensor, filters: int) -> Tensor:
    x = net.conv(net.batch_norm(x, NORM), filters, 1, initializer=_he(filters))
    return net.average_pool(x, 2)


def _he(filters: int) -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=math.sqrt(2.0 / 9 / filters))
