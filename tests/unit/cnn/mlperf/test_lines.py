"""MLPerf lines of a CNN run: which, how often, in which order, with which values."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import pytest
import small_images
from mlperf_compliance import tags as published

import trainbench
from trainbench import cnn
from trainbench.cnn import BenchmarkCNN, make_params
from trainbench.cnn.input import tfrecords
from trainbench.cnn.input.datasets import Dataset
from trainbench.cnn.mlperf import lines as mlperf
from trainbench.cnn.mlperf import model as model_lines
from trainbench.cnn.models import registry
from trainbench.cnn.models.resnet import NORM
from trainbench.cnn.models.spec import build_shape_only
from trainbench.cnn.plan import BatchSize
from trainbench.compliance.check import check
from trainbench.compliance.emit import emit, logging_to
from trainbench.compliance.event import Event
from trainbench.compliance.parse import read_log
from trainbench.compliance.rules.levels import ruleset
from trainbench.compliance.tags import resnet as resnet_tags
from trainbench.compliance.two_clocks import of_log
from trainbench.image_classification.dataset import SMALL

PACKAGE = Path(trainbench.__file__).parent
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
    small_images.generate(folder, train=8, validation=8, shards=(1, 1), mixed=True)
    return folder


def run(path: Path, params: dict[str, Any], model: Any, dataset: Any = None) -> list[Event]:
    """The events of a run that keeps a log."""
    with logging_to(path, root_dir=PACKAGE, benchmark="resnet", raw_prefix=""):
        emit("run_clear_caches")
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
    assert set(published.RESNET_TAGS) == resnet_tags.RESNET_TAGS
    assert len(resnet_tags.RESNET_TAGS) == 50
    assert not resnet_tags.OWN_TAGS & resnet_tags.RESNET_TAGS


def test_two_steps_evaluated_twice_log_each_tag_as_often_as_tf_cnn_benchmarks(
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
    # tf_cnn_benchmarks' test counts 3: two are of its own model, which filters its variables.
    assert counted["model_exclude_bn_from_l2"] == 1
    assert [e.value for e in twice if e.key == "input_size"] == [2, 2]
    assert [e.value for e in twice if e.key == "input_mean_subtraction"] == (
        [[123.68, 116.78, 103.94]] * 2
    )
    assert [e.value for e in twice if e.key == "run_stop"] == [{"success": False}]


def test_call_sites_and_benchmark_are_those_of_the_run(twice: list[Event]) -> None:
    assert {event.benchmark for event in twice} == {"resnet"}
    assert {event.file for event in twice[1:]} == {"cnn/mlperf/lines.py"}


class Few(Dataset):
    """ImageNet of eight images."""

    def num_examples_per_epoch(self, subset: str = "train") -> int:
        return 8


@pytest.fixture(scope="module")
def resnet_events(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return run(
        tmp_path_factory.mktemp("resnet") / "log.txt",
        {
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
        SMALL["resnet14_v1.5"],
        Few("imagenet", 32, images),
    )


@pytest.mark.parametrize("checker", ["2018-11", "2019-04"])
def test_a_run_of_a_resnet_has_no_finding_at_levels_1_and_2(
    resnet_events: list[Event], checker: str
) -> None:
    lines = [event.source.text for event in resnet_events]
    assert check(lines, ruleset("2", checker=checker, benchmark="resnet")) == []


def test_tags_are_counted_as_in_a_public_log(
    resnet_events: list[Event],
) -> None:
    counted = Counter(event.key for event in resnet_events)
    once_or_twice = {
        "run_set_random_seed": 4,
        "input_bn_span": 2,
        "model_l2_regularization": 1,
        "opt_learning_rate_warmup_steps": 1,
        "eval_offset": 1,
    }
    assert {tag: counted[tag] for tag in once_or_twice} == once_or_twice
    # At step 0 and every hundredth after it: 382 times in 38160 steps, once in two.
    assert counted["opt_learning_rate"] == 1
    assert counted["input_size"] == counted["eval_accuracy"] == 2


# The first appearance of each tag in a public v0.5 log of this benchmark, run_clear_caches first.
ORDER = [
    "run_clear_caches",
    "run_start",
    "eval_offset",
    "run_set_random_seed",
    "input_order",
    "input_batch_size",
    "preproc_num_train_examples",
    "input_shard",
    "input_crop_uses_bboxes",
    "input_distorted_crop_min_object_covered",
    "input_distorted_crop_aspect_ratio_range",
    "input_distorted_crop_area_range",
    "input_distorted_crop_max_attempts",
    "input_random_flip",
    "input_resize",
    "input_mean_subtraction",
    "model_hp_initial_shape",
    "model_hp_conv2d_fixed_padding",
    "model_hp_batch_norm",
    "model_hp_relu",
    "model_hp_initial_max_pool",
    "model_hp_block_type",
    "model_hp_begin_block",
    "model_hp_resnet_topology",
    "model_hp_projection_shortcut",
    "model_hp_shorcut_add",
    "model_hp_end_block",
    "model_hp_dense",
    "model_hp_final_shape",
    "model_hp_loss_fn",
    "model_exclude_bn_from_l2",
    "model_l2_regularization",
    "input_bn_span",
    "opt_learning_rate_warmup_steps",
    "opt_name",
    "opt_momentum",
    "preproc_num_eval_examples",
    "input_resize_aspect_preserving",
    "input_central_crop",
    "train_loop",
    "opt_learning_rate",
    "input_size",
    "eval_start",
    "eval_stop",
    "eval_size",
    "eval_accuracy",
    "eval_target",
    "train_epoch",
    "run_stop",
    "run_final",
]


def test_every_tag_first_appears_where_it_does_in_public_logs(resnet_events: list[Event]) -> None:
    assert len(ORDER) == 50
    assert list(dict.fromkeys(event.key for event in resnet_events)) == ORDER


def public(shared_dir: Path) -> list[str]:
    path = shared_dir / "fixtures" / "v05_logs" / "tf_resnet_v100x8_result_0.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    return [line.split(") ", 1)[1].split(":")[0].strip() for line in lines]


def test_a_public_log_has_this_order_of_tags(shared_dir: Path) -> None:
    assert list(dict.fromkeys(public(shared_dir))) == ORDER


def network_lines(tags: list[str]) -> list[str]:
    """The lines of the first network."""
    begin, end = tags.index("model_hp_initial_shape"), tags.index("model_hp_final_shape")
    return tags[begin : end + 1]


def test_the_networks_lines_are_those_of_a_public_log(shared_dir: Path) -> None:
    model = registry.get_model("resnet50_v1.5", "imagenet")
    ours = [tag for tag, _ in model_lines.lines(build_shape_only(model, 1001))]
    assert ours == network_lines(public(shared_dir))


def test_the_lines_of_resnet_50_are_counted() -> None:
    model = registry.get_model("resnet50_v1.5", "imagenet")
    said = list(model_lines.lines(build_shape_only(model, 1001)))
    counted = Counter(tag for tag, _ in said)
    values = {tag: [value for key, value in said if key == tag] for tag in counted}
    # 16 times as many in the public log of 8 towers, built twice: 1696, 848, 784, 256.
    assert counted["model_hp_conv2d_fixed_padding"] == 106
    assert counted["model_hp_batch_norm"] == 53
    assert counted["model_hp_relu"] == 49
    assert counted["model_hp_begin_block"] == counted["model_hp_end_block"] == 16
    assert counted["model_hp_projection_shortcut"] == 4
    assert values["model_hp_initial_shape"] == [[3, 224, 224]]
    assert values["model_hp_initial_max_pool"] == ["(64, 112, 112) -> (64, 56, 56)"]
    assert values["model_hp_end_block"][-1] == " Block Output: (2048, 7, 7)"
    assert values["model_hp_dense"] == [1001]
    assert values["model_hp_final_shape"] == [[1001]]
    assert values["model_hp_batch_norm"][0] == {
        "shape": "(64, 112, 112)",
        "momentum": 0.9,
        "epsilon": 1e-05,
        "center": True,
        "scale": True,
        "training": True,
    }


def test_blocks_of_small_networks_are_found_without_a_projection() -> None:
    model = registry.get_model("resnet20", "cifar10")
    counted = Counter(tag for tag, _ in model_lines.lines(build_shape_only(model, 11)))
    assert counted["model_hp_begin_block"] == 9
    assert counted["model_hp_projection_shortcut"] == counted["model_hp_initial_max_pool"] == 0
    assert counted["model_hp_batch_norm"] == 19


def test_epochs_and_the_rest_of_one_are_those_of_the_public_log() -> None:
    values = mlperf.epochs(38_160, 2_048, 1_281_167)
    assert values[:-1] == list(range(61))
    assert values[-1] == (
        "61, but this epoch only has 0.038480541568475246% of the examples of a normal epoch"
    )
    assert mlperf.epochs(4, 5, 10) == [0, 1]


def test_the_flag_writes_lines_to_stdout_and_to_the_file_and_drops_the_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command itself, which ends early, at a record that is no image."""
    folder = tmp_path / "imagenet"
    for subset in ("train", "validation"):
        record = tfrecords.example(b"not a picture", 1, (0, 0, 1, 1))
        folder.mkdir(exist_ok=True)
        tfrecords.write(folder / f"{subset}-00000-of-00001", [record])
    file, caches = tmp_path / "log.txt", tmp_path / "drop_caches"
    monkeypatch.setenv("COMPLIANCE_FILE", str(file))
    monkeypatch.setenv("DROP_CACHE_LOC", str(caches))
    flags = ["--model=resnet50_v1.5", "--device=cpu", "--ml_perf_compliance_logging"]
    assert cnn.main([*flags, f"--data_dir={folder}", "--batch_size=1", "--num_batches=1"]) == 3
    out, err = capsys.readouterr()
    written = file.read_text().splitlines()
    assert written == [line for line in out.splitlines() if line.startswith(":::MLP")]
    tags = [event.key for event in read_log(file).events]
    clocks = of_log(file)
    assert clocks is not None
    assert [reading.tag for reading in clocks.readings] == tags
    # The file is not the kernel's: whether there was anything to drop is chance.
    dropped = "page cache NOT dropped" not in err
    cleared = "run_clear_caches" if dropped else "degraded"
    assert tags[:3] == ["degraded", cleared, "run_start"]
    assert f"degraded: to drop the page cache, 3 was written to {caches}, not to /proc" in err
    assert caches.read_text() == "3\n"


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--model=trivial"], 2, "only compatible when --model is one of the following"),
        (["--model=resnet50_v1.5", "--eval"], 2, "Trained model directory not specified"),
        (["--model=resnet50_v1.5", "--data_dir=/nowhere/imagenet"], 3, "no such folder"),
    ],
)
def test_what_cannot_run_drops_no_cache_and_logs_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    code: int,
    message: str,
) -> None:
    file, caches = tmp_path / "log.txt", tmp_path / "drop_caches"
    monkeypatch.setenv("COMPLIANCE_FILE", str(file))
    monkeypatch.setenv("DROP_CACHE_LOC", str(caches))
    assert cnn.main([*flags, "--device=cpu", "--ml_perf_compliance_logging"]) == code
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert ":::MLP" not in out
    assert not file.exists()
    assert not caches.exists()


def test_the_flag_is_refused_for_other_models() -> None:
    with pytest.raises(ValueError, match="only compatible when --model is one of the following"):
        BenchmarkCNN(make_params(model="resnet50", ml_perf_compliance_logging=True, device="cpu"))


def test_input_sizes_between_evaluations_are_those_of_the_public_log(tmp_path: Path) -> None:
    plan = SimpleNamespace(train_batch=BatchSize(2_048, 1, 1))
    session = SimpleNamespace(plan=plan)
    with logging_to(tmp_path / "log", root_dir=tmp_path, benchmark="resnet", raw_prefix=""):
        lines = mlperf.TrainingLines(session, lambda step: 0.1, 0)  # type: ignore[arg-type]
        for step in (626, 3_128, 5_631, 8_133):
            lines.global_step = step
            lines.evaluation_starts(final=False)
    sizes = [e.value for e in read_log(tmp_path / "log").events if e.key == "input_size"]
    assert sizes == [1_282_048, 5_124_096, 5_126_144, 5_124_096]
