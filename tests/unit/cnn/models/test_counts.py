"""Parameters of every model: tf_cnn_benchmarks', and closed forms of the papers' tables."""

from __future__ import annotations

import itertools
import math

import keras
import pytest
from checkout import CHECKOUT

from trainbench.cnn.models import registry
from trainbench.cnn.models.layers import batch_norm_variables
from trainbench.cnn.models.spec import build_shape_only

IMAGENET, CIFAR = 1001, 11

# Trainable parameters, trainable tensors, tensors that L2 applies to.
COUNTS = {
    ("imagenet", "trivial"): (4_263_877, 6, 6),
    ("imagenet", "lenet"): (2_173_353, 8, 8),
    ("imagenet", "alexnet"): (61_842_345, 16, 16),
    ("imagenet", "overfeat"): (145_924_969, 16, 16),
    ("imagenet", "vgg11"): (132_867_433, 22, 22),
    ("imagenet", "vgg16"): (138_361_641, 32, 32),
    ("imagenet", "vgg19"): (143_671_337, 38, 38),
    ("imagenet", "googlenet"): (6_999_577, 116, 116),
    ("imagenet", "inception3"): (23_819_401, 190, 96),
    ("imagenet", "inception4"): (42_649_769, 300, 151),
    ("imagenet", "nasnet"): (5_291_035, 742, 358),
    ("imagenet", "nasnetlarge"): (88_757_183, 1018, 490),
    ("imagenet", "mobilenet"): (3_506_153, 158, 54),
    ("imagenet", "resnet50"): (25_559_081, 161, 55),
    ("imagenet", "resnet50_v1.5"): (25_559_081, 161, 55),
    ("imagenet", "resnet50_v2"): (25_536_361, 138, 55),
    ("imagenet", "resnet101"): (44_551_209, 314, 106),
    ("imagenet", "resnet101_v1.5"): (44_551_209, 314, 106),
    ("imagenet", "resnet101_v2"): (44_511_081, 274, 106),
    ("imagenet", "resnet152"): (60_194_857, 467, 157),
    ("imagenet", "resnet152_v1.5"): (60_194_857, 467, 157),
    ("imagenet", "resnet152_v2"): (60_139_369, 410, 157),
    ("imagenet", "official_resnet18"): (11_694_249, 65, 23),
    ("imagenet", "official_resnet18_v2"): (11_692_329, 57, 23),
    ("imagenet", "official_resnet34"): (21_802_409, 113, 39),
    ("imagenet", "official_resnet34_v2"): (21_800_489, 105, 39),
    ("imagenet", "official_resnet50"): (25_559_081, 161, 55),
    ("imagenet", "official_resnet50_v2"): (25_551_401, 153, 55),
    ("imagenet", "official_resnet101"): (44_551_209, 314, 106),
    ("imagenet", "official_resnet101_v2"): (44_543_529, 306, 106),
    ("imagenet", "official_resnet152"): (60_194_857, 467, 157),
    ("imagenet", "official_resnet152_v2"): (60_187_177, 459, 157),
    ("imagenet", "official_resnet200"): (64_675_881, 611, 205),
    ("imagenet", "official_resnet200_v2"): (64_668_201, 603, 205),
    ("cifar10", "trivial"): (56_332, 6, 6),
    ("cifar10", "alexnet"): (1_756_619, 10, 10),
    ("cifar10", "nasnet"): (3_347_307, 936, 448),
    ("cifar10", "resnet20"): (269_787, 59, 21),
    ("cifar10", "resnet20_v2"): (269_467, 51, 21),
    ("cifar10", "resnet32"): (464_219, 95, 33),
    ("cifar10", "resnet32_v2"): (463_675, 81, 33),
    ("cifar10", "resnet44"): (658_651, 131, 45),
    ("cifar10", "resnet44_v2"): (657_883, 111, 45),
    ("cifar10", "resnet56"): (853_083, 167, 57),
    ("cifar10", "resnet56_v2"): (852_091, 141, 57),
    ("cifar10", "resnet110"): (1_728_027, 329, 111),
    ("cifar10", "resnet110_v2"): (1_726_027, 276, 111),
    ("cifar10", "densenet40_k12"): (357_491, 158, 80),
    ("cifar10", "densenet100_k12"): (2_217_411, 398, 200),
    ("cifar10", "densenet100_k24"): (8_659_995, 398, 200),
}


def trainable(model: keras.Model) -> int:
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


@pytest.mark.parametrize(("dataset", "name"), list(COUNTS))
def test_parameters_tensors_and_regularized_tensors(dataset, name):
    classes = IMAGENET if dataset == "imagenet" else CIFAR
    model = build_shape_only(registry.get_model(name, dataset), classes)
    norms = batch_norm_variables(model)
    regularized = [v for v in model.trainable_variables if v.path not in norms]
    found = (trainable(model), len(model.trainable_variables), len(regularized))
    assert found == COUNTS[dataset, name]


