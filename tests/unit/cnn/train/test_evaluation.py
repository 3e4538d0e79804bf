"""What an accuracy counts: ties lose, each image counts once, NaN never counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cnn_standins
import keras
import numpy as np
import pytest
import small_images
import tensorflow as tf
from cnn_standins import Listed, Trivial, step_rows

from trainbench import cnn
from trainbench.cnn.train.evaluation import Accuracy, Tally
from trainbench.cnn.train.network import in_top_k
from trainbench.compliance.emit import logging_to
from trainbench.compliance.parse import read_log
from trainbench.errors import NotFiniteError, TrainbenchError


class Pixels:
    """The logits are the pixels of the image, one for each class."""

    name = "pixels"
    default_batch_size = 4
    default_learning_rate = 0.0
    learning_rate_fn = None

    def build(self, num_classes: int, *, data_format: str) -> keras.Model:
        """Images of one row in, logits out; a weight of 1 so that there is one to train."""
        images = keras.Input((1, num_classes, 1))
        flat = keras.layers.Flatten()(images)
        return keras.Model(images, cnn_standins._Scale(1.0, name="a")(flat))


class Subsets(Listed):
    """The same images for training and validation; training takes the last half alone."""

    def batches(self, subset: str, params: Any, *, batch_size: int) -> Iterator[Any]:
        """Consecutive batches, from the start again at the end."""
        if subset == "validation":
            return super().batches(subset, params, batch_size=batch_size)
        finite = np.isfinite(self.images).all((1, 2, 3))
        kept = Listed(self.images[finite], self.labels[finite], num_classes=self.num_classes)
        return kept.batches(subset, params, batch_size=batch_size)


def rows(*logits: list[float], labels: list[int]) -> Subsets:
    """A data set of images that are the ``logits``."""
    images = np.array(logits, np.float32)[:, None, :, None]
    return Subsets(images, labels, num_classes=images.shape[2])


def evaluated(dataset: Any, model: Any = None, **flags: Any) -> tuple[Accuracy, cnn.BenchmarkCNN]:
    given = {"num_batches": 1, "eval_during_training_every_n_steps": 1, "num_eval_epochs": 1,
             "init_learning_rate": 0, "weight_decay": 0, **flags}  # fmt: skip
    benchmark = cnn_standins.benchmark_of(dataset, model or Pixels(), **given)
    stats = benchmark.run()
    accuracy = benchmark.session.evaluate()
    assert stats["top_1_accuracy"] == accuracy.top_1
    return accuracy, benchmark


def right(label: int, logits: list[float], k: int) -> bool:
    """The rule itself: fewer than k others have a logit that is at least the label's."""
    if not np.isfinite(logits).all() or not 0 <= label < len(logits):
        return False
    return sum(v >= logits[label] for i, v in enumerate(logits) if i != label) < k


def test_a_label_counts_if_fewer_than_k_others_are_at_least_as_large() -> None:
    rng = np.random.default_rng(0)
    # Small whole numbers tie often; a few are no numbers.
    logits = rng.integers(0, 4, (400, 7)).astype(np.float32)
    for row, bad in zip(range(0, 400, 9), (np.nan, np.inf, -np.inf) * 15, strict=True):
        logits[row, rng.integers(7)] = bad
    labels = rng.integers(-1, 8, 400).astype(np.int32)
    for k in (1, 5, 7, 9):
        found = in_top_k(tf.constant(labels), tf.constant(logits), k).numpy().tolist()
        wanted = [right(int(n), row.tolist(), k) for n, row in zip(labels, logits, strict=True)]
        assert found == wanted


@pytest.mark.parametrize("k", [1, 5])
def test_constant_logits_are_right_for_no_image(k: int) -> None:
    assert not in_top_k(tf.constant([0, 3, 9]), tf.fill((3, 10), 0.25), k).numpy().any()


