"""How far a trial of image classification is, step by step, on a clock of the test's own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainbench.image_classification.config import quick, with_settings
from trainbench.image_classification.live import Live
from trainbench.trials.live import Progress, Writer

CONFIG = with_settings(quick(), ["max_epochs=2", "batch_size=30", "target_top_1=0.9"])
IMAGES = {"train": 100, "validation": 50}


class Told:
    """A trial of 7 steps of 30 images in 2 epochs of 100, evaluated after step 4 and at its end."""

    def __init__(self, path: Path) -> None:
        self.path, self.now_s = path, 100.0
        self.live = Live(Writer(path), CONFIG, lambda: self.now_s)
        plan: Any = SimpleNamespace(
            train_batch=SimpleNamespace(total=30),
            length=SimpleNamespace(num_batches=7),
            eval_steps=frozenset({4}),
        )
        self.live.begins(plan, IMAGES.__getitem__)

    def step(self, number: int, seconds: float) -> None:
        self.now_s += seconds
        self.live.trained(number)

    @property
    def progress(self) -> Progress:
        return Progress(**json.loads(self.path.read_text()))

    @property
    def line(self) -> str:
        return self.progress.line()


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "progress.json")


def test_the_first_step_compiles_and_gives_no_rate(told: Told) -> None:
    assert told.line == "compile  top-1 - (target 0.9)"
    told.step(1, 60.0)
    assert told.line == "epoch 1/2 30 %  top-1 - (target 0.9)"


def test_the_rate_is_of_the_steps_since_and_the_eta_counts_the_evaluations(told: Told) -> None:
    told.step(1, 60.0)
    told.step(2, 1.0)
    # 150 images at 30 a second, and two evaluations of 50 at no less.
    assert told.progress.eta_s == pytest.approx(5 + 2 * 50 / 30)
    assert told.line == "epoch 1/2 60 %  30 images/s  top-1 - (target 0.9)  ETA 8.3 s at most"


def test_an_evaluation_stands_in_the_line_and_is_no_part_of_the_rate(told: Told) -> None:
    for step, seconds in enumerate((60.0, 1.0, 1.0, 1.0), start=1):
        told.step(step, seconds)
    for done in (1, 2):
        told.now_s += 20.0
        told.live.evaluates(done, 4)
    assert told.line.startswith("epoch 2/2 50 % eval  30 images/s")
    told.live.evaluated(0.5)
    told.step(5, 1.0)
    assert told.line.startswith("epoch 2/2 50 %  30 images/s  top-1 0.5000 (target 0.9)")
    told.step(6, 0.5)
    # As long as the last one took, from its first batch on.
    assert told.progress.eta_s == pytest.approx(30 / 60 + 20)
    assert told.progress.rate_per_s == pytest.approx(60)


def test_the_last_step_is_of_the_last_epoch_and_the_best_accuracy_stays(told: Told) -> None:
    told.step(6, 1.0)
    told.live.evaluated(0.8)
    told.live.evaluated(0.7)
    told.step(7, 1.0)
    assert told.line.startswith("epoch 2/2 100 %  top-1 0.7000")
    assert told.progress.best == 0.8


def test_it_is_written_twice_a_second_at_most(told: Told) -> None:
    told.step(1, 60.0)
    told.step(2, 0.1)
    assert told.progress.done == 30
    told.step(3, 0.5)
    assert told.progress.done == 90
