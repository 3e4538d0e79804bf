"""Facts come from the log: from its tags, or else from what its program printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from v05_log import lines, moved, run, without

from trainbench.compliance.parse import read_lines
from trainbench.compliance.reading import read
from trainbench.compliance.tags import ncf as tags
from trainbench.reporting.arrivals.facts import AFTER, BEFORE, Fact, Printed, facts


def told(*texts: str, events: str = "") -> dict[str, Fact]:
    printed = Printed()
    content = "\n".join([*texts, events]).encode()
    events_read = read(list(read_lines(content, printed))).told
    return dict(facts(events_read, printed.found))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (
            "parallelism=28, random seed=1542308784, learning rate=0.003821, batch size=98304, "
            "beta1=0.783529, beta2=0.909003, max epoch=20, eps=1.45439E-07",
            {
                "batch_size": 98_304,
                "learning_rate": 0.003821,
                "seed": "1542308784",
                "beta1": 0.783529,
                "epsilon": 1.45439e-7,
            },
        ),
        (
            "+ python -m torch.distributed.launch --nproc_per_node=8 ncf.py /data/ml-20m "
            "-l 0.0045 -b 1048576 -b1 0.25 -b2 0.5 --eps 1e-8 --valid-batch-size 4096 "
            "--seed 8059502 --threshold 0.635 --fp16",
            {
                "batch_size": 1_048_576,
                "learning_rate": 0.0045,
                "beta1": 0.25,
                "beta2": 0.5,
                "precision": "fp16",
                "seed": "8059502",
            },
        ),
        (
            "+ python train_imagenet.py --batch-size 4096 --lr 1.8 --dtype float16",
            {"batch_size": 4096, "learning_rate": 1.8, "precision": "fp16"},
        ),
        (
            "INFO:root:start with arguments Namespace(batch_size=4096, dtype='float16', seed=7)",
            {"batch_size": 4096, "precision": "fp16", "seed": "7"},
        ),
        ("+ python train.py --math fp16 --lr 1.25e-3", {"precision": "fp16"}),
        ("training with --use_fp16=true", {"precision": "fp16"}),
        ("precision: bfloat16", {"precision": "bf16"}),
        ("flags: --amp --seed=3", {"precision": "mixed", "seed": "3"}),
        ("python other.py -b 128 -l 3", {}),
        ("TEST_BATCH_SIZE=128 is no batch size of training", {}),
        ("| epoch 001 | lr 0.00108788 | --valid-batch-size 4096", {}),
    ],
)
def test_settings_that_only_the_program_prints(line: str, wanted: dict[str, Any]) -> None:
    found = told("STARTING", line)
    for name, value in wanted.items():
        assert found[name] == Fact(value, "", "line 2"), name
    if not wanted:
        assert "batch_size" not in found


def test_a_tag_counts_before_the_text() -> None:
    found = told("batch size=7, learning rate=9, seed=1", events="".join(lines(run())))
    assert found["batch_size"] == Fact(65_536, "", tags.INPUT_BATCH_SIZE)
    assert found["seed"] == Fact("1234", "", tags.SEED)
    assert found["precision"].value == "fp32"


def test_the_line_of_an_optimizer_has_its_settings() -> None:
    line = (
        ":::MLPv0.5.0 ncf 1.0 (a.scala:1) create_optim_method: "
        '{"name": "Adam", "lr": 0.003821, "beta1": 0.78, "eps": 1.4E-7}'
    )
    found = told(line)
    assert found["optimizer"] == Fact("Adam", "", "create_optim_method")
    assert found["beta1"].value == 0.78
    assert found["epsilon"].value == 1.4e-7


def test_of_a_schedule_both_ends_are_told() -> None:
    rates = "".join(
        f':::MLPv0.5.0 resnet {at}.0 (a.py:1) opt_learning_rate : {{"deferred": true, "value": '
        f"{rate}}}\n"
        for at, rate in enumerate((0, 0.4, 1.8, 0.1))
    )
    assert told(events=rates)["learning_rate"] == Fact(1.8, "", "opt_learning_rate", 0)


def test_epoch_times_are_those_of_the_lines() -> None:
    found = told(events="".join(lines(run(epoch_s=20.0))))
    assert found["train_epoch_s"].value == pytest.approx(20.0)
    assert found["train_epoch_s"].unit == "s"
    assert found["evaluation_s"].value == pytest.approx(2.005)


def test_epoch_lines_that_are_written_at_the_end_are_not_believed() -> None:
    """As in Google's ResNet: the time between evaluations is divided by their epochs."""
    text, at = ":::MLPv0.5.0 resnet 0.0 (a.py:1) run_start\n", 0.0
    for epoch in (1, 5, 9):
        at += 400.0
        text += f":::MLPv0.5.0 resnet {at} (a.py:1) eval_start\n"
        at += 4.0
        text += f":::MLPv0.5.0 resnet {at} (a.py:1) eval_stop\n"
        text += (
            f':::MLPv0.5.0 resnet {at} (a.py:1) eval_accuracy: {{"epoch": {epoch}, "value": 0.5}}\n'
        )
    for epoch in range(9):
        text += f":::MLPv0.5.0 resnet {at + epoch / 1e3} (a.py:1) train_epoch: {epoch}\n"
    found = told(events=text + f":::MLPv0.5.0 resnet {at + 1} (a.py:1) run_stop\n")
    assert found["train_epoch_s"].value == pytest.approx(100.0)
    assert found["evaluation_s"].value == pytest.approx(4.0)


def test_when_caches_were_dropped() -> None:
    events = run()
    assert told(events="".join(lines(events)))["cache_drop"].value == BEFORE
    late = moved(tags.RUN_CLEAR_CACHES, after=tags.RUN_START)(events)
    assert told(events="".join(lines(late)))["cache_drop"].value == AFTER
    none = without(tags.RUN_CLEAR_CACHES)(events)
    assert "cache_drop" not in told(events="".join(lines(none)))


def test_a_long_printed_line_is_looked_at_to_a_limit() -> None:
    assert "batch_size" not in told("x" * 10_000 + " batch size=5")
    assert told("batch size=5 " + "y" * 300_000)["batch_size"].value == 5


def test_the_facts_of_the_public_logs(shared_dir: Path) -> None:
    logs = shared_dir / "fixtures" / "v05_logs"
    intel = told((logs / "intel_result_1.txt").read_text())
    assert intel["batch_size"] == Fact(98_304, "", "line 2")
    assert intel["cache_drop"].value == AFTER
    nvidia = told((logs / "nvidia_dgx1_result_0.txt").read_text())
    assert nvidia["precision"] == Fact("fp16", "", "line 17")
