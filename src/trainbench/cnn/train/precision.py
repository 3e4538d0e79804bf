"""Number formats, and the loss scale that keeps small float16 gradients from vanishing.

Rule of the automatic scale: gradients that are not all finite are thrown away and halve the scale;
otherwise they are applied, and after N finite steps one more doubles the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainbench.cnn.flags.params import Params

DEFAULT_LOSS_SCALE = 128.0


def keras_policy(params: Params) -> str:
    """The Keras mixed-precision policy that layers are built under."""
    if params.use_fp16:
        return "mixed_float16"
    return "mixed_bfloat16" if params.use_bf16 else "float32"


def initial_loss_scale(params: Params, model_default: float = DEFAULT_LOSS_SCALE) -> float | None:
    """The factor of the loss, or ``None`` where the loss is not scaled."""
    if not params.use_fp16 or params.eval or params.forward_only:
        return None
    scale = float(params.fp16_loss_scale or model_default)
    return None if scale == 1 and not params.fp16_enable_auto_loss_scale else scale


@dataclass(frozen=True)
class LossScale:
    """A loss scale on the device.

    Attributes:
        value: float32 variable, the factor of the loss.
        good_steps: int64 variable, finite steps since the scale last changed.
        every: finite steps before it doubles; ``None`` for a scale that is fixed.
        is_chief: only the chief changes the scale.
    """

    value: Any
    good_steps: Any
    every: int | None
    is_chief: bool = True

    @classmethod
    def of(cls, params: Params, model_default: float = DEFAULT_LOSS_SCALE) -> LossScale | None:
        """The loss scale of a run, ``None`` where there is none."""
        scale = initial_loss_scale(params, model_default)
        if scale is None:
            return None
        automatic = params.fp16_enable_auto_loss_scale
        return cls(
            tf.Variable(scale, trainable=False, dtype=tf.float32, name="loss_scale"),
            tf.Variable(0, trainable=False, dtype=tf.int64, name="loss_scale_normal_steps"),
            params.fp16_inc_loss_scale_every_n if automatic else None,
            is_chief=not params.job_name or params.task_index == 0,
        )

    def update(self, finite: Any) -> None:
        """Adapt the scale after a step whose gradients were all ``finite``, or not."""
        if self.every is None or not self.is_chief:
            return
        value, steps, every = self.value, self.good_steps, self.every
        grow = tf.logical_and(finite, steps >= every)
        factor = tf.where(finite, tf.where(grow, 2.0, 1.0), 0.5)
        self.value.assign(value * factor)
        restart = tf.logical_or(grow, tf.logical_not(finite))
        self.good_steps.assign(tf.where(restart, tf.zeros_like(steps), steps + 1))


def all_finite(gradients: list[Any]) -> Any:
    """Whether no element of ``gradients`` is infinite or not a number: a boolean scalar."""
    checks = [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients]
    return tf.reduce_all(tf.stack(checks))
