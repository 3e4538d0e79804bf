"""NASNet-A (arXiv 1707.07012): two kinds of cells, found by search, in a row.

A cell joins its input (state 0) and the input of the cell before (state 1) in five sums of two
operations each; what no sum has used is put side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from trainbench.cnn.models.layers import Norm
from trainbench.cnn.models.net import Net, Tensor

Operation = tuple[str, int]
"""What is done, and to which state."""


@dataclass(frozen=True)
class Cell:
    """Five pairs of operations, and the states that go into the output."""

    sums: tuple[tuple[Operation, Operation], ...]
    output: tuple[int, ...]
    strides: int


NORMAL = Cell(
    (
        (("separable 5", 0), ("separable 3", 1)),
        (("separable 5", 1), ("separable 3", 1)),
        (("average 3", 0), ("none", 1)),
        (("average 3", 1), ("average 3", 1)),
        (("separable 3", 0), ("none", 0)),
    ),
    output=(1, 2, 3, 4, 5, 6),
    strides=1,
)
REDUCTION = Cell(
    (
        (("separable 5", 0), ("separable 7", 1)),
        (("max 3", 0), ("separable 7", 1)),
        (("average 3", 0), ("separable 5", 1)),
        (("none", 3), ("average 3", 2)),
        (("separable 3", 2), ("max 3", 0)),
    ),
    output=(3, 4, 5, 6),
    strides=2,
)


@dataclass(frozen=True)
class Plan:
    """How the cells are put in a row.

    Attributes:
        cells: normal cells; a reduction comes before the one at a third and at two thirds.
        filters: of a cell before the first reduction; each reduction doubles them.
        stem_filters: of the first convolution.
        imagenet: whether two reductions at a quarter and half the filters come first.
        skip: whether the cell after a reduction sees past it.
        keep_path: share of the paths that the last cell keeps at the end of training.
        steps: in which the share falls from 1.
    """

    cells: int
    filters: int
    stem_filters: int
    norm: Norm
    imagenet: bool = True
    skip: bool = False
    keep_path: float = 1.0
    steps: int = 250_000

    @property
    def all_cells(self) -> int:
        """Cells of either kind."""
        return self.cells + (4 if self.imagenet else 2)


_IMAGENET_NORM = Norm(decay=0.9997, epsilon=0.001, scale=True)
MOBILE = Plan(12, 44, 32, _IMAGENET_NORM)
LARGE = Plan(18, 168, 96, _IMAGENET_NORM, skip=True, keep_path=0.7)
CIFAR = Plan(
    18,
    32,
    96,
    Norm(decay=0.9, epsilon=1e-5, scale=True),
    imagenet=False,
    keep_path=0.6,
    steps=937_500,
)


def nasnet(plan: Plan) -> Callable[[Net, Tensor], Tensor]:
    """The network of ``plan``."""

    def body(net: Net, x: Tensor) -> Tensor:
        return _Builder(net, plan, x).features(x)

    return body


class PathDrop(keras.layers.Layer):
    """Drops the whole of an image's input, more often the further training has come.

    Takes the input and the share of training that is done.
    """

    def __init__(
        self, dropped_at_end: float, generator: keras.random.SeedGenerator, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.dropped_at_end, self.generator = dropped_at_end, generator

    def call(self, inputs: tuple[Any, Any], training: bool = False) -> Any:
        """The input of the images that are kept, scaled so that its mean stays."""
        x, done = inputs
        if not training:
            return x
        keep = 1 - done * self.dropped_at_end
        draws = keras.random.uniform((keras.ops.shape(x)[0], 1, 1, 1), seed=self.generator)
        return x * keras.ops.cast(keras.ops.floor(draws + keep) / keep, x.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the input."""
        return input_shape[0]


