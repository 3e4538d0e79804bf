"""Runs on odd data and runs that are cut off."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_images
from cnn_standins import Listed, Trivial, losses, step_rows
from processes import PATIENCE_S, wait_until

from trainbench import cnn


def run(dataset: Any = None, model: Any = None, **flags: object) -> tuple[cnn.BenchmarkCNN, dict]:
    """A run of ``model``; without a data set, on the harness's own."""
    params = cnn.make_params(
        **{
            "device": "cpu", "batch_size": 4, "num_warmup_batches": 0, "display_every": 1,
            "weight_decay": 0, "init_learning_rate": 0.01, **flags,
        }
    )  # fmt: skip
    benchmark = cnn.BenchmarkCNN(params, dataset=dataset, model=model)
    return benchmark, benchmark.run()


def test_black_and_white_records_are_learned_and_the_run_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = tmp_path / "imagenet"
    small_images.generate(data, train=32, validation=16, shards=(2, 1), mixed=True)
    flags = {
        "data_dir": str(data), "train_dir": str(tmp_path / "run"), "num_warmup_batches": 1,
        "num_eval_batches": 4, "init_learning_rate": 0.05, "distortions": False,
        "print_training_accuracy": True,
    }  # fmt: skip
    _, stats = run(
        model=Trivial(16), num_batches=20, eval_during_training_every_n_steps=10, **flags
    )
    found = losses(capsys.readouterr().out)
    assert len(found) == 20
    assert max(found) <= 100
    assert found[-1] <= 10
    assert (stats["top_1_accuracy"], stats["top_5_accuracy"]) == (1.0, 1.0)

    run(model=Trivial(16), num_batches=22, **flags)
    text = capsys.readouterr().out
    assert [row[0] for row in step_rows(text)] == ["21", "22"]
    assert losses(text)[0] <= 1.01 * found[-1] + 0.001


@pytest.mark.parametrize("name", ["cifar10", "imagenet"])
@pytest.mark.parametrize(
    "mode", [{}, {"forward_only": True}, {"eval_during_training_every_n_steps": 1}]
)
def test_a_model_without_a_dataset_gets_images_of_its_size(name: str, mode: dict) -> None:
    benchmark, stats = run(
        model=Trivial(12), data_name=name, num_batches=2, num_eval_batches=1, **mode
    )
    assert benchmark.dataset.image_size == 12
    assert stats["num_steps"] == 2


@pytest.mark.parametrize("classes", [1, 2, 6])
@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("mode", [{"forward_only": True}, {"print_training_accuracy": True}])
def test_no_accuracy_is_ever_above_one(
    classes: int, devices: int, mode: dict, capsys: pytest.CaptureFixture
) -> None:
    # One image again and again: every class that ties with the right one counts as right.
    dataset = Listed(np.ones((5, 8, 8, 3)), np.arange(5) % classes, num_classes=classes)
    run(dataset, Trivial(), num_batches=3, num_gpus=devices, batch_size=3, **mode)
    shown = [float(x) for row in step_rows(capsys.readouterr().out) for x in row[9:11]]
    assert len(shown) == 6
    assert all(0 <= accuracy <= 1 for accuracy in shown)
    assert shown[1::2] == [1.0] * 3 or classes == 6


@pytest.mark.parametrize("update", ["parameter_server", "replicated", "independent"])
def test_a_scale_that_overflows_is_halved_until_steps_count(
    update: str, capsys: pytest.CaptureFixture
) -> None:
    """Unnormalized pixels and a scale of 2^15: float16's largest number is below 2^16."""
    benchmark, _ = run(
        model=Trivial(8), data_name="cifar10", num_batches=30, num_gpus=2, use_fp16=True,
        fp16_enable_auto_loss_scale=True, fp16_loss_scale=2.0**15, variable_update=update,
        init_learning_rate=1e-6,
    )  # fmt: skip
    assert len(losses(capsys.readouterr().out)) == 30
    scale = benchmark.session.step.loss_scale
    halvings = np.log2(2.0**15 / float(scale.value))
    assert halvings == int(halvings)
    assert 0 < halvings < 30
    assert int(scale.good_steps) <= 30 - halvings
    # Independent copies are not checked but for the first.
    first = benchmark.session.step.copies[0]
    assert all(np.isfinite(variable.numpy()).all() for variable in first.trainable)


