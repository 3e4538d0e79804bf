"""The plain form of a training step: autodiff, then dense Adam over every parameter.

It is what the faster form is compared with, in tests for its numbers and in the benchmark for its
speed, and what small tables are trained with where it is the faster one.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainbench.ncf.model import Geometry, Weights, joined, logits, parted
from trainbench.ncf.optimizer import Adam


class PlainForm:
    """Parameters and both moments as full variables; one step reads and writes them all."""

    name = "plain"

    def __init__(self, geometry: Geometry, adam: Adam, weights: Weights, *, dtype: Any, xla: bool):
        self.geometry, self.adam, self.dtype = geometry, adam, dtype
        start = {name: weights[name] for name in geometry.dense_shapes}
        start |= {side: joined(weights, side) for side in ("user", "item")}
        self.values = {name: tf.Variable(array) for name, array in start.items()}
        self.m = {name: tf.Variable(tf.zeros_like(v)) for name, v in self.values.items()}
        self.v = {name: tf.Variable(tf.zeros_like(v)) for name, v in self.values.items()}
        self.step = tf.Variable(0, dtype=tf.int64)
        self.run = tf.function(self._run, jit_compile=xla)

    def _run(self, users: Any, items: Any, labels: Any, count: Any) -> Any:
        total = tf.constant(0.0)
        for index in tf.range(count):
            total += self._one_step(users[index], items[index], labels[index])
        return total

    def _one_step(self, users: Any, items: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            values = {name: v.read_value() for name, v in self.values.items()}
            tape.watch(values)
            low = {name: tf.cast(value, self.dtype) for name, value in values.items()}
            user_rows, item_rows = tf.gather(low["user"], users), tf.gather(low["item"], items)
            outputs = logits(
                {name: low[name] for name in self.geometry.dense_shapes},
                user_rows,
                item_rows,
                mf_dim=self.geometry.mf_dim,
            )
            loss = mean_loss(outputs, labels)
        gradients = tape.gradient(loss, values)
        self.step.assign_add(1)
        scales = self.adam.scales(self.step)
        for name, gradient in gradients.items():
            gradient = tf.convert_to_tensor(gradient)
            parts = self.adam.update(scales, values[name], self.m[name], self.v[name], gradient)
            for variable, part in zip(
                (self.values[name], self.m[name], self.v[name]), parts, strict=True
            ):
                variable.assign(part)
        return loss

    def tensors(self) -> dict[str, Any]:
        """The current parameters: dense ones by name, "user" and "item" as joined tables."""
        return {name: variable.read_value() for name, variable in self.values.items()}

    def assign(self, weights: Weights) -> None:
        """Take ``weights`` as the current parameters; the moments stay."""
        for side in ("user", "item"):
            self.values[side].assign(joined(weights, side))
        for name in self.geometry.dense_shapes:
            self.values[name].assign(weights[name])


def mean_loss(outputs: Any, labels: Any) -> Any:
    """Binary cross-entropy of logits [batch] and labels 0 or 1 [batch], mean over the batch."""
    truth = tf.cast(labels, tf.float32)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=outputs))


def named_weights(form: Any, geometry: Geometry) -> Weights:
    """The current parameters of ``form`` as arrays, by the names of ``weights.npz``."""
    arrays = {name: tensor.numpy() for name, tensor in form.tensors().items()}
    weights = parted(arrays["user"], "user", mf_dim=geometry.mf_dim)
    weights |= parted(arrays["item"], "item", mf_dim=geometry.mf_dim)
    weights |= arrays
    return {name: weights[name] for name in geometry.shapes}
