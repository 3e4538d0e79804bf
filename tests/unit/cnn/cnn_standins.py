"""Small models and data sets with known answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Linear:
    """loss = mean(image) * a * b with a = 1, b = 2: every step follows in closed form."""

    name = "linear"
    default_batch_size = 2
    default_learning_rate = 2.0**-4
    learning_rate_fn = None

    def build(self, num_classes: int, *, data_format: str = "channels_last") -> keras.Model:
        """Images of one pixel in, one number for each image out."""
        images = keras.Input((1, 1, 1))
        pixels = keras.layers.Flatten()(images)
        return keras.Model(images, _Scale(2.0, name="b")(_Scale(1.0, name="a")(pixels)))

    def loss_function(self, labels: Any, logits: Any) -> Any:
        """The mean of the numbers."""
        return tf.reduce_mean(logits)


class _Scale(keras.layers.Layer):
    def __init__(self, initial: float, **options: Any) -> None:
        super().__init__(**options)
        self._initial = initial

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(self._initial), name="kernel"
        )

    def call(self, inputs: Any) -> Any:
        return inputs * self.kernel


class Listed:
    """A data set of given images and labels, repeated for ever, in order."""

    name = "listed"
    is_synthetic = False

    def __init__(self, images: Any, labels: Any = None, *, num_classes: int = 1) -> None:
        self.images = np.asarray(images, np.float32)
        self.labels = np.zeros(len(self.images), np.int32) if labels is None else np.asarray(labels)
        self.num_classes = num_classes

    def num_examples_per_epoch(self, subset: str = "train") -> int:
        """All of them, in each subset."""
        return len(self.images)

    def batches(self, subset: str, params: Any, *, batch_size: int) -> Iterator[tuple[Any, Any]]:
        """Consecutive batches, from the start again at the end."""
        index = 0
        while True:
            chosen = np.arange(index, index + batch_size) % len(self.images)
            yield tf.constant(self.images[chosen]), tf.constant(self.labels[chosen], tf.int32)
            index += batch_size


class Trivial:
    """Three dense layers, as the trivial model of tf_cnn_benchmarks."""

    name = "trivial"
    default_batch_size = 32
    default_learning_rate = 0.005
    learning_rate_fn = None

    def __init__(self, size: int = 8, *, width: int = 4) -> None:
        self.image_size, self.width = size, width

    def build(self, num_classes: int, *, data_format: str) -> keras.Model:
        """Images of ``image_size`` in, logits out."""
        images = keras.Input((self.image_size, self.image_size, 3))
        hidden = keras.layers.Flatten()(images)
        hidden = keras.layers.Dense(self.width, activation="relu")(hidden)
        return keras.Model(images, keras.layers.Dense(num_classes)(hidden))


class Synthetic:
    """Images of one random draw, held for the whole run; labels drawn for every batch."""

    name = "cifar10"
    num_classes = 11
    is_synthetic = True

    def __init__(self, size: int = 8) -> None:
        self.size = size

    def num_examples_per_epoch(self, subset: str = "train") -> int:
        """The numbers of CIFAR-10."""
        return 50_000 if subset == "train" else 10_000

    def batches(self, subset: str, params: Any, *, batch_size: int) -> Iterator[tuple[Any, Any]]:
        """The same images each time."""
        generator = tf.random.Generator.from_seed(params.tf_random_seed)
        images = generator.normal((batch_size, self.size, self.size, 3), 0.5, 0.25)
        while True:
            labels = generator.uniform((batch_size,), 0, self.num_classes - 1, tf.int32)
            yield images, labels


def step_rows(text: str) -> list[list[str]]:
    """The step lines of ``text``, split as scripts split them."""
    lines = (line.split() for line in text.splitlines())
    return [parts for parts in lines if len(parts) >= 9 and parts[1] == "images/sec:"]


def losses(text: str) -> list[float]:
    """The loss of each step line."""
    return [float(parts[8]) for parts in step_rows(text)]
