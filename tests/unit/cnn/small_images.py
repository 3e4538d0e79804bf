"""TFRecord files of small black and white images, in the place of ImageNet's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from trainbench.cnn.input import tfrecords

BLACK, WHITE = 1, 2
"""Labels; 0 is the background."""


def generate(
    folder: Path,
    *,
    train: int,
    validation: int,
    shards: tuple[int, int] = (8, 2),
    mixed: bool = False,
) -> list[Path]:
    """Write JPEG images of one colour and return the files.

    Training images are black and validation images white, so that a mix-up of the two shows;
    ``mixed``: every other image of both is white. Sides are of 30 to 299 pixels; each image has a
    box from 0.1 to 0.9. The bytes are always the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    written = []
    for subset, count, parts in zip(
        ("train", "validation"), (train, validation), shards, strict=True
    ):
        alone = BLACK if subset == "train" else WHITE
        labels = [WHITE if index % 2 else BLACK for index in range(count)]
        labels = labels if mixed else [alone] * count
        examples = [_example(label, rng) for label in labels]
        for part in range(parts):
            name = folder / f"{subset}-{part:05d}-of-{parts:05d}"
            tfrecords.write(name, examples[part::parts])
            written.append(name)
    return written


def _example(label: int, rng: np.random.Generator) -> bytes:
    height, width = rng.integers(30, 300, 2)
    pixels = np.full((height, width, 3), 255 if label == WHITE else 0, np.uint8)
    return tfrecords.example(tf.io.encode_jpeg(pixels).numpy(), label, (0.1, 0.1, 0.9, 0.9))
