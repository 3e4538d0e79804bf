"""The output of tf_cnn_benchmarks, character for character, and the formulas behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainbench.cnn.flags.params import Params

LOSS_AND_ACCURACY_DIGITS_TO_SHOW = 3
_RULE = "-" * 64


def print_result(line: str) -> None:
    """Print one line of results to stdout, at once: a pipe may be watching."""
    print(line, flush=True)


@dataclass(frozen=True)
class Speed:
    """Images per second over the steps so far.

    Attributes:
        mean: of the step times, so that long steps count for what they took.
        uncertainty: standard error of the speeds.
        jitter: median deviation of the speeds, scaled to a normal distribution's deviation.
    """

    mean: float
    uncertainty: float
    jitter: float

    def __str__(self) -> str:
        return (
            f"images/sec: {self.mean:.1f} +/- {self.uncertainty:.1f} (jitter = {self.jitter:.1f})"
        )


def speed(images_per_step: int, times_s: Sequence[float], *, ewma: float | None = None) -> Speed:
    """The speed of steps of ``images_per_step`` images that took ``times_s`` seconds.

    ``ewma`` is the weight of the newest step in the mean.
    """
    times = np.asarray(times_s, np.float64)
    speeds = images_per_step / times
    weights = np.power(1 - ewma, np.arange(len(times) - 1, -1, -1.0)) if ewma else None
    return Speed(
        float(images_per_step / np.average(times, weights=weights)),
        float(np.std(speeds) / np.sqrt(len(speeds))),
        float(1.4826 * np.median(np.abs(speeds - np.median(speeds)))),
    )


def header(params: Params) -> str:
    """The line above the step lines."""
    line = f"Step\tImg/sec\t{params.loss_type_to_report}"
    if params.print_training_accuracy or params.forward_only:
        line += "\ttop_1_accuracy\ttop_5_accuracy"
    return line


def step_line(
    step: int, value: Speed, loss: float, accuracies: tuple[float, float] | None = None
) -> str:
    """``10<tab>images/sec: ...<tab>2.526``, and two accuracies when they were asked for."""
    digits = LOSS_AND_ACCURACY_DIGITS_TO_SHOW
    numbers = [loss, *(accuracies or ())]
    return f"{step}\t{value}\t" + "\t".join(f"{number:.{digits}f}" for number in numbers)


def eval_line(step: int, examples_per_s: float) -> str:
    """Progress of an evaluation."""
    return f"{step}\t{examples_per_s:.1f} examples/sec"


def accuracy_line(top_1: float, top_5: float, examples: int) -> str:
    """Result of an evaluation."""
    return f"Accuracy @ 1 = {top_1:.4f} Accuracy @ 5 = {top_5:.4f} [{examples} examples]"


def totals(images_per_s: float) -> str:
    """The three lines that end a run."""
    return f"{_RULE}\ntotal images/sec: {images_per_s:.2f}\n{_RULE}"