def test_every_model_of_the_registry_is_pinned():
    names = {(dataset, name) for dataset, models in registry.MODELS.items() for name in models}
    assert names == set(COUNTS)


def pin(name: str, dataset: str = "imagenet") -> int:
    return COUNTS[dataset, name][0]


def chain(*layers: tuple[int, int, int]) -> int:
    """Weights and biases of layers given as (pixels of the window, inputs, outputs)."""
    return sum(window * inputs * outputs + outputs for window, inputs, outputs in layers)


def dense(*widths: int) -> int:
    return chain(*((1, a, b) for a, b in itertools.pairwise(widths)))


def test_rows_of_convolutions_in_closed_form():
    assert pin("trivial") == dense(227 * 227 * 3, 1, 4096, IMAGENET)
    assert pin("trivial", "cifar10") == dense(32 * 32 * 3, 1, 4096, CIFAR)
    assert pin("lenet") == chain((25, 3, 32), (25, 32, 64)) + dense(49 * 64, 512, IMAGENET)
    alexnet = chain((121, 3, 64), (25, 64, 192), (9, 192, 384), (9, 384, 384), (9, 384, 256))
    assert pin("alexnet") == alexnet + dense(36 * 256, 4096, 4096, IMAGENET)
    tutorial = chain((25, 3, 64), (25, 64, 64)) + dense(64 * 64, 384, 192, CIFAR)
    assert pin("alexnet", "cifar10") == tutorial
    overfeat = chain((121, 3, 96), (25, 96, 256), (9, 256, 512), (9, 512, 1024), (9, 1024, 1024))
    assert pin("overfeat") == overfeat + dense(36 * 1024, 3072, 4096, IMAGENET)


@pytest.mark.parametrize(
    ("name", "counts"),
    [("vgg11", (1, 1, 2, 2, 2)), ("vgg16", (2, 2, 3, 3, 3)), ("vgg19", (2, 2, 4, 4, 4))],
)
def test_vgg_in_closed_form(name, counts):
    widths = [3]
    for count, width in zip(counts, (64, 128, 256, 512, 512), strict=True):
        widths += [width] * count
    body = chain(*((9, a, b) for a, b in itertools.pairwise(widths)))
    assert pin(name) == body + dense(49 * 512, 4096, 4096, IMAGENET)


def bottlenecks(blocks: tuple[int, ...], norms: str) -> int:
    """Weights of a bottleneck network; ``norms``: v1, v2 or the official v2."""
    total = 49 * 3 * 64 + (0 if norms == "official v2" else 2 * 64)
    inputs = 64
    for stage, count in enumerate(blocks):
        inner = 64 << stage
        outer = 4 * inner
        for index in range(count):
            total += inputs * inner + 9 * inner * inner + inner * outer + 4 * inner
            total += inputs * outer if index == 0 else 0
            total += {"v1": 2 * outer, "v2": inputs, "official v2": 2 * inputs}[norms]
            total += 2 * outer if norms == "v1" and index == 0 else 0
            inputs = outer
    total += {"v1": 0, "v2": inputs, "official v2": 2 * inputs}[norms]
    return total + dense(inputs, IMAGENET)


BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}


@pytest.mark.parametrize("depth", BLOCKS)
def test_bottleneck_resnets_in_closed_form(depth):
    blocks = BLOCKS[depth]
    assert pin(f"official_resnet{depth}") == bottlenecks(blocks, "v1")
    assert pin(f"official_resnet{depth}_v2") == bottlenecks(blocks, "official v2")
    if depth < 200:
        assert pin(f"resnet{depth}") == pin(f"resnet{depth}_v1.5") == bottlenecks(blocks, "v1")
        assert pin(f"resnet{depth}_v2") == bottlenecks(blocks, "v2")


@pytest.mark.parametrize(("depth", "blocks"), [(18, (2, 2, 2, 2)), (34, (3, 4, 6, 3))])
def test_official_resnets_of_basic_blocks_in_closed_form(depth, blocks):
    v1, v2, inputs = 49 * 3 * 64 + 2 * 64, 49 * 3 * 64, 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for index in range(count):
            convolutions = 9 * inputs * width + 9 * width * width
            convolutions += inputs * width if index == 0 else 0
            v1 += convolutions + 4 * width + (2 * width if index == 0 else 0)
            v2 += convolutions + 2 * inputs + 2 * width
            inputs = width
    assert pin(f"official_resnet{depth}") == v1 + dense(512, IMAGENET)
    assert pin(f"official_resnet{depth}_v2") == v2 + 2 * 512 + dense(512, IMAGENET)


