"""Whole runs: lengths, evaluation in between, the end of the input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cnn_standins
import numpy as np
import pytest
import tensorflow as tf
from cnn_standins import Linear, Listed, Synthetic, Trivial, losses, step_rows

from trainbench import cnn

IMAGENET = 1_281_167


def run(*standins: Any, **flags: object) -> tuple[cnn.BenchmarkCNN, dict]:
    return cnn_standins.run(*standins, **{"weight_decay": 0, "init_learning_rate": 0.01, **flags})


def eval_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.endswith("examples/sec")]


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_there_is_a_line_for_each_timed_step(capsys: pytest.CaptureFixture, warmup: int) -> None:
    run(num_batches=6, num_warmup_batches=warmup)
    assert [int(row[0]) for row in step_rows(capsys.readouterr().out)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("values", [
    {"eval_during_training_every_n_steps": 2},
    {"eval_during_training_every_n_epochs": 2 * 4 / 50_000},
])  # fmt: skip
@pytest.mark.parametrize("devices", [1, 2])
def test_seven_steps_are_evaluated_four_times(
    capsys: pytest.CaptureFixture, values: dict, devices: int
) -> None:
    run(num_batches=7, num_eval_batches=2, num_gpus=devices, batch_size=4 // devices, **values)
    text = capsys.readouterr().out
    assert len(eval_rows(text)) == 2 * (7 // 2 + 1)
    assert len(step_rows(text)) == 7
    assert "total images/sec" not in text
    assert text.count("Resuming training\n") == 3


def test_specified_steps_and_a_final_evaluation(capsys: pytest.CaptureFixture) -> None:
    run(
        num_batches=7,
        num_eval_batches=1,
        eval_during_training_at_specified_steps=[2, 3, 5, 7, 1000],
        num_warmup_batches=2,
    )
    text = capsys.readouterr().out
    steps = [line.split()[-1] for line in text.splitlines() if "evaluation at global_step" in line]
    assert steps == ["4", "5", "7", "9"]
    assert text.count("Running final evaluation at global_step 9\n") == 1


def test_training_stops_at_the_wanted_accuracy(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It says 0 of the first five images and 1 of the others: right for two of ten, later for all.
    dataset = _Phases([np.arange(10), np.repeat([0, 1], 5)])
    _, stats = run(
        dataset, BySign(), batch_size=10, num_batches=10, num_eval_batches=1,
        eval_during_training_every_n_steps=2, stop_at_top_1_accuracy=0.4, init_learning_rate=0,
    )  # fmt: skip
    text = capsys.readouterr().out
    assert len(step_rows(text)) == 4
    assert text.count("Accuracy @ 1") == 2
    assert "Stopping, as eval accuracy at least 0.4 was reached\n" in text
    assert "final evaluation" not in text
    assert stats["top_1_accuracy"] == 1.0


def test_a_constant_network_never_reaches_the_target(capsys: pytest.CaptureFixture) -> None:
    # It says class 0 always, which is right for one of ten images at first, for five later.
    _, stats = run(
        _Phases([np.arange(10), np.repeat([0, 1], 5)]), Constant(), batch_size=10, num_batches=4,
        num_eval_batches=1, eval_during_training_every_n_steps=2, stop_at_top_1_accuracy=0.4,
        init_learning_rate=0,
    )  # fmt: skip
    shown = capsys.readouterr()
    assert len(step_rows(shown.out)) == 4
    assert stats["top_1_accuracy"] == 0.5
    assert "Stopping" not in shown.out
    assert "warning: the network gives one answer for all 10 images" in shown.err


def test_a_models_own_goal_stops_the_training(capsys: pytest.CaptureFixture) -> None:
    class Easy(Trivial):
        def reached_target(self) -> bool:
            return True

    run(model=Easy(), num_batches=9, num_eval_batches=1, eval_during_training_every_n_steps=3)
    text = capsys.readouterr().out
    assert len(step_rows(text)) == 3
    assert "Stopping, as the model indicates its custom goal was reached\n" in text


def test_training_and_evaluation_see_their_own_images(capsys: pytest.CaptureFixture) -> None:
    dataset = _TwoSubsets(train=-1.0 + 100.0, validation=1.0)
    benchmark, _ = run(
        dataset, Linear(), num_batches=1, num_eval_batches=1, init_learning_rate=0,
        eval_during_training_every_n_steps=1,
    )  # fmt: skip
    # 99 * 1 * 2; no variable is made for the evaluation.
    assert losses(capsys.readouterr().out) == [198.0]
    assert len(benchmark.session.network.model.variables) == 2
    assert len(benchmark.session.step.copies) == 1


def test_the_end_of_the_input_is_a_runtime_error_with_its_message() -> None:
    class Short(Synthetic):
        is_synthetic = False

        def batches(self, subset: str, params: Any, *, batch_size: int) -> Iterator:
            images = tf.zeros((batch_size * 2, 8, 8, 3))
            labels = tf.zeros((batch_size * 2,), tf.int32)
            return iter(tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size))

    with pytest.raises(RuntimeError, match="the input ended before the run did"):
        run(Short(), num_batches=5)


def test_an_out_of_range_error_keeps_its_message() -> None:
    class Failing(Synthetic):
        is_synthetic = False

        def batches(self, subset: str, params: Any, *, batch_size: int) -> Iterator:
            raise tf.errors.OutOfRangeError(None, None, "record 17 of shard 3")
            yield

    with pytest.raises(RuntimeError, match="record 17 of shard 3"):
        run(Failing(), num_batches=5)


def test_two_classes_that_are_black_and_white_are_learned(
    capsys: pytest.CaptureFixture,
) -> None:
    images = np.stack([np.full((8, 8, 3), -1.0 if i % 2 else 1.0) for i in range(8)])
    dataset = Listed(images, np.arange(8) % 2, num_classes=2)
    _, stats = run(
        dataset, num_batches=20, num_eval_batches=2, init_learning_rate=0.1,
        eval_during_training_every_n_steps=10, print_training_accuracy=True,
    )  # fmt: skip
    found = losses(capsys.readouterr().out)
    assert max(found) <= 100
    assert found[-1] <= 0.1
    assert stats["top_1_accuracy"] == 1.0


def test_an_evaluation_batch_may_differ_from_a_training_batch(
    capsys: pytest.CaptureFixture,
) -> None:
    run(
        num_batches=2, batch_size=2, eval_batch_size=5, num_eval_batches=3,
        eval_during_training_every_n_steps=1,
    )  # fmt: skip
    assert "[15 examples]" in capsys.readouterr().out


def test_one_seed_gives_one_sequence_of_losses(capsys: pytest.CaptureFixture) -> None:
    sequences = []
    for seed in (1, 1, 2):
        run(num_batches=4, tf_random_seed=seed)
        sequences.append(losses(capsys.readouterr().out))
    assert sequences[0] == sequences[1] != sequences[2]


class Constant(Trivial):
    """Always the same logits, largest for class 0."""

    def build(self, num_classes: int, *, data_format: str) -> tf.keras.Model:
        images = tf.keras.Input((self.image_size, self.image_size, 3))
        first = tf.keras.initializers.Constant(np.arange(num_classes, 0.0, -1.0))
        logits = tf.keras.layers.Dense(
            num_classes, kernel_initializer="zeros", bias_initializer=first
        )(tf.keras.layers.Flatten()(images))
        return tf.keras.Model(images, logits)


class BySign(Trivial):
    """Class 0 for images that are positive, class 1 for the others."""

    def build(self, num_classes: int, *, data_format: str) -> tf.keras.Model:
        images = tf.keras.Input((self.image_size, self.image_size, 3))
        sign = np.zeros((self.image_size**2 * 3, num_classes), np.float32)
        sign[:, :2] = 1, -1
        logits = tf.keras.layers.Dense(
            num_classes, kernel_initializer=tf.keras.initializers.Constant(sign)
        )(tf.keras.layers.Flatten()(images))
        return tf.keras.Model(images, logits)


class _Phases(Synthetic):
    """Ten images, the first five positive, with the labels of each phase in turn."""

    is_synthetic = False

    def __init__(self, phases: list) -> None:
        super().__init__()
        self.phases = phases

    def batches(self, subset: str, params: Any, *, batch_size: int) -> Iterator:
        signs = tf.repeat([1.0, -1.0], batch_size // 2)
        images = tf.tile(signs[:, None, None, None], (1, 8, 8, 3))
        while True:
            for labels in self.phases:
                yield images, tf.constant(labels, tf.int32)


class _TwoSubsets(Listed):
    def __init__(self, **values: float) -> None:
        super().__init__(np.zeros((4, 1, 1, 1)))
        self.values = values

    def batches(self, subset: str, params: Any, *, batch_size: int) -> Iterator:
        while True:
            yield (
                tf.fill((batch_size, 1, 1, 1), self.values[subset]),
                tf.zeros((batch_size,), tf.int32),
            )
