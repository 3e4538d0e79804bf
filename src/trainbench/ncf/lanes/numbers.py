"""float32 to bfloat16 and back as integer arithmetic, for XLA on a CPU.

XLA's own conversions there take twice as long (docs/performance.md). Both round to nearest, ties to
even, so the numbers are the same.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_BITS, _HALF = 16, 0x7FFF


def narrowed(values: Any, dtype: Any) -> Any:
    """``values``, float32, in ``dtype``: bfloat16, or float32 as they are.

    Infinities and the NaN that arithmetic makes stay what they are; a NaN whose lower bits are all
    set would not.
    """
    if dtype != tf.bfloat16:
        return values
    bits = tf.bitcast(values, tf.uint32)
    odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, _u32(_BITS)), _u32(1))
    upper = tf.bitwise.right_shift(bits + _u32(_HALF) + odd, _u32(_BITS))
    return tf.bitcast(tf.cast(upper, tf.uint16), tf.bfloat16)


def widened(values: Any) -> Any:
    """``values``, bfloat16 or float32, as float32, exactly."""
    if values.dtype != tf.bfloat16:
        return values
    bits = tf.cast(tf.bitcast(values, tf.uint16), tf.uint32)
    return tf.bitcast(tf.bitwise.left_shift(bits, _u32(_BITS)), tf.float32)


def through_rectifier(gradient: Any, hidden: Any) -> Any:
    """``gradient`` where ``hidden``, a rectifier's output of the same dtype, is above 0, else 0."""
    if gradient.dtype != tf.bfloat16:
        return tf.where(hidden > 0, gradient, tf.zeros_like(gradient))
    # The sign is the same in both readings of the bits, and integers are compared faster.
    bits = tf.bitcast(gradient, tf.int16)
    above = tf.bitcast(hidden, tf.int16) > 0
    return tf.bitcast(tf.where(above, bits, tf.zeros_like(bits)), tf.bfloat16)


def _u32(value: int) -> Any:
    return tf.constant(value, tf.uint32)
