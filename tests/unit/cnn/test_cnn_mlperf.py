"""MLPerf lines of a CNN run: which, how often, in which order, with which values."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
from mlperf_compliance import tags as published

from trainbench.cnn import BenchmarkCNN, make_params, mlperf, tfrecords
from trainbench.cnn.datasets import Dataset
from trainbench.cnn.models import registry
from trainbench.cnn.models.resnet import NORM
from trainbench.compliance import log, resnet_keys
from trainbench.compliance.parse import Event, read_log

PACKAGE = Path(mlperf.__file__).parents[1]
CPU: dict[str, Any] = {"device": "cpu", "num_warmup_batches": 0, "display_every": 1}


class OneConvolution:
    """A convolution with normalization, a pooling and a dense layer before the logits."""

    name = "one_convolution"
    image_size = 16
    default_batch_size = 2
    default_learning_rate = 1.0
    learning_rate_fn = None

    def build(self, num_classes: int, *, data_format: str) -> keras.Model:
        from trainbench.cnn.models.net import Net

        net = Net(data_format)
        inputs, images = net.images(self.image_size)
        x = net.max_pool(net.normed(NORM).conv(images, 1, 1), 1, 1)
        return keras.Model(inputs, net.logits(net.dense(net.flatten(x), 1), num_classes))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagenet")
    tfrecords.generate(folder, train=8, validation=8, shards=(1, 1), mixed=True)
    return folder


def run(path: Path, params: dict[str, Any], model: Any, dataset: Any = None) -> list[Event]:
    """The events of a run that keeps a log."""
    with log.logging_to(path, root_dir=PACKAGE, benchmark="resnet", raw_prefix=""):
        log.emit("run_clear_caches")
        BenchmarkCNN(make_params(**{**CPU, **params}), model=model, dataset=dataset).run()
    found = read_log(path)
    assert found.findings == ()
    return list(found.events)


@pytest.fixture(scope="module")
def twice(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """Two steps of two images, evaluated after each."""
    return run(
        tmp_path_factory.mktemp("twice") / "log.txt",
        {
            "data_dir": str(images),
            "num_batches": 2,
            "num_eval_batches": 1,
            "eval_during_training_every_n_steps": 1,
            "stop_at_top_1_accuracy": 2.0,
            "ml_perf": True,
        },
        OneConvolution(),
    )


def test_tags_are_the_50_of_resnet() -> None:
    assert set(published.RESNET_TAGS) == resnet_keys.RESNET_TAGS
    assert len(resnet_keys.RESNET_TAGS) == 50
    assert not resnet_keys.OWN_TAGS & resnet_keys.RESNET_TAGS


def test_two_steps_evaluated_twice_log_each_tag_as_often_as_the_document_says(
    twice: list[Event],
) -> None:
    counted = Counter(event.key for event in twice)
    seeds = Counter(event.value for event in twice if event.key == "run_set_random_seed")
    assert seeds == {1234: 2, 4321: 2}
    twice_each = "input_order input_resize input_mean_subtraction eval_start eval_stop eval_size"
    for tag in (*twice_each.split(), "eval_accuracy", "eval_target", "input_size"):
        assert counted[tag] == 2, tag
    assert counted["model_hp_conv2d_fixed_padding"] == counted["model_hp_dense"] == 4
    for tag in ("preproc_num_train_examples", "preproc_num_eval_examples", "run_stop", "run_final"):
        assert counted[tag] == 1, tag
    # The document counts 3: two are of its test's own model, which filters its variables itself.
    assert counted["model_exclude_bn_from_l2"] == 1
    assert [e.value for e in twice if e.key == "input_size"] == [2, 2]
    assert [e.value for e in twice if e.key == "input_mean_subtraction"] == (
        [[123.68, 116.78, 103.94]] * 2
    )
    assert [e.value for e in twice if e.key == "run_stop"] == [{"success": False}]


def test_call_sites_and_benchmark_are_those_of_the_run(twice: list[Event]) -> None:
    assert {event.benchmark for event in twice} == {"resnet"}
    assert {event.file for event in twice[1:]} == {"cnn/mlperf.py"}


def residual(size: int = 32) -> Any:
    """ResNet-50 v1.5 for small images: the layers are the same."""
    return replace(registry.get_model("resnet50_v1.5", "imagenet"), image_size=size)


@pytest.fixture(scope="module")
def resnet_events(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return run(
        tmp_path_factory.mktemp("resnet") / "log.txt",
        {
            "model": "resnet50_v1.5",
            "batch_size": 4,
            "num_epochs": 1,
            "num_eval_batches": 1,
            "eval_during_training_every_n_epochs": 0.5,
            "stop_at_top_1_accuracy": 0.749,
            "ml_perf": True,
            "variable_update": "replicated",
            "optimizer": "momentum",
            "weight_decay": 1e-4,
        },
        residual(),
        Dataset("imagenet", 32, images),
    )
