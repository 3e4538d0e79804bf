"""What is found before the first step: files that a run reads and places where it writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cnn_standins
import pytest
import small_images

from trainbench import cnn
from trainbench.cnn import places
from trainbench.errors import MachineError

COMMON = ["--model=trivial", "--data_name=cifar10", "--device=cpu", "--batch_size=4"]


def refused(capsys: pytest.CaptureFixture, *flags: str) -> tuple[int, str]:
    """The exit code and the one line of a command that does not get to its first step."""
    code = cnn.main([*COMMON, *flags])
    shown = capsys.readouterr()
    assert "images/sec" not in shown.out
    assert shown.err.count("\n") == 1
    return code, shown.err


def test_missing_validation_files_are_found_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "imagenet"
    *_, validation = small_images.generate(folder, train=4, validation=1, shards=(1, 1))
    validation.unlink()
    flags = (f"--data_dir={folder}", "--data_name=imagenet", "--model=lenet")
    code, line = refused(capsys, *flags, "--eval_during_training_every_n_steps=50")
    assert code == 3
    assert f"Found no files in --data_dir matching: {folder}/validation-*-of-*" in line


@pytest.mark.parametrize(
    ("flag", "code", "words"),
    [
        ("--train_dir={file}", 2, "--train_dir: {file} is a file; name a folder"),
        ("--train_dir={file}/below", 2, "--train_dir: {file} is a file; name a folder"),
        ("--result_json={file}/result.json", 2, "--result_json: {file} is a file"),
        ("--result_json={folder}", 2, "--result_json={folder}: this is a folder; name a file"),
        ("--result_json=/proc/nowhere/result.json", 6, "--result_json: cannot write in /proc"),
        ("--train_dir=/proc/run", 6, "--train_dir: cannot write in /proc"),
        ("--benchmark_log_dir={file}", 2, "--benchmark_log_dir: {file} is a file"),
        ("--trace_file=/proc/trace.json", 6, "--trace_file: cannot write in /proc"),
        ("--save_model_steps=5", 2, "--save_model_steps=5 wants a folder: add --train_dir=DIR"),
        ("--save_model_secs=5", 2, "--save_model_secs=5 wants a folder: add --train_dir=DIR"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture, flag: str, code: int, words: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    names = {"file": file, "folder": tmp_path}
    found, line = refused(capsys, flag.format(**names))
    assert found == code
    assert words.format(**names) in line


def test_summaries_want_a_folder(capsys: pytest.CaptureFixture) -> None:
    code, line = refused(capsys, "--summary_verbosity=1", "--save_summaries_steps=5")
    assert code == 2
    assert "--save_summaries_steps=5 wants a folder: add --train_dir=DIR" in line


def test_a_look_at_a_place_leaves_nothing(tmp_path: Path) -> None:
    places.check(cnn.make_params(train_dir=str(tmp_path / "a" / "b"), result_json=f"{tmp_path}/r"))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_space_for_a_checkpoint_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=3_000))
    with pytest.raises(MachineError, match=r"disk full: [\d,]+ bytes needed, 3,000 bytes free"):
        cnn_standins.run(num_batches=2, train_dir=str(tmp_path), optimizer="adam")
    assert "images/sec" not in capsys.readouterr().out


def test_rules_are_applied_before_tensorflow_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from trainbench.cnn.entry import main\n"
        "for flags in (['--eval'], ['--num_batches=1', '--num_epochs=1'],\n"
        "              ['--data_dir=/nowhere/imagenet'], ['--train_dir=/dev/null'],\n"
        "              ['--use_fp16', '--use_bf16'], ['--batch_size=-4']):\n"
        "    assert main(flags) in (2, 3)\n"
        "print(sorted({'keras', 'tensorflow'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
