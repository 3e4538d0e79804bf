"""ResNet-50 in PyTorch: the network of ``trainbench cnn --model=resnet50`` and its step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from trainbench.bench.peers.rounds import Turn, timed
from trainbench.bench.trained import trained_normalization
from trainbench.machine import allotment

COUNTS, CLASSES, IMAGE_SIZE = (3, 4, 6, 3), 1001, 224
MOMENTUM, LEARNING_RATE = 0.9, 0.001
# PyTorch's names of a normalization's parameters, and ours.
_KINDS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


class ConvNorm(nn.Module):
    """A convolution without a bias and its batch normalization."""

    def __init__(self, fan_in: int, fan_out: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(fan_in, fan_out, size, stride, padding=(size - 1) // 2, bias=False)
        self.norm = nn.BatchNorm2d(fan_out)

    def forward(self, x: Any) -> Any:
        """Normalized, without a rectifier."""
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """1x1 with the stride, 3x3, 1x1 (arXiv 1512.03385)."""

    def __init__(self, fan_in: int, filters: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.first = ConvNorm(fan_in, filters, 1, stride)
        self.second = ConvNorm(filters, filters, 3)
        self.third = ConvNorm(filters, 4 * filters, 1)
        self.shortcut = ConvNorm(fan_in, 4 * filters, 1, stride) if project else None

    def forward(self, x: Any) -> Any:
        """[batch, 4 * filters, height, width]."""
        y = self.third(torch.relu(self.second(torch.relu(self.first(x)))))
        return torch.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    """The network v1; the pooling's window begins at the first pixel, as TensorFlow's does."""

    def __init__(self, counts: Sequence[int] = COUNTS) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 64, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        blocks, fan_in = [], 64
        for stage, count in enumerate(counts):
            for index in range(count):
                filters, first = 64 << stage, index == 0
                stride = 2 if stage and first else 1
                blocks.append(Bottleneck(fan_in, filters, stride, project=first))
                fan_in = 4 * filters
        self.blocks = nn.Sequential(*blocks)
        self.final = nn.Linear(fan_in, CLASSES)

    def forward(self, images: Any) -> Any:
        """Logits [batch, classes] of images [batch, 3, height, width]."""
        x = self.blocks(self.pool(torch.relu(self.stem(images))))
        return self.final(x.mean((2, 3)))

    def take(self, convolutions: Sequence[Any], kernel: np.ndarray, bias: np.ndarray) -> None:
        """Take kernels [height, width, in, out] in the order of the layers, and the last layer."""
        mine = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        with torch.no_grad():
            for module, values in zip(mine, convolutions, strict=True):
                turned = np.ascontiguousarray(values.transpose(3, 2, 0, 1))
                module.weight.copy_(torch.from_numpy(turned))
            self.final.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel.T)))
            self.final.bias.copy_(torch.from_numpy(bias))


class Training:
    """A network, its loss and SGD with Nesterov's momentum; ``step`` returns the loss before it."""

    def __init__(
        self, network: Any, *, bf16: bool, compiled: bool, rate: float = LEARNING_RATE
    ) -> None:
        self._network = network.train()
        self._optimizer = torch.optim.SGD(
            network.parameters(), rate, MOMENTUM, nesterov=True, fused=True
        )
        self._bf16 = bf16
        self._loss = torch.compile(self._eager_loss) if compiled else self._eager_loss

    def step(self, images: Any, labels: Any) -> Any:
        """Of float32 [batch, 3, height, width] and int64 [batch]."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(images, labels)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def _eager_loss(self, images: Any, labels: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
            return nn.functional.cross_entropy(self._network(images).float(), labels)


def training(
    *, batch: int, steps: int, bf16: bool, channels_last: bool = False, compiled: bool = False
) -> Turn:
    """Turns of ``steps`` training steps."""
    network, images = _placed(batch, channels_last=channels_last)
    labels = torch.arange(batch) % CLASSES
    trainer = Training(network, bf16=bf16, compiled=compiled)

    def work() -> int:
        for _ in range(steps):
            float(trainer.step(images, labels))
        return steps * batch

    return timed(work)


def forward(
    *,
    batch: int,
    steps: int,
    bf16: bool,
    channels_last: bool = False,
    compiled: bool = False,
    frozen: bool = False,
) -> Turn:
    """Turns of ``steps`` forward passes; ``frozen``: weights are constants to the compiler."""
    network, images = _placed(batch, channels_last=channels_last)
    network.eval()
    if frozen:
        from torch._inductor import config

        config.freezing = True
    run = torch.compile(network) if compiled else network

    def work() -> int:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            for _ in range(steps):
                int(run(images).argmax())
        return steps * batch

    return timed(work)


def as_if_trained(network: ResNet) -> None:
    """Give normalizations and the bias values such as training leaves, as ours get them."""
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    with torch.no_grad():
        for path, values in named.items():
            kind = "bias" if path == "final.bias" else _KINDS.get(path.rpartition("norm.")[2], "")
            trained = trained_normalization(kind, values.shape)
            if trained is not None:
                values.copy_(torch.from_numpy(trained))


def _placed(batch: int, *, channels_last: bool) -> tuple[Any, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(allotment.cpus())
    network, images = ResNet(), torch.randn(batch, 3, IMAGE_SIZE, IMAGE_SIZE)
    as_if_trained(network)
    if not channels_last:
        return network, images
    return tuple(one.to(memory_format=torch.channels_last) for one in (network, images))
