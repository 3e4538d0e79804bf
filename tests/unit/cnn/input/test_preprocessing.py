"""Preprocessing of single images, and exact parity with TensorFlow 1."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from trainbench.cnn.flags.params import make_params
from trainbench.cnn.input import preprocessing
from trainbench.cnn.input.preprocessing import METHODS, ImageOptions
from trainbench.errors import ConfigError

NO_BOXES = tf.zeros((1, 0, 4))


def jpeg(height: int, width: int, value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (value,) * 3).save(buffer, "JPEG")
    return buffer.getvalue()


def old_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """TensorFlow 1's rule: pixel i of the output looks at i * scale of the input."""

    def lines(length: int, size: int):
        at = np.arange(size, dtype=np.float32) * np.float32(length / size)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, length - 1), (at - low).astype(np.float32)

    top, bottom, y = lines(image.shape[0], height)
    left, right, x = lines(image.shape[1], width)
    y, x = y[:, None, None], x[None, :, None]
    rows = image[top] * (1 - y) + image[bottom] * y
    return rows[:, left] * (1 - x) + rows[:, right] * x


@pytest.mark.parametrize("sides", [(4, 4, 10, 10), (7, 5, 3, 9), (1, 6, 4, 2)])
def test_bilinear_resize_is_that_of_tensorflow_1(sides):
    height, width, tall, wide = sides
    image = np.random.default_rng(0).uniform(0, 255, (height, width, 3)).astype(np.float32)
    found = preprocessing.resize(image, tall, wide, method="bilinear")
    np.testing.assert_allclose(found, old_bilinear(image, tall, wide), rtol=1e-4, atol=1e-3)
    assert not np.allclose(found, tf.image.resize(image, (tall, wide)), atol=1)


def test_nearest_resize_takes_the_pixel_above_and_left():
    image = np.arange(5, dtype=np.float32)[None, :, None] * np.ones((1, 1, 3), np.float32)
    found = preprocessing.resize(image, 1, 3, method="nearest")[0, :, 0]
    np.testing.assert_array_equal(found, [0, 1, 3])


def test_area_resize_is_the_mean_of_what_is_covered():
    image = np.arange(16, dtype=np.float32).reshape(4, 4, 1) * np.ones((1, 1, 3), np.float32)
    found = preprocessing.resize(image, 2, 2, method="area")[..., 0]
    np.testing.assert_allclose(found, [[2.5, 4.5], [10.5, 12.5]])


@pytest.mark.parametrize("position", range(8))
def test_round_robin_takes_nearest_bilinear_bicubic_area_in_turn(position):
    image = np.random.default_rng(1).uniform(0, 255, (6, 7, 3)).astype(np.float32)
    turn = ("nearest", "bilinear", "bicubic", "area")[position % 4]
    found = preprocessing.resize(image, 4, 9, method="round_robin", position=tf.constant(position))
    np.testing.assert_array_equal(found, preprocessing.resize(image, 4, 9, method=turn))


@pytest.mark.parametrize(
    ("height", "width", "tall", "wide"),
    [(10, 10, 4, 4), (4, 4, 10, 10), (1, 100, 100, 1), (100, 1, 1, 100), (1, 100, 1, 100)],
)
@pytest.mark.parametrize("method", [*METHODS, "round_robin"])
def test_a_constant_evaluation_image_stays_constant(height, width, tall, wide, method):
    image = np.full((height, width, 3), 128, np.uint8)
    options = ImageOptions(resize_method=method)
    found = preprocessing.eval_image(image, tall, wide, position=0, options=options)
    assert found.shape == (tall, wide, 3)
    # TensorFlow adds up the areas of a hundredfold enlargement in single precision.
    np.testing.assert_allclose(found, 128, atol=0.05 if method == "area" else 1e-4)


COMBINATIONS = list(itertools.product([True, False], repeat=3))


@pytest.mark.parametrize("sides", [(100, 100), (150, 10), (10, 150)])
@pytest.mark.parametrize(("distort", "in_yiq", "fused"), COMBINATIONS)
def test_black_stays_dark_and_white_bright_in_training(sides, distort, in_yiq, fused):
    options = ImageOptions(
        resize_method="round_robin",
        distort_color=distort,
        color_in_yiq=in_yiq,
        fuse_decode_and_crop=fused,
    )
    for value, position in itertools.product((0, 255), range(2)):
        found = preprocessing.train_image(
            jpeg(*sides, value),
            NO_BOXES,
            size=13,
            position=tf.constant(position),
            seed=(4, position),
            options=options,
        )
        assert found.shape == (13, 13, 3)
        assert np.abs(found - value).max() <= 50


