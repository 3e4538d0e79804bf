"""A Keras model as a pure function of its variables, and the copies of those variables.

One Keras model is built. Each device calls it with the copy it reads, so that several copies need
no second model, and what batch normalisation learns on one device can be kept or thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from trainbench.cnn.models.layers import batch_norm_variables
from trainbench.cnn.train.precision import DEFAULT_LOSS_SCALE

AUXILIARY_WEIGHT = 0.4


@dataclass(frozen=True)
class Copy:
    """The variables on one device, in the order of the Keras model's own lists."""

    device: str
    trainable: list[Any]
    state: list[Any]


@dataclass(frozen=True)
class Outputs:
    """What one device computed: the model's outputs and the new values of its state."""

    logits: Any
    auxiliary: Any
    state: list[Any]


class Network:
    """The model of a run.

    Args:
        model: logits out, or logits and auxiliary logits; images in.
        source: what the model was built by; may bring its own ``loss_function(labels, logits)``.
    """

    def __init__(self, model: keras.Model, source: Any = None) -> None:
        self.model, self._source = model, source
        # By the type of the layer: a name says nothing about what a layer does.
        norms = batch_norm_variables(model)
        self.is_normalisation = [v.path in norms for v in model.trainable_variables]
        self.names = [v.path for v in model.trainable_variables]

    @property
    def fp16_loss_scale(self) -> float:
        """The model's own loss scale in float16."""
        return float(getattr(self._source, "fp16_loss_scale", DEFAULT_LOSS_SCALE))

    @property
    def regularised(self) -> list[bool]:
        """Whether L2 applies to each trainable variable: to all but batch normalisation's."""
        return [not norm for norm in self.is_normalisation]

    def copies(self, devices: Sequence[str], *, half: bool = False) -> list[Copy]:
        """One copy of the variables for each of ``devices``, all with the model's values.

        ``half`` keeps them in float16, batch normalisation's apart. The first copy is the model's
        own variables where their type allows.
        """
        return [
            # Of another process's device, the first copy cannot be the model's own.
            self._copy(device, half, own=index == 0 and "/job:" not in device)
            for index, device in enumerate(devices)
        ]

    def call(self, copy: Copy, images: Any, *, training: bool, tower: int = 0) -> Outputs:
        """Run the network with ``copy``'s variables; logits and auxiliary logits in float32."""
        state = [
            _seed_of(v, kept, tower) for v, kept in zip(self._state(), copy.state, strict=True)
        ]
        outputs, state = self.model.stateless_call(copy.trainable, state, images, training=training)
        parts = list(outputs) if isinstance(outputs, list | tuple) else [outputs, None]
        floats = [None if part is None else tf.cast(part, tf.float32) for part in parts]
        return Outputs(floats[0], floats[1], list(state))

    def loss(self, labels: Any, outputs: Outputs) -> Any:
        """Mean loss over the images of one device, without the L2 term."""
        own = getattr(self._source, "loss_function", None)
        if own is not None:
            return own(labels, outputs.logits)
        loss = _cross_entropy(labels, outputs.logits)
        if outputs.auxiliary is not None:
            loss += AUXILIARY_WEIGHT * _cross_entropy(labels, outputs.auxiliary)
        return loss

    def l2(self, copy: Copy, *, at_once: bool = False) -> Any:
        """Sum of v^2 / 2 over the regularised variables, in float32."""
        values = [
            tf.cast(v, tf.float32)
            for v, regularised in zip(copy.trainable, self.regularised, strict=True)
            if regularised
        ]
        if not values:
            return tf.constant(0.0)
        if at_once:
            return tf.nn.l2_loss(tf.concat([tf.reshape(v, [-1]) for v in values], 0))
        return tf.add_n([tf.nn.l2_loss(v) for v in values])

    def named(self, copy: Copy) -> dict[str, Any]:
        """Every variable of ``copy`` by the model's name for it, as a checkpoint keeps them."""
        names = [*self.names, *(v.path for v in self._state())]
        return dict(zip(names, [*copy.trainable, *copy.state], strict=True))

    def _state(self) -> list[Any]:
        return list(self.model.non_trainable_variables)

    def _copy(self, device: str, half: bool, own: bool) -> Copy:
        with tf.device(device):
            trainable = [
                _held(v, tf.float16 if half and not norm else None, own)
                for v, norm in zip(
                    self.model.trainable_variables, self.is_normalisation, strict=True
                )
            ]
            return Copy(device, trainable, [_held(v, None, own) for v in self._state()])


def in_top_k(labels: Any, logits: Any, k: int) -> Any:
    """Whether each image has its label among the ``k`` largest logits: bool[n].

    Ties lose: fewer than ``k`` other classes have a logit that is at least the label's. An image
    with a logit that is not finite, or a label that is no class, never counts.
    """
    is_label = tf.range(logits.shape[-1]) == labels[:, tf.newaxis]
    own = tf.reduce_max(tf.where(is_label, logits, logits.dtype.min), axis=1, keepdims=True)
    rivals = tf.logical_and(logits >= own, tf.logical_not(is_label))
    few = tf.reduce_sum(tf.cast(rivals, tf.int32), axis=1) < k
    return few & tf.reduce_any(is_label, axis=1) & finite_rows(logits)


def finite_rows(logits: Any) -> Any:
    """Whether the logits of each image are all finite: bool[n]."""
    return tf.reduce_all(tf.math.is_finite(logits), axis=1)


def _cross_entropy(labels: Any, logits: Any) -> Any:
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def _held(variable: Any, dtype: Any, own: bool) -> Any:
    """A TensorFlow variable for a Keras one: its own, or a new one with its value."""
    value = variable.value
    if own and dtype in (None, value.dtype):
        return value
    initial = tf.cast(value, dtype or value.dtype)
    return tf.Variable(initial, trainable=variable.trainable, name=variable.name)


def _seed_of(variable: Any, kept: Any, tower: int) -> Any:
    """The state that device ``tower`` reads: random seeds differ, or all would drop the same."""
    if tower and kept.dtype.is_integer and kept.shape == (2,):
        return kept + tf.constant([tower, 0], kept.dtype)
    return kept
