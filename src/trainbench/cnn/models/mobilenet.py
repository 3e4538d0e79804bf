"""MobileNet v2 (arXiv 1801.04381)."""

from __future__ import annotations

import keras

from trainbench.cnn.models.layers import Norm
from trainbench.cnn.models.net import Net, Tensor

NORM = Norm(decay=0.997, epsilon=0.001, scale=True)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2 of arXiv 1801.04381: expansion, channels, blocks, stride of the first block."""


def mobilenet(net: Net, x: Tensor) -> Tensor:
    """Inverted residuals: narrow ends, wide depthwise middles."""
    net = net.normed(NORM, keras.initializers.TruncatedNormal(stddev=0.09))
    x = net.conv(x, 32, 3, 2, activation="relu6")
    for expansion, filters, blocks, strides in STAGES:
        for index in range(blocks):
            x = _block(net, x, expansion, filters, strides if index == 0 else 1)
    x = net.conv(x, 1280, 1, activation="relu6")
    return net.dropout(net.spatial_mean(x), keep=0.8)


def _block(net: Net, x: Tensor, expansion: int, filters: int, strides: int) -> Tensor:
    channels = x.shape[net.axis]
    y = x
    if expansion > 1:
        y = net.conv(y, expansion * channels, 1, activation="relu6")
    y = net.depthwise(y, 3, strides, activation="relu6")
    y = net.conv(y, filters, 1, activation=None)
    return net.add(x, y) if strides == 1 and channels == filters else y
