"""What the models compute, and what the registry says about them."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainbench.cnn.models import applications, nasnet, registry
from trainbench.cnn.models.layers import BatchNorm, Conv, Kernel, Norm, batch_norm_variables
from trainbench.cnn.models.spec import CnnModel, build_shape_only
from trainbench.errors import ConfigError
from trainbench.image_classification.dataset import SMALL


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def small(name: str, size: int, dataset: str = "imagenet"):
    """A model of the registry, for images of ``size`` pixels."""
    return dataclasses.replace(registry.get_model(name, dataset), image_size=size)


@pytest.mark.parametrize(
    ("name", "dataset", "size", "batch", "rate"),
    [
        ("trivial", "imagenet", 227, 32, 0.005),
        ("lenet", "imagenet", 28, 32, 0.005),
        ("alexnet", "imagenet", 227, 512, 0.005),
        ("overfeat", "imagenet", 231, 32, 0.005),
        ("vgg11", "imagenet", 224, 64, 0.005),
        ("vgg16", "imagenet", 224, 64, 0.005),
        ("vgg19", "imagenet", 224, 64, 0.005),
        ("googlenet", "imagenet", 224, 32, 0.005),
        ("inception3", "imagenet", 299, 32, 0.005),
        ("inception4", "imagenet", 299, 32, 0.005),
        ("resnet50", "imagenet", 224, 64, 0.128),
        ("resnet50_v1.5", "imagenet", 224, 64, 0.128),
        ("resnet50_v2", "imagenet", 224, 64, 0.128),
        ("resnet101", "imagenet", 224, 32, 0.128),
        ("resnet152_v2", "imagenet", 224, 32, 0.128),
        ("official_resnet18", "imagenet", 224, 32, 0.0125),
        ("official_resnet50", "imagenet", 224, 128, 0.05),
        ("official_resnet50_v2", "imagenet", 224, 128, 0.05),
        ("official_resnet200_v2", "imagenet", 224, 32, 0.0125),
        ("nasnet", "imagenet", 224, 32, 0.005),
        ("nasnetlarge", "imagenet", 331, 16, 0.005),
        ("mobilenet", "imagenet", 224, 32, 0.005),
        ("trivial", "cifar10", 32, 32, 0.005),
        ("alexnet", "cifar10", 32, 128, 0.1),
        ("resnet20", "cifar10", 32, 128, 0.1),
        ("resnet110_v2", "cifar10", 32, 128, 0.1),
        ("densenet40_k12", "cifar10", 32, 64, 0.1),
        ("densenet100_k24", "cifar10", 32, 64, 0.1),
        ("nasnet", "cifar10", 32, 32, 0.025),
    ],
)
def test_image_size_batch_size_and_rate_are_the_originals(name, dataset, size, batch, rate):
    model = registry.get_model(name, dataset)
    found = (model.image_size, model.default_batch_size, model.default_learning_rate)
    assert found == (size, batch, rate)
    assert model.fp16_loss_scale == 128


@pytest.mark.parametrize("name", ["ssd300", "deepspeech2", "ncf"])
@pytest.mark.parametrize("dataset", ["imagenet", "cifar10"])
def test_models_that_are_no_image_classifiers_say_where_to_go(name, dataset):
    with pytest.raises(ConfigError, match=f"--model={name}: .* see |--model={name}: .*run: "):
        registry.get_model(name, dataset)


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(ValueError, match="Invalid model name 'resnet5O' for dataset 'imagenet'"):
        registry.get_model("resnet5O", "imagenet")
    with pytest.raises(ConfigError, match="did you mean 'inception3'"):
        registry.get_model("inceptionv3", "imagenet")


def test_a_model_of_another_data_set_says_which():
    with pytest.raises(ConfigError, match=r"'resnet20' for dataset 'imagenet'.*data_name=cifar10"):
        registry.get_model("resnet20", "imagenet")


def test_an_unknown_data_set_is_refused():
    with pytest.raises(ValueError, match="Invalid dataset name: mnist"):
        registry.get_model("trivial", "mnist")


def test_resnet50_shapes_channels_first():
    """The shapes of Google's MLPerf log: 64x112x112 -> 64x56x56, 2048x7x7, 1001."""
    with keras.StatelessScope(initialize_variables=False):
        model = registry.get_model("resnet50_v1.5", "imagenet").build(
            1001, data_format="channels_first"
        )
    pool = next(layer for layer in model.layers if "MaxPooling" in type(layer).__name__)
    assert pool.input.shape[1:] == (64, 112, 112)
    assert pool.output.shape[1:] == (64, 56, 56)
    mean = next(layer for layer in model.layers if "GlobalAverage" in type(layer).__name__)
    assert mean.input.shape[1:] == (2048, 7, 7)
    assert model.output.shape[1:] == (1001,)
    assert model.input.shape[1:] == (224, 224, 3)


