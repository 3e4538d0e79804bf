"""One image from bytes to pixels, in training and in evaluation, as tf_cnn_benchmarks does it.

Images are [height, width, 3]. Randomness comes from a seed for each image, so that the number of
threads changes nothing. Resizing is TensorFlow 1's, whose pixels have their centres elsewhere than
those of ``tf.image.resize``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from trainbench.cnn.flags.params import ParamError, Params

MEANS = (123.68, 116.78, 103.94)
"""Red, green and blue of ImageNet's mean pixel."""
EVAL_MARGIN = 1.145
"""An evaluation image is so much larger than its central crop: 256 for 224."""
BRIGHTNESS = 32 / 255
SATURATION = (0.5, 1.5)
CONTRAST = (0.5, 1.5)
HUE = 0.2

_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32
)
_RGB = np.linalg.inv(_YIQ)


@dataclass(frozen=True)
class Box:
    """What a random crop must keep, of an image and of its bounding boxes."""

    min_object_covered: float = 0.1
    aspect_ratio_range: tuple[float, float] = (0.75, 1.33)
    area_range: tuple[float, float] = (0.05, 1.0)
    max_attempts: int = 100


@dataclass(frozen=True)
class ImageOptions:
    """The flags that change the pixels.

    Attributes:
        means: subtract ImageNet's mean pixel, in place of scaling to -1 to 1.
        use_boxes: whether crops look at the bounding boxes.
        short_side: of an evaluation image before its crop; ``None``: by ``EVAL_MARGIN``.
    """

    resize_method: str = "bilinear"
    distort_color: bool = True
    color_in_yiq: bool = True
    fuse_decode_and_crop: bool = True
    means: bool = False
    use_boxes: bool = True
    short_side: int | None = None

    @classmethod
    def of(cls, params: Params) -> ImageOptions:
        """The options that ``params`` mean.

        Raises:
            ParamError: an unknown preprocessor or resize method.
        """
        if params.resize_method not in (*METHODS, "round_robin"):
            raise ParamError(
                f"--resize_method={params.resize_method}: must be one of "
                f"{', '.join(METHODS)}, round_robin"
            )
        if params.input_preprocessor == "official_models_imagenet":
            return cls(distort_color=False, means=True, short_side=256)
        if params.input_preprocessor != "default":
            raise ParamError(
                f"--input_preprocessor={params.input_preprocessor}: must be one of default, "
                "official_models_imagenet"
            )
        return cls(
            resize_method=params.resize_method,
            distort_color=params.distortions,
            color_in_yiq=params.distort_color_in_yiq,
            fuse_decode_and_crop=params.fuse_decode_and_crop,
            means=params.ml_perf,
            use_boxes=not params.ml_perf,
        )


def train_image(
    encoded: Any, boxes: Any, *, size: int, position: Any, seed: Any, options: ImageOptions
) -> Any:
    """float32[size, size, 3] in 0 to 255: a random crop, perhaps mirrored, perhaps recoloured.

    Args:
        encoded: the bytes of a JPEG file.
        boxes: float32[1, n, 4], as (ymin, xmin, ymax, xmax) in 0 to 1; n may be 0.
        position: of the image in its batch; decides what takes turns.
        seed: int32[2].
    """
    crop_seed, flip_seed, color_seed = tf.unstack(tf.random.split(seed, 3))
    image = _random_crop(encoded, boxes, crop_seed, options.fuse_decode_and_crop)
    image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    image = resize(image, size, size, method=options.resize_method, position=position)
    if options.distort_color:
        image = distort_color(image / 255, position, color_seed, in_yiq=options.color_in_yiq) * 255
    return tf.ensure_shape(image, (size, size, 3))


def eval_image(
    image: Any, height: int, width: int, *, position: Any = 0, options: ImageOptions | None = None
) -> Any:
    """float32[height, width, 3]: resized with its proportions kept, then cropped at the centre."""
    options = options or ImageOptions()
    tall, wide = _eval_sides(image, height, width, options.short_side)
    image = resize(image, tall, wide, method=options.resize_method, position=position)
    top, left = (tall - height) // 2, (wide - width) // 2
    return tf.ensure_shape(image[top : top + height, left : left + width], (height, width, 3))


def decode(encoded: Any) -> Any:
    """uint8[height, width, 3] of a JPEG file's bytes."""
    return tf.io.decode_jpeg(encoded, channels=3, fancy_upscaling=False, dct_method="INTEGER_FAST")