def test_evaluation_images_for_224_have_256_pixels_before_the_crop():
    wide = np.zeros((300, 600, 3), np.float32)
    tall, broad = preprocessing._eval_sides(wide, 224, 224, None)
    assert (int(tall), int(broad)) == (256, 512)


def test_the_crop_of_evaluation_is_central():
    columns = np.arange(229, dtype=np.float32)[None, :, None] * np.ones((229, 1, 3), np.float32)
    found = preprocessing.eval_image(columns, 200, 200, options=ImageOptions())
    np.testing.assert_allclose(found[0, :, 0], np.arange(14, 214), atol=1e-3)


def test_official_preprocessing_resizes_the_short_side_to_256():
    params = make_params(input_preprocessor="official_models_imagenet")
    options = ImageOptions.of(params)
    assert (options.means, options.distort_color) == (True, False)
    tall, wide = preprocessing._eval_sides(np.zeros((512, 1024, 3)), 224, 224, options.short_side)
    assert (int(tall), int(wide)) == (256, 512)


def test_same_seed_same_image_and_another_seed_another():
    noise = np.random.default_rng(2).integers(0, 256, (60, 80, 3), np.uint8)
    encoded = tf.io.encode_jpeg(noise)

    def made(seed: int) -> np.ndarray:
        return preprocessing.train_image(
            encoded, NO_BOXES, size=16, position=0, seed=(seed, 0), options=ImageOptions()
        ).numpy()

    np.testing.assert_array_equal(made(1), made(1))
    assert np.abs(made(1) - made(2)).mean() > 5


def test_a_crop_covers_a_tenth_of_a_bounding_box():
    """The box is the white corner: no crop without any of it."""
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:20, :20] = 255
    boxes = tf.constant([[[0.0, 0.0, 0.2, 0.2]]])
    options = ImageOptions(distort_color=False, resize_method="area")
    for seed in range(20):
        found = preprocessing.train_image(
            tf.io.encode_jpeg(pixels, quality=100),
            boxes,
            size=32,
            position=0,
            seed=(seed, 1),
            options=options,
        )
        assert found.numpy().max() > 20


def test_normalization_is_to_minus_one_and_one_or_by_the_mean_pixel():
    edges = np.array([[[0, 127.5, 255]]], np.float32)
    np.testing.assert_allclose(preprocessing.normalized(edges), [[[-1, 0, 1]]], atol=1e-6)
    found = preprocessing.normalized(np.full((1, 1, 3), 200, np.uint8), means=True)
    np.testing.assert_allclose(found, [[[76.32, 83.22, 96.06]]], rtol=1e-5)


def test_chroma_turned_by_nothing_is_the_identity():
    np.testing.assert_allclose(preprocessing.hsv_matrix(0.0, 1.0), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("angle", [-0.6, 0.3])
@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_turning_chroma_keeps_luma_and_scales_saturation(angle, scale):
    pixel = np.array([0.2, 0.5, 0.7], np.float32)
    before = preprocessing._YIQ @ pixel
    after = preprocessing._YIQ @ (preprocessing.hsv_matrix(angle, scale).numpy() @ pixel)
    assert after[0] == pytest.approx(before[0], abs=1e-6)
    assert np.hypot(*after[1:]) == pytest.approx(scale * np.hypot(*before[1:]), rel=1e-4)
    turned = np.arctan2(after[2], after[1]) - np.arctan2(before[2], before[1])
    assert np.angle(np.exp(1j * (turned - angle))) == pytest.approx(0, abs=1e-4)


def test_odd_positions_distort_in_another_order():
    image = tf.constant(np.random.default_rng(3).uniform(0.3, 0.6, (4, 4, 3)), tf.float32)
    even, odd = (
        preprocessing.distort_color(image, tf.constant(position), (5, 6), in_yiq=False)
        for position in (0, 1)
    )
    assert np.abs(even - odd).max() > 1e-4
    again = preprocessing.distort_color(image, tf.constant(2), (5, 6), in_yiq=False)
    np.testing.assert_array_equal(even, again)


def test_unknown_resize_methods_and_preprocessors_are_refused():
    with pytest.raises(ConfigError, match=r"crop.*nearest, bilinear, bicubic, area, round_robin"):
        ImageOptions.of(make_params(resize_method="crop"))
    with pytest.raises(ConfigError, match="default, official_models_imagenet"):
        ImageOptions.of(make_params(input_preprocessor="mine"))
