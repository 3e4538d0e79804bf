"""The MLPerf lines of a residual network, read from the Keras model that is trained.

Shapes are those of one image, channels first as in the public v0.5 logs, whatever the layout in
memory. A convolution has two lines: its shapes, and how it is set up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from trainbench.cnn.models.layers import BatchNorm, Conv
from trainbench.compliance.tags import resnet as resnet_tags

Line = tuple[str, Any]
Shape = tuple[int, ...]

BOTTLENECK = "bottleneck_block"
BASIC = "building_block"


def lines(model: keras.Model) -> Iterator[Line]:
    """Tag and value of each line, in the order of the public logs: a shortcut before its block."""
    graph = _Graph.of(model)
    yield resnet_tags.MODEL_HP_INITIAL_SHAPE, list(_shape(model.inputs[0], "channels_last"))
    blocks = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    inside = {id(layer) for add in blocks for layer in graph.block(add).layers}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Add):
            yield from _block(graph, layer)
        elif id(layer) not in inside:
            yield from _plain(graph, layer)
    yield resnet_tags.MODEL_HP_FINAL_SHAPE, list(model.outputs[0].shape[1:])


@dataclass(frozen=True)
class _Block:
    """One residual block: what goes in, its convolutions in order, the one in its shortcut."""

    start: Any
    main: list[Any]
    shortcut: list[Any]
    relu: Any

    @property
    def layers(self) -> list[Any]:
        return [*self.main, *self.shortcut, *([self.relu] if self.relu is not None else [])]


@dataclass(frozen=True)
class _Graph:
    """Which layer made a tensor, and which ones read it."""

    made_by: dict[int, Any]
    read_by: dict[int, list[Any]]
    layout: str

    @classmethod
    def of(cls, model: keras.Model) -> _Graph:
        made_by, read_by = {}, dict[int, list[Any]]()
        for layer in model.operations:
            made_by[id(layer.output)] = layer
            inputs = layer.input if isinstance(layer.input, list) else [layer.input]
            for tensor in inputs:
                read_by.setdefault(id(tensor), []).append(layer)
        first = next((layer for layer in model.layers if isinstance(layer, Conv)), None)
        return cls(made_by, read_by, first.setup.data_format if first else "channels_last")

    def block(self, add: Any) -> _Block:
        """The block that ``add`` closes."""
        # The networks add the new branch to the old one, in this order.
        shortcut, main = (self._chain(tensor) for tensor in add.input)
        start = main[0].input if main else add.input[0]
        after = self.read_by.get(id(add.output), [])
        relu = next((layer for layer in after if isinstance(layer, keras.layers.ReLU)), None)
        return _Block(start, main, shortcut, relu)

    def _chain(self, tensor: Any) -> list[Any]:
        """The convolutions and normalizations up to ``tensor``, back to where the paths part."""
        found: list[Any] = []
        while len(self.read_by[id(tensor)]) == 1:
            layer = self.made_by[id(tensor)]
            if not isinstance(layer, Conv | BatchNorm):
                break
            found.append(layer)
            tensor = layer.input
        return found[::-1]

    def shape(self, tensor: Any) -> Shape:
        return _shape(tensor, self.layout)


def _block(graph: _Graph, add: Any) -> Iterator[Line]:
    block = graph.block(add)
    kind = BOTTLENECK if len([x for x in block.main if isinstance(x, Conv)]) > 2 else BASIC
    yield resnet_tags.MODEL_HP_BLOCK_TYPE, kind
    yield resnet_tags.MODEL_HP_BEGIN_BLOCK, {"block_type": kind}
    yield resnet_tags.MODEL_HP_RESNET_TOPOLOGY, f" Block Input: {graph.shape(block.start)}"
    for layer in block.shortcut:
        yield from _plain(graph, layer)
        yield resnet_tags.MODEL_HP_PROJECTION_SHORTCUT, _change(graph, layer)
    for layer in block.main:
        yield from _plain(graph, layer)
    yield resnet_tags.MODEL_HP_SHORCUT_ADD, None
    if block.relu is not None:
        yield resnet_tags.MODEL_HP_RELU, None
    yield resnet_tags.MODEL_HP_END_BLOCK, f" Block Output: {graph.shape(add.output)}"


def _plain(graph: _Graph, layer: Any) -> Iterator[Line]:
    """The lines of one layer; what v0.5 has no tag for has none."""
    if isinstance(layer, Conv):
        yield from _convolution(graph, layer)
    elif isinstance(layer, BatchNorm):
        yield _normalization(graph, layer.setup, layer.output)
        if layer.relu:
            yield resnet_tags.MODEL_HP_RELU, None
    elif isinstance(layer, keras.layers.MaxPooling2D):
        yield resnet_tags.MODEL_HP_INITIAL_MAX_POOL, _change(graph, layer)
    elif isinstance(layer, keras.layers.Dense):
        yield resnet_tags.MODEL_HP_DENSE, layer.units


def _convolution(graph: _Graph, layer: Conv) -> Iterator[Line]:
    setup = layer.setup
    yield resnet_tags.MODEL_HP_CONV2D_FIXED_PADDING, _change(graph, layer)
    yield (
        resnet_tags.MODEL_HP_CONV2D_FIXED_PADDING,
        {
            "stride": setup.strides,
            "filters": setup.filters,
            "initializer": _initializer(setup.initializer),
            "use_bias": layer.bias is not None,
        },
    )
    if layer.norm is not None:
        yield _normalization(graph, layer.norm.setup, layer.output)
    if setup.activation:
        yield resnet_tags.MODEL_HP_RELU, None


def _normalization(graph: _Graph, setup: Any, output: Any) -> Line:
    value = {
        "shape": str(graph.shape(output)),
        "momentum": setup.decay,
        "epsilon": setup.epsilon,
        "center": True,
        "scale": setup.scale,
        "training": True,
    }
    return resnet_tags.MODEL_HP_BATCH_NORM, value


def _initializer(given: Any) -> str:
    """The distribution of the weights; that of Keras' variance scaling where none was given."""
    return str(getattr(given, "distribution", None) or "truncated_normal")


def _change(graph: _Graph, layer: Any) -> str:
    return f"{graph.shape(layer.input)} -> {graph.shape(layer.output)}"


def _shape(tensor: Any, layout: str) -> Shape:
    sides = tuple(tensor.shape[1:])
    return (sides[-1], *sides[:-1]) if layout == "channels_last" and len(sides) == 3 else sides
