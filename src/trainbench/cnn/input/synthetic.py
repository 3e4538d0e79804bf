"""Synthetic images, made once on the device that uses them, so that input costs no time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

MEAN, DEVIATION = 127, 60
LABELS_AT_ONCE = 64


def batches(
    image_size: int, num_classes: int, *, device_batch: int, seed: int, dtype: str = "float32"
) -> Iterator[tuple[Any, Any]]:
    """The same images and fresh labels, without end.

    Images are [device_batch, image_size, image_size, 3], normal around 127 and within two
    deviations of 60 of it, on the current device. Labels are int32[device_batch], uniform in 0 to
    ``num_classes - 2``: like tf_cnn_benchmarks, the last class is never drawn.
    """
    shape = (device_batch, image_size, image_size, 3)
    images = tf.random.stateless_truncated_normal(shape, (seed, 0), MEAN, DEVIATION)
    images = tf.cast(images, dtype)
    block = 0
    while True:
        block += 1
        labels = tf.random.stateless_uniform(
            (LABELS_AT_ONCE, device_batch), (seed, block), 0, num_classes - 1, tf.int32
        )
        # Drawn for many steps at once: one small operation a step would be part of what is timed.
        for each in tf.unstack(labels):
            yield images, each
