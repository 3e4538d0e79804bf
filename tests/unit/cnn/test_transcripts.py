"""Transcripts, field for field; a number with decimals is written as #."""

from __future__ import annotations

import re

import pytest
from checkout import CHECKOUT

from trainbench import cnn

GOLDEN = CHECKOUT / "tests" / "golden" / "cnn"
COMMON = ["--device=cpu", "--data_name=cifar10", "--model=trivial", "--batch_size=4"]
# As many digits as tf_cnn_benchmarks prints in each place.
NUMBERS = (
    (r"^TensorFlow:  \d+\.\d+$", "TensorFlow:  #"),
    (r"images/sec: \d+\.\d \+/- \d+\.\d \(jitter = \d+\.\d\)", "images/sec: # +/- # (jitter = #)"),
    (r"^total images/sec: \d+\.\d\d$", "total images/sec: #"),
    (r"\t\d+\.\d examples/sec$", "\t# examples/sec"),
    (r"@ (\d) = [01]\.\d{4} ", r"@ \1 = # "),
    (r"\t\d+\.\d{3}(?=\t|$)", "\t#"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("training_and_evaluation",
         ["--num_batches=5", "--num_warmup_batches=1", "--eval_during_training_every_n_steps=2",
          "--num_eval_batches=3", "--display_every=2"]),
        ("training",
         ["--num_batches", "10", "--num_gpus=2", "--variable_update=replicated",
          "--all_reduce_spec=pscpu", "--optimizer=momentum", "--print_training_accuracy",
          "--loss_type_to_report=base_loss"]),
        ("forward_only", ["--forward_only", "--num_batches=3", "--num_warmup_batches=0"]),
    ],
)  # fmt: skip
def test_a_run_prints_what_scripts_have_parsed_for_years(
    capsys: pytest.CaptureFixture, name: str, flags: list
) -> None:
    assert cnn.main([*COMMON, *flags]) == 0
    assert masked(capsys.readouterr().out) == (GOLDEN / f"{name}.txt").read_text()


def test_a_users_parser_finds_speeds_losses_and_the_total(capsys: pytest.CaptureFixture) -> None:
    assert cnn.main([*COMMON, "--num_batches=3", "--display_every=1"]) == 0
    text = capsys.readouterr().out
    total = re.search(r"^total images/sec: ([\d.]+)$", text, re.MULTILINE)
    assert total is not None
    assert float(total[1]) > 0
    speeds = re.findall(r"^\d+\timages/sec: ([\d.]+) \+/- [\d.]+ \(jitter = [\d.]+\)\t", text, re.M)
    assert len(speeds) == 3
    for line in text.splitlines():
        if re.match(r"^\d+\t", line):
            fields = line.split()
            assert len(fields) == 9
            assert float(fields[2]) > 0
            assert float(fields[8]) > 0


def test_the_exit_code_and_one_line_tell_what_is_wrong(capsys: pytest.CaptureFixture) -> None:
    assert cnn.main([*COMMON, "--eval"]) == 2
    assert capsys.readouterr().err == "error: Trained model directory not specified\n"
    assert cnn.main(["--device=cpu", "--data_dir=/nowhere/imagenet"]) == 3
    assert "/nowhere/imagenet" in capsys.readouterr().err


def masked(text: str) -> str:
    """``text`` with every number that differs between runs replaced by #."""
    lines = []
    for line in text.splitlines():
        for pattern, replacement in NUMBERS:
            line = re.sub(pattern, replacement, line)
        lines.append(line)
    return "\n".join(lines) + "\n"
