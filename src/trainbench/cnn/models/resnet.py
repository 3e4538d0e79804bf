"""Residual networks: v1, v1.5 and v2 of tf_cnn_benchmarks, the official models', CIFAR's.

v1    the stride of a block is in its first convolution, 1x1 (arXiv 1512.03385)
v1.5  it is in the 3x3 convolution
v2    normalization and rectifier come before the convolutions (arXiv 1603.05027)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras

from trainbench.cnn.models.layers import Norm
from trainbench.cnn.models.net import Net, Tensor

NORM = Norm(decay=0.9, epsilon=1e-5, scale=True)
PREACTIVATION = Norm()
OFFICIAL_NORM = Norm(decay=0.997, epsilon=1e-5, scale=True)

Counts = tuple[int, int, int, int]
Body = Callable[[Net, Tensor], Tensor]


@dataclass(frozen=True)
class Block:
    """One residual block.

    Attributes:
        filters: inside the block; a bottleneck puts out four times as many.
        project: whether the shortcut is a convolution.
    """

    filters: int
    strides: int
    project: bool

    @property
    def out(self) -> int:
        """Channels that a bottleneck puts out."""
        return 4 * self.filters


def resnet(version: str, counts: Counts) -> Body:
    """A bottleneck network for ImageNet; ``version`` is v1, v1.5 or v2."""
    block = {"v1": bottleneck_v1, "v1.5": bottleneck_v1_5, "v2": bottleneck_v2}[version]

    def body(net: Net, x: Tensor) -> Tensor:
        net = net.normed(NORM)
        x = net.max_pool(net.conv(x, 64, 7, 2, padding="centered"), 3, padding="same")
        for shape in stages(counts):
            x = block(net, x, shape)
        if version == "v2":
            x = net.batch_norm(x, PREACTIVATION)
        return net.spatial_mean(x)

    return body


def official_resnet(version: int, counts: Counts, *, bottleneck: bool) -> Body:
    """The ResNet of TensorFlow's official models: every stage opens with a projection."""

    def body(net: Net, x: Tensor) -> Tensor:
        net = net.normed(OFFICIAL_NORM)
        bare, activation = version == 2, None if version == 2 else "relu"
        x = net.conv(x, 64, 7, 2, padding="centered", bare=bare, activation=activation)
        x = net.max_pool(x, 3, padding="same")
        for shape in stages(counts):
            x = _official_block(net, x, shape, version=version, bottleneck=bottleneck)
        if version == 2:
            x = net.batch_norm(x, OFFICIAL_NORM)
        return net.spatial_mean(x)

    return body


def cifar_resnet(version: str, blocks: int) -> Body:
    """The network of arXiv 1512.03385, section 4.2: three stages of ``blocks``, 32x32 images."""

    def body(net: Net, x: Tensor) -> Tensor:
        net = net.normed(NORM)
        x = net.conv(x, 16, 3, activation="relu" if version == "v2" else None)
        for stage, filters in enumerate((16, 32, 64)):
            for index in range(blocks):
                strides = 2 if stage and index == 0 else 1
                x = _cifar_block(net, x, Block(filters, strides, strides == 2), version)
        if version == "v2":
            x = net.batch_norm(x, PREACTIVATION)
        return net.spatial_mean(x)

    return body


def stages(counts: Counts) -> list[Block]:
    """The blocks of an ImageNet network, in order."""
    return [
        Block(64 << stage, 2 if stage and index == 0 else 1, project=index == 0)
        for stage, count in enumerate(counts)
        for index in range(count)
    ]


def bottleneck_v1(net: Net, x: Tensor, block: Block) -> Tensor:
    """1x1 with the stride, 3x3, 1x1."""
    return _bottleneck(net, x, block, strides=(block.strides, 1))


def bottleneck_v1_5(net: Net, x: Tensor, block: Block) -> Tensor:
    """1x1, 3x3 with the stride, 1x1."""
    return _bottleneck(net, x, block, strides=(1, block.strides))


def bottleneck_v2(net: Net, x: Tensor, block: Block) -> Tensor:
    """Normalization and rectifier, then 1x1 with the stride, 3x3, 1x1; nothing after the sum."""
    active = net.batch_norm(x, PREACTIVATION)
    if block.project:
        x = net.conv(active, block.out, 1, block.strides, bare=True, activation=None)
    y = net.conv(active, block.filters, 1, block.strides)
    y = net.conv(y, block.filters, 3, padding="centered")
    return net.add(x, net.conv(y, block.out, 1, bare=True, activation=None))


def _bottleneck(net: Net, x: Tensor, block: Block, strides: tuple[int, int]) -> Tensor:
    y = net.conv(x, block.filters, 1, strides[0])
    y = net.conv(y, block.filters, 3, strides[1], padding="centered")
    y = net.conv(y, block.out, 1, activation=None)
    if block.project:
        x = net.conv(x, block.out, 1, block.strides, activation=None)
    return net.add(x, y, relu=True)


def _official_block(net: Net, x: Tensor, block: Block, *, version: int, bottleneck: bool) -> Tensor:
    if version == 2:
        return _official_block_v2(net, x, block, bottleneck)
    if bottleneck:
        return bottleneck_v1_5(net, x, block)
    y = net.conv(x, block.filters, 3, block.strides, padding="centered")
    y = net.conv(y, block.filters, 3, activation=None)
    if block.project:
        x = net.conv(x, block.filters, 1, block.strides, activation=None)
    return net.add(x, y, relu=True)


def _official_block_v2(net: Net, x: Tensor, block: Block, bottleneck: bool) -> Tensor:
    out = block.out if bottleneck else block.filters
    active = net.batch_norm(x, OFFICIAL_NORM)
    if block.project:
        x = net.conv(active, out, 1, block.strides, bare=True, activation=None)
    y = net.conv(active, block.filters, 1) if bottleneck else active
    y = net.conv(y, block.filters, 3, block.strides, padding="centered")
    last = 1 if bottleneck else 3
    return net.add(x, net.conv(y, out, last, bare=True, activation=None))


def _cifar_block(net: Net, x: Tensor, block: Block, version: str) -> Tensor:
    """Two 3x3 convolutions; a shortcut to more channels takes every other pixel, padded with 0."""
    before = version == "v2"
    y = net.batch_norm(x, PREACTIVATION) if before else x
    y = net.conv(y, block.filters, 3, block.strides)
    y = net.conv(y, block.filters, 3, bare=before, activation=None)
    if block.project:
        x = _wider(net, x, block.filters, block.strides)
    return net.add(x, y, relu=not before)


def _wider(net: Net, x: Tensor, filters: int, strides: int) -> Tensor:
    x = net.average_pool(x, 1, strides)
    half = (filters - x.shape[net.axis]) // 2
    margins = [(half, half) if axis == net.axis else (0, 0) for axis in range(4)]
    return keras.ops.pad(x, margins)
