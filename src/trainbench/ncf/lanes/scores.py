"""What the MLP adds to the logits in evaluation, its layers in TensorFlow's graph."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainbench.ncf.config import LANES
from trainbench.ncf.lanes.layers import hidden_layers
from trainbench.ncf.lanes.numbers import narrowed, widened
from trainbench.ncf.model import Geometry, rectified


class Scores:
    """The MLP of a few users' candidates at a time, in as many lanes as training has."""

    def __init__(self, geometry: Geometry, dtype: Any, *, xla: bool) -> None:
        self.geometry, self.dtype = geometry, dtype
        self._first = tf.function(self._first_hidden, jit_compile=xla, autograph=False)
        self._last = tf.function(self._of_last, jit_compile=xla, autograph=False)

    def mlp_part(self, tensors: dict[str, Any], first: Any, items: Any) -> Any:
        """Float32 [groups, group, width].

        Args:
            first: of each user what it adds to the first layer, [groups, group, second size].
            items: the candidates, int32 [groups, group, width].
        """
        dense = {n: tensors[n] for n in self.geometry.dense_shapes if n.startswith("mlp")}
        dense = {n: tf.cast(part, self.dtype) for n, part in dense.items()}
        final = tensors["final_kernel"][self.geometry.mf_dim :, 0]
        table = tensors["item_first"]
        return tf.map_fn(
            lambda group: self._one_group(dense, final, table, *group),
            (first, items),
            fn_output_signature=tf.float32,
            parallel_iterations=LANES,
        )

    def _one_group(self, dense: Any, final: Any, table: Any, first: Any, items: Any) -> Any:
        layers = range(2, len(self.geometry.mlp_layer_sizes))
        hidden = hidden_layers(dense, self._first(table, first, items), layers)[-1]
        return tf.reshape(self._last(hidden, final), items.shape)

    def _first_hidden(self, table: Any, first: Any, items: Any) -> Any:
        sums = widened(tf.gather(table, items)) + widened(first)[:, None, :]
        return narrowed(tf.reshape(rectified(sums), [-1, table.shape[1]]), self.dtype)

    def _of_last(self, hidden: Any, final: Any) -> Any:
        return tf.linalg.matvec(widened(hidden), final)
