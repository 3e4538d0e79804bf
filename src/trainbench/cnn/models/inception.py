"""GoogLeNet, Inception-v3 and Inception-v4 (arXiv 1409.4842, 1512.00567, 1602.07261)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainbench.cnn.models.layers import Norm, Pair
from trainbench.cnn.models.net import Net, Tensor

Branch = Sequence[tuple[int, int | Pair]]
"""Channels and size of each convolution, in a row."""
WIDE, TALL = (1, 7), (7, 1)


def googlenet(net: Net, x: Tensor) -> Tensor:
    """The 22 layers of GoogLeNet, without its auxiliary classifiers."""
    x = net.max_pool(net.conv(x, 64, 7, 2), 3, padding="same")
    x = net.conv(net.conv(x, 64, 1), 192, 3)
    x = net.max_pool(x, 3, padding="same")
    for widths in ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)):
        x = _v1(net, x, *widths)
    x = net.max_pool(x, 3, padding="same")
    for widths in (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ):
        x = _v1(net, x, *widths)
    x = net.max_pool(x, 3, padding="same")
    for widths in ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)):
        x = _v1(net, x, *widths)
    return net.flatten(net.average_pool(x, 7, 1))


def inception3(net: Net, x: Tensor) -> Tensor:
    """Inception-v3 without its auxiliary classifier."""
    net = net.normed(Norm())
    x = net.conv(x, 32, 3, 2, padding="valid")
    x = net.conv(x, 32, 3, padding="valid")
    x = net.max_pool(net.conv(x, 64, 3), 3)
    x = net.conv(x, 80, 1, padding="valid")
    x = net.max_pool(net.conv(x, 192, 3, padding="valid"), 3)
    for pooled in (32, 64, 64):
        x = _v3_a(net, x, pooled)
    x = _halved(net, x, [(384, 3)], [(64, 1), (96, 3), (96, 3)])
    for inner in (128, 160, 160, 192):
        x = _v3_c(net, x, inner)
    x = _halved(net, x, [(192, 1), (320, 3)], [(192, 1), (192, WIDE), (192, TALL), (192, 3)])
    x = _v3_e(net, x, net.average_pool)
    x = _v3_e(net, x, net.max_pool)
    return net.flatten(net.average_pool(x, 8, 1))


def inception4(net: Net, x: Tensor) -> Tensor:
    """Inception-v4."""
    net = net.normed(Norm())
    x = _v4_stem(net, x)
    for _ in range(4):
        branches = [[(96, 1)], [(64, 1), (96, 3)], [(64, 1), (96, 3), (96, 3)]]
        x = _same(net, x, 96, branches)
    x = _halved(net, x, [(384, 3)], [(192, 1), (224, 3), (256, 3)], pool_first=True)
    for _ in range(7):
        x = _v4_b(net, x)
    long: Branch = [(256, 1), (256, WIDE), (320, TALL), (320, 3)]
    x = _halved(net, x, [(192, 1), (192, 3)], long, pool_first=True)
    for _ in range(3):
        x = _v4_c(net, x)
    return net.dropout(net.spatial_mean(x), keep=0.8)


def _v1(net: Net, x: Tensor, a: int, b: int, c: int, d: int, e: int, f: int) -> Tensor:
    pooled = net.conv(net.max_pool(x, 3, 1, "same"), f, 1)
    branches: list[Branch] = [[(a, 1)], [(b, 1), (c, 3)], [(d, 1), (e, 5)]]
    return net.concat([*(_chain(net, x, branch) for branch in branches), pooled])


def _v3_a(net: Net, x: Tensor, pooled: int) -> Tensor:
    branches = [[(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)]]
    return _same(net, x, pooled, branches)


def _v3_c(net: Net, x: Tensor, n: int) -> Tensor:
    double: Branch = [(n, 1), (n, TALL), (n, WIDE), (n, TALL), (192, WIDE)]
    return _same(net, x, 192, [[(192, 1)], [(n, 1), (n, WIDE), (192, TALL)], double])


def _v3_e(net: Net, x: Tensor, pool: Callable[..., Tensor]) -> Tensor:
    first = net.conv(x, 384, 1)
    second = _chain(net, x, [(448, 1), (384, 3)])
    forks = [net.conv(y, 384, size) for y in (first, second) for size in ((1, 3), (3, 1))]
    return net.concat([net.conv(x, 320, 1), *forks, net.conv(pool(x, 3, 1, "same"), 192, 1)])


def _v4_stem(net: Net, x: Tensor) -> Tensor:
    x = net.conv(x, 32, 3, 2, padding="valid")
    x = net.conv(net.conv(x, 32, 3, padding="valid"), 64, 3)
    x = net.concat([net.max_pool(x, 3), net.conv(x, 96, 3, 2, padding="valid")])
    short = _chain(net, x, [(64, 1)])
    long = _chain(net, x, [(64, 1), (64, TALL), (64, WIDE)])
    x = net.concat([net.conv(branch, 96, 3, padding="valid") for branch in (short, long)])
    return net.concat([net.conv(x, 192, 3, 2, padding="valid"), net.max_pool(x, 3)])


def _v4_b(net: Net, x: Tensor) -> Tensor:
    double: Branch = [(192, 1), (192, WIDE), (224, TALL), (224, WIDE), (256, TALL)]
    return _same(net, x, 128, [[(384, 1)], [(192, 1), (224, WIDE), (256, TALL)], double])


def _v4_c(net: Net, x: Tensor) -> Tensor:
    first = net.conv(x, 384, 1)
    second = _chain(net, x, [(384, 1), (448, (1, 3)), (512, (3, 1))])
    forks = [net.conv(y, 256, size) for y in (first, second) for size in ((1, 3), (3, 1))]
    pooled = net.conv(net.average_pool(x, 3, 1, "same"), 256, 1)
    return net.concat([pooled, net.conv(x, 256, 1), *forks])


def _same(net: Net, x: Tensor, pooled: int, branches: Sequence[Branch]) -> Tensor:
    """Branches of convolutions beside a 1x1 of the average: the size of the image stays."""
    last = net.conv(net.average_pool(x, 3, 1, "same"), pooled, 1)
    return net.concat([*(_chain(net, x, branch) for branch in branches), last])


def _halved(net: Net, x: Tensor, *branches: Branch, pool_first: bool = False) -> Tensor:
    """Branches whose last convolution has stride 2, beside a maximum of stride 2."""
    ends = [_chain(net, x, branch, halve=True) for branch in branches]
    pooled = net.max_pool(x, 3)
    return net.concat([pooled, *ends] if pool_first else [*ends, pooled])


def _chain(net: Net, x: Tensor, filters: Branch, *, halve: bool = False) -> Tensor:
    for index, (channels, size) in enumerate(filters):
        if halve and index == len(filters) - 1:
            return net.conv(x, channels, size, 2, padding="valid")
        x = net.conv(x, channels, size)
    return x