@pytest.mark.parametrize(("version", "size"), [("resnet50", 1), ("resnet50_v1.5", 3)])
def test_the_stride_of_v1_is_in_a_1x1_convolution_and_that_of_v1_5_in_a_3x3(version, size):
    model = build_shape_only(registry.get_model(version, "imagenet"), 1001)
    setups = [layer.setup for layer in model.layers if isinstance(layer, Conv)]
    strided = [setup for setup in setups if setup.strides == 2]
    assert [s.filters for s in strided if s.size == (size, size)][:3] == (
        [128, 512, 256] if size == 1 else [128, 256, 512]
    )
    assert len(strided) == 1 + 3 + 3


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("resnet20", "cifar10"), ("resnet20_v2", "cifar10"), ("alexnet", "cifar10")],
)
def test_channels_first_computes_the_same(name, dataset, rng):
    source = registry.get_model(name, dataset)
    last = source.build(11)
    first = source.build(11, data_format="channels_first")
    if name != "alexnet":  # its first dense layer sees the pixels in another order
        first.set_weights(last.get_weights())
    images = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    if name == "alexnet":
        assert first(images).shape == last(images).shape
        return
    np.testing.assert_allclose(first(images), last(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet14_v1.5", 32), ("official_resnet18_v2", 32), ("mobilenet", 32)],
)
def test_a_step_of_training_changes_every_variable(name, size, rng):
    model = (SMALL.get(name) or small(name, size)).build(5)
    images = rng.normal(size=(4, size, size, 3)).astype(np.float32)
    moving = [v.numpy() for v in model.non_trainable_variables]

    @tf.function
    def slopes():
        with tf.GradientTape() as tape:
            labels = tf.range(4)
            logits = model(images, training=True)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    assert all(float(tf.reduce_max(tf.abs(slope))) > 0 for slope in slopes())
    for before, after in zip(moving, model.non_trainable_variables, strict=True):
        assert not np.array_equal(before, after.numpy()), after.path


@pytest.mark.parametrize(
    ("name", "dataset", "size"),
    [
        ("densenet40_k12", "cifar10", 32),
        ("googlenet", "imagenet", 224),
        ("vgg11", "imagenet", 32),
        ("lenet", "imagenet", 28),
    ],
)
def test_inference_gives_finite_logits(name, dataset, size, rng):
    model = small(name, size, dataset).build(7)
    images = rng.normal(size=(2, size, size, 3)).astype(np.float32)
    logits = tf.function(lambda x: model(x, training=False))(images)
    assert logits.shape == (2, 7)
    assert logits.dtype == tf.float32
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_keeps_float32_variables_and_logits(policy, rng):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = registry.get_model("resnet20", "cifar10").build(11)
    finally:
        keras.config.set_dtype_policy(before)
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    inner = next(layer for layer in model.layers if isinstance(layer, Conv))
    assert inner.compute_dtype == policy.removeprefix("mixed_")
    images = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    for training in (True, False):
        logits = model(images, training=training)
        assert logits.dtype == tf.float32
        assert np.isfinite(logits).all()


def test_names_do_not_depend_on_what_was_built_before():
    names = [
        [v.path for v in build_shape_only(registry.get_model("resnet20", "cifar10"), 11).variables]
        for _ in range(2)
    ]
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0])


@pytest.mark.parametrize("activation", [None, "relu"])
def test_inference_normalizes_by_the_moving_statistics(activation, rng):
    setup = Kernel(6, (3, 3), activation=activation)
    conv = Conv(setup, Norm(epsilon=1e-5, scale=True))
    images = rng.normal(size=(2, 5, 5, 4)).astype(np.float32)
    conv(images)
    for variable in conv.norm.variables:
        variable.assign(rng.uniform(0.5, 2, variable.shape))
    norm = conv.norm
    plain = tf.nn.conv2d(images, conv.kernel.value, 1, "SAME")
    wanted = tf.nn.batch_normalization(
        plain, norm.moving_mean, norm.moving_variance, norm.beta, norm.gamma, 1e-5
    )
    wanted = wanted if activation is None else tf.nn.relu(wanted)
    np.testing.assert_allclose(conv(images, training=False), wanted, rtol=1e-4, atol=1e-5)


def test_depthwise_inference_does_too(rng):
    conv = Conv(Kernel(0, (3, 3), activation=None, depthwise=True), Norm(scale=True))
    images = rng.normal(size=(2, 5, 5, 4)).astype(np.float32)
    conv(images)
    for variable in conv.norm.variables:
        variable.assign(rng.uniform(0.5, 2, variable.shape))
    norm = conv.norm
    plain = tf.nn.depthwise_conv2d(images, conv.kernel.value, (1, 1, 1, 1), "SAME")
    wanted = tf.nn.batch_normalization(
        plain, norm.moving_mean, norm.moving_variance, norm.beta, norm.gamma, 0.001
    )
    np.testing.assert_allclose(conv(images, training=False), wanted, rtol=1e-4, atol=1e-5)