LONG = [
    "--model=trivial",
    "--data_name=cifar10",
    "--batch_size=2",
    "--device=cpu",
    "--num_warmup_batches=1",
    "--display_every=1",
    "--init_learning_rate=0.00001",
    "--optimizer=momentum",
]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_leaves_its_total_checkpoint_and_result(
    tmp_path: Path, capsys: pytest.CaptureFixture, number: signal.Signals
) -> None:
    folder, result = tmp_path / "run", tmp_path / "result.json"
    flags = [*LONG, f"--train_dir={folder}", f"--result_json={result}", "--save_model_steps=3"]
    command = [sys.executable, "-m", "trainbench", "cnn", *flags, "--num_batches=1000000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until((folder / "checkpoint").exists, process=process)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert re.search(r"^total images/sec: [\d.]+$", out, re.MULTILINE)
    done = int(step_rows(out)[-1][0])
    told = f"ended by {number.name} after {done} of 1000000 steps"
    saved = f"{told}; saved step {done + 1} in {folder}, from where the same command goes on\n"
    assert saved in err
    assert err.endswith("error: interrupted\n")
    record = json.loads(result.read_text())
    assert {"code": "interrupted", "text": told} in record["degraded"]
    assert len(record["step_times_s"]) == record["stats"]["num_steps"] == done

    assert cnn.main([*flags, f"--num_batches={done + 2}"]) == 0
    assert [int(row[0]) for row in step_rows(capsys.readouterr().out)] == [done + 1, done + 2]


def test_a_run_ends_after_its_seconds_with_what_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, result = tmp_path / "run", tmp_path / "result.json"
    flags = [*LONG, f"--train_dir={folder}", f"--result_json={result}", "--max_seconds=3"]
    assert cnn.main([*flags, "--num_batches=1000000", "--eval_during_training_every_n_steps=5000",
                     "--num_eval_batches=1"]) == 0  # fmt: skip
    shown = capsys.readouterr()
    done = int(step_rows(shown.out)[-1][0])
    assert "final evaluation" not in shown.out
    assert re.search(r"^total images/sec: [\d.]+$", shown.out, re.MULTILINE)
    text = f"ended by --max_seconds=3 after {done} of 1000000 steps"
    assert text in shown.err
    assert {"code": "interrupted", "text": text} in json.loads(result.read_text())["degraded"]
    assert (folder / f"model.ckpt-{done + 1}.index").exists()


def test_half_a_decay_is_refused_in_one_line(capsys: pytest.CaptureFixture) -> None:
    flags = ["--device=cpu", "--init_learning_rate=1", "--learning_rate_decay_factor=0.5"]
    assert cnn.main(["--model=trivial", *flags]) == 2
    shown = capsys.readouterr()
    assert "If one of num_epochs_per_decay or learning_rate_decay_factor is set" in shown.err
    assert shown.err.count("\n") == 1
    assert "images/sec" not in shown.out


def test_a_killed_run_is_resumed_from_its_last_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "run"
    flags = [
        "--model=trivial", "--data_name=cifar10", "--batch_size=2", "--device=cpu",
        f"--train_dir={folder}", "--num_warmup_batches=1", "--save_model_steps=3",
        "--display_every=1", "--init_learning_rate=0.00001",
    ]  # fmt: skip
    command = [sys.executable, "-m", "trainbench", "cnn", *flags, "--num_batches=1000000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until((folder / "checkpoint").exists, process=process)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    newest = (folder / "checkpoint").read_text().splitlines()[0]
    step = int(re.search(r"ckpt-(\d+)", newest)[1])
    # A run of which only the warm-up and the first steps are done.
    assert step % 3 == 1

    assert cnn.main([*flags, f"--num_batches={step + 1}"]) == 0
    text = capsys.readouterr().out
    # Step 1 is the warm-up, so that timed step n is global step n + 1.
    assert [int(row[0]) for row in step_rows(text)] == [step, step + 1]
    assert np.isfinite(losses(text)).all()
    assert (folder / f"model.ckpt-{step + 2}.index").exists()