def normalized(image: Any, *, means: bool = False) -> Any:
    """0 to 255 as -1 to 1, or with ImageNet's mean pixel subtracted."""
    image = tf.cast(image, tf.float32)
    return image - tf.constant(MEANS) if means else image * (1 / 127.5) - 1


def resize(image: Any, height: Any, width: Any, *, method: str, position: Any = 0) -> Any:
    """float32[height, width, 3] by TensorFlow 1's rule; ``round_robin`` by ``position``."""
    if method != "round_robin":
        return METHODS[method](image, height, width)
    turns = [lambda each=each: each(image, height, width) for each in METHODS.values()]
    return tf.switch_case(tf.cast(position % len(turns), tf.int32), turns)


def distort_color(image: Any, position: Any, seed: Any, *, in_yiq: bool = True) -> Any:
    """``image``, in 0 to 1, with random brightness, saturation, hue and contrast; clipped.

    Contrast comes last at even positions of a batch and second at odd ones.
    """
    seeds = tf.unstack(tf.random.split(seed, 4))
    image = tf.image.stateless_random_brightness(image, BRIGHTNESS, seeds[0])

    def contrast(x: Any) -> Any:
        return tf.image.stateless_random_contrast(x, *CONTRAST, seeds[1])

    def color(x: Any) -> Any:
        if in_yiq:
            return random_hsv_in_yiq(x, seeds[2])
        x = tf.image.stateless_random_saturation(x, *SATURATION, seeds[2])
        return tf.image.stateless_random_hue(x, HUE, seeds[3])

    even = tf.equal(position % 2, 0)
    image = tf.cond(even, lambda: contrast(color(image)), lambda: color(contrast(image)))
    return tf.clip_by_value(image, 0.0, 1.0)


def random_hsv_in_yiq(image: Any, seed: Any) -> Any:
    """``image`` with its chroma turned by up to 0.2 pi and scaled by 0.5 to 1.5; luma stays."""
    draws = tf.random.stateless_uniform((2,), seed)
    angle = (2 * draws[0] - 1) * HUE * math.pi
    scale = SATURATION[0] + draws[1] * (SATURATION[1] - SATURATION[0])
    return tf.linalg.matmul(image, hsv_matrix(angle, scale), transpose_b=True)


def hsv_matrix(angle: Any, scale: Any) -> Any:
    """float32[3, 3], RGB to RGB: turn the chroma plane by ``angle``, scale it by ``scale``."""
    cos, sin = scale * tf.cos(angle), scale * tf.sin(angle)
    turn = tf.reshape(tf.stack([1.0, 0.0, 0.0, 0.0, cos, -sin, 0.0, sin, cos]), (3, 3))
    return tf.constant(_RGB) @ turn @ tf.constant(_YIQ)


def _random_crop(encoded: Any, boxes: Any, seed: Any, fused: bool) -> Any:
    box = Box()
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(encoded),
        boxes,
        seed,
        min_object_covered=box.min_object_covered,
        aspect_ratio_range=box.aspect_ratio_range,
        area_range=box.area_range,
        max_attempts=box.max_attempts,
        use_image_if_no_bounding_boxes=True,
    )
    if not fused:
        return tf.slice(decode(encoded), begin, size)
    window = tf.concat([begin[:2], size[:2]], 0)
    return tf.image.decode_and_crop_jpeg(
        encoded, window, channels=3, fancy_upscaling=False, dct_method="INTEGER_FAST"
    )


def _eval_sides(image: Any, height: int, width: int, short_side: int | None) -> tuple[Any, Any]:
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    if short_side is not None:
        tall, wide = tf.unstack(tf.cast(sides * (short_side / tf.reduce_min(sides)), tf.int32))
        return tall, wide
    ratio = tf.maximum(height / sides[0], width / sides[1])
    tall, wide = tf.unstack(tf.cast(sides * ratio * EVAL_MARGIN, tf.int32))
    return tall, wide


def _by(operation: Any, **options: Any) -> Any:
    def resized(image: Any, height: Any, width: Any) -> Any:
        size = tf.stack([height, width])
        outputs = operation(images=image[tf.newaxis], size=size, align_corners=False, **options)
        return tf.cast(outputs[0], tf.float32)

    return resized


METHODS = {
    "nearest": _by(tf.raw_ops.ResizeNearestNeighbor, half_pixel_centers=False),
    "bilinear": _by(tf.raw_ops.ResizeBilinear, half_pixel_centers=False),
    "bicubic": _by(tf.raw_ops.ResizeBicubic, half_pixel_centers=False),
    "area": _by(tf.raw_ops.ResizeArea),
}
