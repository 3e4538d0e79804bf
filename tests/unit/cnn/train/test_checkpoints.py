"""Checkpoints: numbers, what is kept, resuming, moving, refusing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cnn_standins
import numpy as np
import pytest
import tensorflow as tf
from cnn_standins import Listed, Normalised, Synthetic, Trivial, losses, step_rows

from trainbench import cnn
from trainbench.cnn.flags.params import ParamError
from trainbench.cnn.train import checkpoints
from trainbench.cnn.train.checkpoints import CheckpointNotFoundException
from trainbench.errors import DataIntegrityError


def run(folder: Path, model: Any = None, dataset: Any = None, **flags: object) -> cnn.BenchmarkCNN:
    given = {"train_dir": str(folder), "init_learning_rate": 0.01, **flags}
    return cnn_standins.run(dataset, model, **given)[0]


def steps(folder: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("model.ckpt-*.index"))


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for num_batches in (10, 20):
        run(tmp_path, num_batches=num_batches, save_model_steps=2, max_ckpts_to_keep=3)
    assert steps(tmp_path) == [16, 18, 20]


def test_a_checkpoint_is_named_by_path_or_found_in_its_folder(tmp_path: Path) -> None:
    assert checkpoints.find("/x/model.ckpt-1243") == "/x/model.ckpt-1243"
    assert checkpoints.step_of("/x/model.ckpt-1243") == 1243
    assert checkpoints.step_of("/x/model.ckpt") == 0
    with pytest.raises(CheckpointNotFoundException) as caught:
        checkpoints.find(str(tmp_path))
    assert str(caught.value) == f"No checkpoint file found in dir:{tmp_path}"


def test_a_moved_folder_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path / "here", num_batches=3)
    shutil.move(tmp_path / "here", tmp_path / "there")
    capsys.readouterr()
    run(tmp_path / "there", eval=True, num_batches=2)
    lines = capsys.readouterr().out.splitlines()
    assert f"Successfully loaded model from {tmp_path}/there/model.ckpt-3." in lines
    assert lines[-4].startswith("Accuracy @ 1 = ")
    assert lines[-3] == lines[-1] == "-" * 64
    assert lines[-2].startswith("total images/sec: ")


def test_one_checkpoint_is_evaluated_by_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(tmp_path, num_batches=4, save_model_steps=2)
    run(tmp_path / "model.ckpt-2", eval=True, num_batches=1)
    assert f"from {tmp_path}/model.ckpt-2." in capsys.readouterr().out


def test_moving_statistics_come_back(tmp_path: Path) -> None:
    trained = run(tmp_path, Normalised(), num_batches=3)
    loaded = run(tmp_path, Normalised(), eval=True, num_batches=1)
    before, after = (b.session.step.copies[0].state for b in (trained, loaded))
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.allclose(after[0], 0)
    assert not np.allclose(after[1], 1)


def test_a_resumed_run_ends_where_an_uninterrupted_one_would(tmp_path: Path) -> None:
    run(tmp_path, num_batches=5, num_warmup_batches=1)
    assert steps(tmp_path) == [6]
    run(tmp_path, num_batches=20, num_warmup_batches=1)
    assert steps(tmp_path) == [6, 21]


def test_a_resumed_run_goes_on_with_the_next_step_and_no_warm_up(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(tmp_path, num_batches=5, num_warmup_batches=3)
    capsys.readouterr()
    run(tmp_path, num_batches=8, num_warmup_batches=3)
    text = capsys.readouterr().out
    assert [row[0] for row in step_rows(text)] == ["6", "7", "8"]
    assert "Running warm up" not in text
    run(tmp_path, num_batches=8, num_warmup_batches=3)
    text = capsys.readouterr().out
    assert step_rows(text) == []
    assert "total images/sec: 0.00\n" in text


@pytest.mark.parametrize(
    ("optimizer", "update"),
    [
        *((each, "replicated") for each in ("sgd", "momentum", "rmsprop", "adam", "lars")),
        ("adam", "parameter_server"),
    ],
)
def test_an_interrupted_run_gives_the_numbers_of_an_uninterrupted_one(
    tmp_path: Path, capsys: pytest.CaptureFixture, optimizer: str, update: str
) -> None:
    # One image, so that the place in the data does not matter.
    dataset = Listed(np.ones((1, 8, 8, 3)), [1], num_classes=3)
    flags = {"optimizer": optimizer, "variable_update": update, "num_gpus": 2, "batch_size": 1}
    run(tmp_path / "whole", dataset=dataset, num_batches=6, **flags)
    whole = losses(capsys.readouterr().out)
    run(tmp_path / "parts", dataset=dataset, num_batches=3, **flags)
    run(tmp_path / "parts", dataset=dataset, num_batches=6, **flags)
    assert losses(capsys.readouterr().out) == whole


def test_replicated_saves_one_copy(tmp_path: Path) -> None:
    for update in ("replicated", "parameter_server"):
        run(tmp_path / update, num_batches=2, variable_update=update, num_gpus=2)
    stored = [
        tf.train.load_checkpoint(str(tmp_path / update)).get_variable_to_shape_map()
        for update in ("replicated", "parameter_server")
    ]
    assert stored[0] == stored[1]
    run(tmp_path / "replicated", eval=True, num_batches=1)


def test_the_loss_scale_is_part_of_a_checkpoint(tmp_path: Path) -> None:
    flags = {"use_fp16": True, "fp16_enable_auto_loss_scale": True, "weight_decay": 0.0}
    run(tmp_path, num_batches=3, fp16_inc_loss_scale_every_n=1, **flags)
    resumed = run(tmp_path, num_batches=4, fp16_inc_loss_scale_every_n=100, **flags)
    assert float(resumed.session.step.loss_scale.value) == 256.0


def test_an_evaluation_without_a_folder_or_a_checkpoint_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(tmp_path, eval=True, num_batches=1)
    assert f"Checkpoint not found in {tmp_path}\n" in capsys.readouterr().out
    params = cnn.make_params(device="cpu", eval=True)
    with pytest.raises(ParamError, match="Trained model directory not specified"):
        cnn.BenchmarkCNN(params, dataset=Synthetic(), model=Trivial()).run()


def test_checkpoints_are_saved_by_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10**6))
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(seconds))
    run(tmp_path, num_batches=12, save_model_secs=4, max_ckpts_to_keep=0)
    found = steps(tmp_path)
    assert found[-1] == 12
    assert 2 <= len(found) <= 12 // 2


def test_an_evaluation_repeats_at_intervals_until_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    hooks: list[float] = []

    def sleep(seconds: float) -> None:
        hooks.append(seconds)
        if len(hooks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    flags = ["--device=cpu", "--data_name=cifar10", "--eval", "--eval_interval_secs=7"]
    assert cnn.main([*flags, f"--train_dir={tmp_path}"]) == 130
    assert hooks == [7, 7, 7]
    assert capsys.readouterr().out.count("Checkpoint not found in") == 3


def test_a_checkpoint_of_another_model_is_refused_by_name_and_shape(tmp_path: Path) -> None:
    run(tmp_path, num_batches=1)
    with pytest.raises(DataIntegrityError) as caught:
        run(tmp_path, Trivial(width=7), num_batches=2)
    message = str(caught.value)
    assert "a checkpoint of another model" in message
    assert "of shape [192, 7] is wanted and it has [192, 4]" in message
    assert "\n" not in message


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    run(tmp_path, num_batches=1)
    with pytest.raises(DataIntegrityError, match="a checkpoint of another optimizer"):
        run(tmp_path, num_batches=2, optimizer="momentum")
    run(tmp_path, num_batches=1, eval=True, optimizer="momentum")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run(tmp_path, num_batches=1)
    for file in tmp_path.glob("model.ckpt-1.*"):
        file.write_bytes(b"nonsense")
    with pytest.raises(DataIntegrityError, match=r"model\.ckpt-1: cannot be read"):
        run(tmp_path, num_batches=2)
