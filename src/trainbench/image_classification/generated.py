"""Generated images, which need no network: ten classes, five shapes in two textures.

Place, size, colours and brightness of a shape are drawn for each image, and noise lies over all of
it, so that no pixel tells the class and a linear model stays near chance (docs/decisions.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np

SIDE = 32
CLASSES = 10
NOISE = 15.0
"""Standard deviation of the noise, of 255."""
CHUNK = 1_000

Array = np.ndarray[Any, Any]


def draw(count: int, *, seed: int) -> tuple[Array, Array]:
    """Images uint8[count, 32, 32, 3] and labels int32[count], each class as often as the others.

    Same count and seed, same bytes.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % CLASSES).astype(np.int32)
    parts = [_images(labels[i : i + CHUNK], rng) for i in range(0, count, CHUNK)]
    return np.concatenate(parts), labels


def _images(labels: Array, rng: np.random.Generator) -> Array:
    count = len(labels)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    middle = SIDE / 2 + rng.uniform(-5, 5, (2, count, 1, 1))
    x, y = columns - middle[0], rows - middle[1]
    radius = rng.uniform(7.5, 11, (count, 1, 1))
    shape, texture = labels // 2, labels % 2
    inside = np.select([shape[:, None, None] == i for i in range(5)], _shapes(x, y, radius))
    stripes = (rows // 2) % 2 == 0
    checks = (rows // 2 + columns // 2) % 2 == 0
    lit = np.where(texture[:, None, None] == 0, stripes, checks)
    ground, first, second = _colours(count, rng)
    ink = np.where(lit[..., None], first, second)
    image = np.where(inside[..., None], ink, ground)
    image = image + rng.normal(0, NOISE, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def _shapes(x: Array, y: Array, radius: Array) -> list[Array]:
    """Disc, square, triangle, ring and cross, as booleans[count, 32, 32]."""
    distance = np.hypot(x, y)
    side = np.maximum(np.abs(x), np.abs(y))
    arms = np.minimum(np.abs(x), np.abs(y)) < 0.3 * radius
    return [
        distance < radius,
        side < 0.85 * radius,
        (np.abs(x) < (y + radius) / 2) & (y < radius),
        (distance < radius) & (distance > 0.6 * radius),
        (side < radius) & arms,
    ]


def _colours(count: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """A ground and two inks for each image: the inks differ from it and from each other."""
    ground = rng.uniform(70, 186, (count, 1, 1, 3))
    offset = rng.uniform(50, 70, (count, 1, 1, 3)) * rng.choice([-1, 1], (count, 1, 1, 1))
    return ground, ground + offset, ground - offset