class Progress(keras.layers.Layer):
    """Counts training steps: the share of ``steps`` that is done, at most 1."""

    def __init__(self, steps: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.steps = steps

    def build(self, input_shape: Any) -> None:
        """Make the counter; called by Keras."""
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The share before this step."""
        done = keras.ops.minimum(self.count / self.steps, 1.0)
        if training:
            self.count.assign(self.count + 1)
        return done

    def compute_output_shape(self, input_shape: Any) -> Any:
        """A scalar."""
        return ()


class _Builder:
    """Keeps the outputs of the cells while a network is put together."""

    def __init__(self, net: Net, plan: Plan, images: Tensor) -> None:
        self.net = net.normed(plan.norm, keras.initializers.VarianceScaling(2.0, "fan_out"))
        self.plan = plan
        self.outputs: list[Tensor | None] = [None]
        self.done = Progress(plan.steps)(images) if plan.keep_path < 1 else None
        self.generator = keras.random.SeedGenerator()
        self.built = 0

    def features(self, images: Tensor) -> Tensor:
        """The mean over the image of the last cell's output."""
        plan = self.plan
        strides, padding = (2, "valid") if plan.imagenet else (1, "same")
        x = self.net.conv(images, plan.stem_filters, 3, strides, padding=padding, activation=None)
        self.outputs.append(x)
        for share in (4, 2) if plan.imagenet else ():
            x = self._add(REDUCTION, x, self.outputs[-2], plan.filters // share)
        reductions = [plan.cells // 3, 2 * plan.cells // 3]
        filters = plan.filters
        for index in range(plan.cells):
            before = self.outputs[-2]
            if index in reductions:
                filters *= 2
                x = self._add(REDUCTION, x, before, filters)
                before = before if plan.skip else self.outputs[-2]
            x = self._add(NORMAL, x, before, filters)
        return self.net.spatial_mean(self.net.relu(x))

    def _add(self, cell: Cell, x: Tensor, before: Tensor | None, filters: int) -> Tensor:
        self.built += 1
        states = [
            self.net.conv(self.net.relu(x), filters, 1, activation=None),
            self._fitted(before, x, filters),
        ]
        for pair in cell.sums:
            ends = [self._applied(op, states[i], filters, cell, i) for op, i in pair]
            states.append(self.net.add(*ends))
        parts = [self._matched(states[index], states[-1], filters) for index in cell.output]
        self.outputs.append(self.net.concat(parts))
        return self.outputs[-1]

    def _fitted(self, before: Tensor | None, x: Tensor, filters: int) -> Tensor:
        """The output of the cell before, with the size of ``x`` and ``filters`` channels."""
        if before is None:
            return x
        if self._side(before) != self._side(x):
            return self._halved(self.net.relu(before), filters)
        if before.shape[self.net.axis] != filters:
            return self.net.conv(self.net.relu(before), filters, 1, activation=None)
        return before

    def _applied(self, name: str, x: Tensor, filters: int, cell: Cell, state: int) -> Tensor:
        strides = cell.strides if state < 2 else 1
        kind, _, size = name.partition(" ")
        if kind == "none":
            if strides == 1 and x.shape[self.net.axis] == filters:
                return x
            return self.net.conv(self.net.relu(x), filters, 1, strides, activation=None)
        if kind == "separable":
            x = self._separable(self._separable(x, filters, int(size), strides), filters, int(size))
        else:
            pool = self.net.max_pool if kind == "max" else self.net.average_pool
            x = pool(x, int(size), strides, "same")
            if x.shape[self.net.axis] != filters:
                x = self.net.conv(x, filters, 1, activation=None)
        return self._dropped(x)

    def _separable(self, x: Tensor, filters: int, size: int, strides: int = 1) -> Tensor:
        x = self.net.depthwise(self.net.relu(x), size, strides, bare=True, activation=None)
        return self.net.conv(x, filters, 1, activation=None)

    def _matched(self, state: Tensor, last: Tensor, filters: int) -> Tensor:
        if self._side(state) != self._side(last):
            return self._halved(state, filters)
        if state.shape[self.net.axis] != filters:
            return self.net.conv(state, filters, 1, activation=None)
        return state

    def _halved(self, x: Tensor, filters: int) -> Tensor:
        """Every other pixel, and those between them, each by half of the filters."""
        axis = self.net.axis
        inner = [each for each in (1, 2, 3) if each != axis]
        margins = [(0, 1) if each in inner else (0, 0) for each in range(4)]
        shifted = keras.ops.pad(x, margins)
        window = tuple(slice(1, None) if each in inner else slice(None) for each in range(4))
        halves = [
            self.net.conv(
                self.net.average_pool(part, 1, 2), filters // 2, 1, bare=True, activation=None
            )
            for part in (x, shifted[window])
        ]
        return self.net.batch_norm(self.net.concat(halves), self.plan.norm, relu=False)

    def _dropped(self, x: Tensor) -> Tensor:
        if self.done is None:
            return x
        share = self.built / self.plan.all_cells
        return PathDrop(share * (1 - self.plan.keep_path), self.generator)((x, self.done))

    def _side(self, x: Tensor) -> int:
        side: int = x.shape[2]
        return side
