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
    (tmp_path / "model.ckpt-1243.index").touch()
    one = str(tmp_path / "model.ckpt-1243")
    assert checkpoints.find(one) == one
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


def test_an_evaluation_without_a_folder_or_a_checkpoint_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = ["--device=cpu", "--data_name=cifar10", "--eval", f"--train_dir={tmp_path}"]
    assert cnn.main(flags) == 3
    shown = capsys.readouterr()
    assert f"Checkpoint not found in {tmp_path}\n" in shown.out
    assert shown.err.endswith(f"error: No checkpoint file found in dir:{tmp_path}\n")
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


@pytest.mark.parametrize(
    ("first", "then"), [("momentum", "sgd"), ("lars", "momentum"), ("rmsprop", "momentum")]
)
def test_an_optimizers_state_is_never_dropped_nor_taken_for_anothers(
    tmp_path: Path, first: str, then: str
) -> None:
    run(tmp_path, num_batches=1, optimizer=first)
    message = (
        rf"a checkpoint of another optimizer \({first}\), from whose state --optimizer={then} can"
    )
    with pytest.raises(DataIntegrityError, match=message):
        run(tmp_path, num_batches=2, optimizer=then)
    assert steps(tmp_path) == [1]
    run(tmp_path, num_batches=2, optimizer=first)


def test_forward_passes_leave_a_checkpoint_as_it_is_and_run_all_their_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    common = (
        "--model=trivial --data_name=cifar10 --device=cpu --batch_size=4 --num_warmup_batches=0 "
        f"--display_every=1 --init_learning_rate=1e-5 --train_dir={tmp_path / 'D'}"
    ).split()
    assert cnn.main([*common, "--num_batches=10", "--optimizer=momentum"]) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "D").iterdir()}
    capsys.readouterr()
    saving = ["--save_model_steps=1", "--save_summaries_steps=1", "--summary_verbosity=1"]
    assert cnn.main([*common, "--num_batches=5", "--forward_only", *saving]) == 0
    text = capsys.readouterr().out
    assert [row[0] for row in step_rows(text)] == ["1", "2", "3", "4", "5"]
    assert f"Successfully loaded model from {tmp_path}/D/model.ckpt-10.\n" in text
    assert "total images/sec: 0.00" not in text
    assert {p: p.read_bytes() for p in (tmp_path / "D").iterdir()} == before
    assert cnn.main([*common, "--num_batches=12", "--optimizer=momentum"]) == 0
    assert [row[0] for row in step_rows(capsys.readouterr().out)] == ["11", "12"]


def test_forward_passes_without_a_checkpoint_write_none(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(tmp_path / "D", num_batches=2, forward_only=True)
    assert f"no checkpoint in {tmp_path}/D: the weights are the initial ones" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "D").exists()


def test_an_evaluation_writes_nothing_beside_the_checkpoints(tmp_path: Path) -> None:
    run(tmp_path / "D", num_batches=1)
    before = {p: p.read_bytes() for p in (tmp_path / "D").iterdir()}
    run(tmp_path / "D", eval=True, num_batches=2, eval_dir=str(tmp_path / "E"))
    assert {p: p.read_bytes() for p in (tmp_path / "D").iterdir()} == before


def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    run(tmp_path, num_batches=2, save_model_steps=1)
    wanted = f"ckpt-7: this checkpoint is not there; {tmp_path} has model.ckpt-1, model.ckpt-2: "
    with pytest.raises(DataIntegrityError, match=wanted):
        run(tmp_path / "model.ckpt-7", eval=True, num_batches=1)
    for file in tmp_path.glob("model.ckpt-2.*"):
        file.unlink()
    with pytest.raises(DataIntegrityError, match=r"model\.ckpt-2: this checkpoint is not there"):
        run(tmp_path, num_batches=3)


def test_training_wants_the_folder_and_not_one_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, num_batches=1)
    with pytest.raises(ParamError, match="names one checkpoint, which can be evaluated"):
        run(tmp_path / "model.ckpt-1", num_batches=2)
    assert not (tmp_path / "model.ckpt-1").exists()
    # A folder may have such a name.
    (tmp_path / "ckpt-5").mkdir()
    run(tmp_path / "ckpt-5", num_batches=1)
    assert steps(tmp_path / "ckpt-5") == [1]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run(tmp_path, num_batches=1)
    for file in tmp_path.glob("model.ckpt-1.*"):
        file.write_bytes(b"nonsense")
    with pytest.raises(DataIntegrityError, match=r"model\.ckpt-1: cannot be read"):
        run(tmp_path, num_batches=2)