@pytest.mark.parametrize("n", [3, 5, 7, 9, 18])
def test_cifar_resnets_in_closed_form(n):
    v1 = v2 = 9 * 3 * 16 + 2 * 16
    inputs = 16
    for width in (16, 32, 64):
        for _ in range(n):
            convolutions = 9 * inputs * width + 9 * width * width
            v1 += convolutions + 4 * width
            v2 += convolutions + inputs + 2 * width
            inputs = width
    assert pin(f"resnet{6 * n + 2}", "cifar10") == v1 + dense(64, CIFAR)
    assert pin(f"resnet{6 * n + 2}_v2", "cifar10") == v2 + 64 + dense(64, CIFAR)


@pytest.mark.parametrize(("layers", "growth"), [(12, 12), (32, 12), (32, 24)])
def test_densenets_in_closed_form(layers, growth):
    total, channels = chain((9, 3, 16)), 16
    for block in range(3):
        for _ in range(layers):
            total += 2 * channels + chain((9, channels, growth))
            channels += growth
        if block < 2:
            total += 2 * channels + chain((1, channels, 2 * growth))
            channels = 2 * growth
    total += 2 * channels + dense(channels, CIFAR)
    assert pin(f"densenet{3 * layers + 4}_k{growth}", "cifar10") == total


def normed(*layers: tuple[int, int, int]) -> int:
    """Weights of convolutions, and one offset for each output."""
    return chain(*layers)


def test_inception4_in_closed_form():
    stem = normed((9, 3, 32), (9, 32, 32), (9, 32, 64), (9, 64, 96))
    stem += normed((1, 160, 64), (9, 64, 96))
    stem += normed((1, 160, 64), (7, 64, 64), (7, 64, 64), (9, 64, 96), (9, 192, 192))
    a = normed((1, 384, 96), (1, 384, 96), (1, 384, 64), (9, 64, 96))
    a += normed((1, 384, 64), (9, 64, 96), (9, 96, 96))
    a_to_b = normed((9, 384, 384), (1, 384, 192), (9, 192, 224), (9, 224, 256))
    b = normed((1, 1024, 128), (1, 1024, 384), (1, 1024, 192), (7, 192, 224), (7, 224, 256))
    b += normed((1, 1024, 192), (7, 192, 192), (7, 192, 224), (7, 224, 224), (7, 224, 256))
    b_to_c = normed((1, 1024, 192), (9, 192, 192), (1, 1024, 256))
    b_to_c += normed((7, 256, 256), (7, 256, 320), (9, 320, 320))
    c = normed((1, 1536, 256), (1, 1536, 256), (1, 1536, 384), (3, 384, 256), (3, 384, 256))
    c += normed((1, 1536, 384), (3, 384, 448), (3, 448, 512), (3, 512, 256), (3, 512, 256))
    body = stem + 4 * a + a_to_b + 7 * b + b_to_c + 3 * c
    assert pin("inception4") == body + dense(1536, IMAGENET)


def test_mobilenet_in_closed_form():
    total, inputs = 9 * 3 * 32 + 2 * 32, 32
    for expansion, width, blocks in (
        *((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4)),
        *((6, 96, 3), (6, 160, 3), (6, 320, 1)),
    ):
        for _ in range(blocks):
            wide = expansion * inputs
            total += (inputs * wide + 2 * wide) if expansion > 1 else 0
            total += 9 * wide + 2 * wide + wide * width + 2 * width
            inputs = width
    assert pin("mobilenet") == total + 320 * 1280 + 2 * 1280 + dense(1280, IMAGENET)


@pytest.mark.parametrize(
    ("name", "keras_name", "features"),
    [
        ("inception3", "InceptionV3", 2048),
        ("mobilenet", "MobileNetV2", 1280),
        ("vgg16", "VGG16", 4096),
    ],
)
def test_the_models_keras_also_has_differ_by_one_class(name, keras_name, features):
    model = build_shape_only(registry.get_model(f"keras:{keras_name}", "imagenet"), 1000)
    assert pin(name) == trainable(model) + features + 1


def test_nasnets_differ_from_those_of_keras_by_one_class():
    # Trainable parameters of keras.applications' NASNetMobile and NASNetLarge, 1000 classes.
    assert pin("nasnet") == 5_289_978 + 1056 + 1
    assert pin("nasnetlarge") == 88_753_150 + 4032 + 1


def test_the_table_in_cnn_models_md_is_that_of_the_registry():
    text = (CHECKOUT / "docs" / "cnn_models.md").read_text()
    sections = text.split("\n## ")
    for title, dataset in (("ImageNet", "imagenet"), ("CIFAR-10", "cifar10")):
        [section] = [part for part in sections if part.startswith(title)]
        cells = [row.strip("| ").split(" | ") for row in section.splitlines() if row[:2] == "| "]
        found = {row[0]: tuple(row[1:]) for row in cells[1:]}
        wanted = {
            name: (
                str(model.image_size),
                str(model.default_batch_size),
                f"{model.default_learning_rate:g}",
                f"{pin(name, dataset):,}".replace(",", " "),
            )
            for name, model in registry.MODELS[dataset].items()
        }
        assert found == wanted