def test_the_trivial_network_on_random_labels_reaches_no_target(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    result = tmp_path / "result.json"
    flags = (
        "--model=trivial --device=cpu --batch_size=8 --num_batches=20 --num_warmup_batches=0 "
        "--init_learning_rate=0 --eval_during_training_every_n_steps=2 --num_eval_batches=2 "
        "--stop_at_top_1_accuracy=0.759"
    )
    assert cnn.main([*flags.split(), f"--result_json={result}"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("Accuracy @ 1 = 0.0000 Accuracy @ 5 = 0.0000 [16 examples]") == 10
    assert "Stopping" not in shown.out
    assert shown.err.count("warning: the network gives one answer for all 16 images") == 1
    record = json.loads(result.read_text())
    assert "collapsed" in [note["code"] for note in record["degraded"]]
    assert all(point["collapsed"] for point in record["evaluations"])


@pytest.mark.parametrize("devices", [1, 2])
def test_ties_lose_on_every_device(devices: int) -> None:
    dataset = rows([1, 1, 0], [2, 1, 0], [0, 3, 3], [0, 0, 3], labels=[0, 0, 1, 2])
    accuracy, _ = evaluated(dataset, batch_size=2, num_gpus=devices, variable_update="replicated")
    assert (accuracy.top_1, accuracy.examples) == (0.5, 4)


@pytest.mark.parametrize(("update", "devices"), [("parameter_server", 1), ("independent", 2)])
def test_an_image_of_a_small_set_counts_once_however_often_it_is_read(
    update: str, devices: int, capsys: pytest.CaptureFixture
) -> None:
    dataset = rows([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0], labels=[0, 1, 2, 1, 1])
    given = {"num_eval_epochs": None, "num_eval_batches": 4, "num_gpus": devices}
    accuracy, _ = evaluated(dataset, batch_size=4, variable_update=update, **given)
    # 3 of 5, not 3/5 of 16 or 32.
    assert (accuracy.top_1, accuracy.examples) == (0.6, 5)
    assert "Accuracy @ 1 = 0.6000 Accuracy @ 5 = 1.0000 [5 examples]" in capsys.readouterr().out


def test_every_evaluation_of_all_images_is_of_the_same_images() -> None:
    dataset = rows([1, 0], [0, 1], [1, 0], labels=[0, 1, 1])
    _, benchmark = evaluated(dataset, batch_size=2, num_batches=3)
    found = [benchmark.session.evaluate() for _ in range(3)]
    assert {(a.top_1, a.examples) for a in found} == {(2 / 3, 3)}


def test_a_shorter_evaluation_goes_on_where_the_last_one_ended() -> None:
    dataset = rows([1, 0], [0, 1], [0, 1], [1, 0], labels=[0, 1, 0, 1])
    given = {"num_eval_epochs": None, "num_eval_batches": 1}
    benchmark = cnn_standins.benchmark_of(
        dataset, Pixels(), batch_size=2, num_batches=1, eval_during_training_every_n_steps=1,
        init_learning_rate=0, **given,
    )  # fmt: skip
    benchmark.run()
    assert [benchmark.session.evaluate().top_1 for _ in range(3)] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_image_without_finite_logits_ends_the_evaluation(
    bad: float, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    dataset = rows([1, 0], [0, bad], [1, 0], [0, 1], labels=[0, 0, 0, 1])
    result, log = tmp_path / "result.json", tmp_path / "log"
    with (
        logging_to(log, root_dir=tmp_path, benchmark="resnet", raw_prefix=""),
        pytest.raises(NotFiniteError, match=r"output for 1 of 4 images is not finite"),
    ):
        evaluated(dataset, stop_at_top_1_accuracy=0.1, result_json=str(result))
    assert "Accuracy" not in capsys.readouterr().out
    tags = [event.key for event in read_log(log).events]
    assert tags[-1] == "eval_start"
    degraded = json.loads(result.read_text())["degraded"]
    assert "not_finite" in [note["code"] for note in degraded]


def test_a_forward_pass_without_finite_logits_ends_the_run() -> None:
    dataset = Listed([[[[1], [0]]], [[[0], [np.nan]]]], [0, 0], num_classes=2)
    with pytest.raises(NotFiniteError, match="step 1: the network's output is not finite"):
        cnn_standins.run(dataset, Pixels(), forward_only=True, num_batches=2)


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_no_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    result, folder = tmp_path / "result.json", tmp_path / "run"
    flags = (
        "--model=trivial --data_name=cifar10 --device=cpu --batch_size=4 --num_warmup_batches=0 "
        "--num_batches=9 --display_every=1 --init_learning_rate=1e30"
    )
    code = cnn.main([*flags.split(), f"--result_json={result}", f"--train_dir={folder}"])
    shown = capsys.readouterr()
    assert code == 1
    assert 0 < len(step_rows(shown.out)) < 9
    assert "nan" not in shown.out
    last = shown.err.splitlines()[-1]
    assert "the loss is nan; lower the learning rate" in last
    record = json.loads(result.read_text())
    assert {"code": "not_finite", "text": last.removeprefix("error: ")} in record["degraded"]
    assert record["stats"]["last_average_loss"] is None
    assert not list(tmp_path.glob("run/model.ckpt-*"))


def test_weights_that_only_the_last_step_spoiled_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"the weights .* are not finite"):
        cnn_standins.run(num_batches=1, init_learning_rate=1e38, gradient_clip=None,
                         train_dir=str(tmp_path), weight_decay=1e30)  # fmt: skip
    assert not list(tmp_path.glob("model.ckpt-*"))


def test_one_answer_for_all_images_reaches_no_target() -> None:
    constant = Accuracy(0.9, 1.0, 10, 1.0, constant_top_1=0.9, collapsed=True)
    assert constant.remark(None) == "the network gives one answer for all 10 images"
    assert not constant.reaches(0.5)
    as_good = Accuracy(0.9, 1.0, 10, 1.0, constant_top_1=0.9)
    assert as_good.remark(None) is None
    assert not as_good.reaches(0.9)
    assert as_good.remark(0.9) == "one answer for all images is right as often (0.9000)"
    better = Accuracy(0.91, 1.0, 100, 1.0, constant_top_1=0.9)
    assert better.reaches(0.91)
    assert not better.reaches(0.92)
    assert not better.reaches(None)


def test_a_log_never_says_that_a_constant_reached_the_target(tmp_path: Path) -> None:
    dataset = rows([2, 1], [2, 0], [3, 1], [9, 0], labels=[0, 0, 0, 1])
    evaluated(dataset, stop_at_top_1_accuracy=0.7)
    log = tmp_path / "log"
    with (
        logging_to(log, root_dir=tmp_path, benchmark="resnet", raw_prefix=""),
        pytest.raises(TrainbenchError, match="one answer for all 4 images; this is not the target"),
    ):
        evaluated(dataset, stop_at_top_1_accuracy=0.7)
    assert "eval_accuracy" not in [event.key for event in read_log(log).events]


def test_images_beyond_the_last_different_one_are_not_counted() -> None:
    tally = Tally(limit=3)
    scores = {
        "top_1": [True, False], "top_5": [True, True], "finite": [True, True],
        "label": [0, 1], "answer": [0, 0],
    }  # fmt: skip
    for _ in range(4):
        tally.add(scores)
    accuracy = tally.accuracy(7.0)
    assert (accuracy.top_1, accuracy.top_5, accuracy.examples) == (2 / 3, 1.0, 3)
    assert (accuracy.constant_top_1, accuracy.collapsed) == (2 / 3, True)


def test_four_validation_images_are_four_examples(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    small_images.generate(tmp_path / "imagenet", train=8, validation=4, shards=(2, 1), mixed=True)
    result = tmp_path / "result.json"
    params = cnn.make_params(
        device="cpu", batch_size=4, num_warmup_batches=0, data_dir=str(tmp_path / "imagenet"),
        num_epochs=1, num_eval_batches=16, eval_during_training_every_n_epochs=1,
        init_learning_rate=0.01, distortions=False, result_json=str(result),
    )  # fmt: skip
    cnn.BenchmarkCNN(params, model=Trivial(16)).run()
    assert capsys.readouterr().out.count("[4 examples]") == 1
    record = json.loads(result.read_text())
    # 8 images in batches of 4 are an epoch of two steps.
    assert record["num_batches"] == 2
    assert [(e["epoch"], e["examples"]) for e in record["evaluations"]] == [(1.0, 4)]
    text = "8 of 1,281,167 training images, 4 of 50,000 validation images"
    assert {"code": "partial_data", "text": text} in record["degraded"]