def test_training_normalizes_by_the_batch_and_moves_by_its_unbiased_variance(rng):
    norm = BatchNorm(Norm(decay=0.9, epsilon=1e-5), data_format="channels_last")
    images = rng.normal(3, 2, size=(4, 3, 3, 2)).astype(np.float32)
    outputs = norm(images, training=True).numpy()
    np.testing.assert_allclose(outputs.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.std((0, 1, 2)), 1, atol=1e-4)
    pixels = images.reshape(-1, 2)
    np.testing.assert_allclose(norm.moving_mean, 0.1 * pixels.mean(0), rtol=1e-5)
    moved = 0.9 + 0.1 * pixels.var(0, ddof=1)
    np.testing.assert_allclose(norm.moving_variance, moved, rtol=1e-5)


def test_centered_padding_splits_the_zeros_evenly(rng):
    images = rng.normal(size=(1, 8, 8, 1)).astype(np.float32)
    conv = Conv(Kernel(1, (3, 3), 2, "centered", activation=None))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    found = conv(images)
    wanted = tf.nn.conv2d(padded, conv.kernel.value, 2, "VALID")
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert found.shape == (1, *conv.compute_output_shape((1, 8, 8, 1))[1:])


def test_centered_padding_is_the_same_in_training(rng):
    images = rng.normal(size=(2, 9, 9, 3)).astype(np.float32)
    conv = Conv(Kernel(4, (7, 7), 2, "centered", activation=None), Norm())
    found = conv(images, training=True)
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
    plain = tf.nn.conv2d(padded, conv.kernel.value, 2, "VALID")
    mean, variance = tf.nn.moments(plain, (0, 1, 2))
    wanted = (plain - mean) / tf.sqrt(variance + 0.001)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "valid", "centered"])
@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("strides", [1, 2])
def test_the_announced_shape_is_the_computed_one(padding, side, strides):
    images = np.zeros((2, side, side, 3), np.float32)
    conv = Conv(Kernel(4, (3, 5), strides, padding))
    assert tuple(conv(images).shape) == conv.compute_output_shape(images.shape)


def test_normalization_of_keras_is_found_too():
    model = build_shape_only(registry.get_model("keras:MobileNetV2", "cifar10"), 11)
    norms = batch_norm_variables(model)
    assert len([v for v in model.trainable_variables if v.path in norms]) == 2 * 52


def test_a_small_nasnet_trains(rng):
    plan = nasnet.Plan(3, 4, 8, Norm(scale=True), skip=True, keep_path=0.6)
    model = CnnModel("nasnet", 32, 2, 0.1, nasnet.nasnet(plan)).build(3)
    images = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    logits = tf.function(lambda x: model(x, training=True))(images)
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()
    progress = next(v for v in model.non_trainable_variables if v.path.endswith("count"))
    assert float(progress.value) == 1


def test_dropped_paths_are_whole_images_and_keep_the_mean():
    drop = nasnet.PathDrop(0.5, keras.random.SeedGenerator(3))
    ones = tf.ones((400, 2, 2, 1))
    end = drop((ones, tf.constant(1.0)), training=True).numpy()
    assert set(np.unique(end)) == {0.0, 2.0}
    assert (end == end[:, :1, :1, :]).all()
    assert end.mean() == pytest.approx(1, abs=0.2)
    np.testing.assert_array_equal(drop((ones, tf.constant(0.0)), training=True), ones)
    np.testing.assert_array_equal(drop((ones, tf.constant(1.0)), training=False), ones)


def test_keras_models_have_logits_and_the_size_they_were_designed_for():
    model = registry.get_model("keras:EfficientNetV2S", "imagenet")
    assert (model.image_size, model.default_batch_size) == (384, 32)
    small_model = registry.get_model("keras:MobileNetV2", "cifar10").build(11)
    assert small_model.output.shape == (None, 11)
    assert small_model.layers[-1].activation is keras.activations.linear


def test_an_unknown_keras_model_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'keras:EfficientNetV2S'"):
        registry.get_model("keras:EfficientNetv2s", "imagenet")


def test_a_keras_model_that_needs_larger_images_says_so():
    with pytest.raises(ConfigError, match=r"--model=keras:InceptionV3: .*75"):
        registry.get_model("keras:InceptionV3", "cifar10").build(11)


def test_every_size_of_the_table_is_of_a_keras_model():
    assert set(applications.SIZES) <= set(applications.names())
