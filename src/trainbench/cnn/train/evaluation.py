"""Accuracy over the validation images."""

from __future__ import annotations

import time
from dataclasses import dataclass

from trainbench.cnn import console
from trainbench.cnn.input.batches import Batches
from trainbench.cnn.train.executor import Executor
from trainbench.trials import signals


@dataclass(frozen=True)
class Accuracy:
    """Mean accuracies of the batches of one evaluation, and how fast it was."""

    top_1: float
    top_5: float
    examples: int
    images_per_s: float


@dataclass(frozen=True)
class Evaluated:
    """One point of the accuracy curve: what was measured, when.

    Attributes:
        global_step: training steps so far, the warm-up included.
        unix_s: the time of day at which the evaluation ended.
    """

    global_step: int
    unix_s: float
    accuracy: Accuracy


def evaluate(
    executor: Executor,
    batches: Batches,
    *,
    num_batches: int,
    images_per_batch: int,
    display_every: int,
) -> Accuracy:
    """Run ``num_batches`` batches of ``images_per_batch`` images and print progress and result."""
    started = shown = time.perf_counter()
    top_1 = top_5 = 0.0
    for done in range(1, num_batches + 1):
        signals.raise_if_requested()
        results = executor.infer(batches.next())
        top_1 += float(results["top_1_accuracy"])
        top_5 += float(results["top_5_accuracy"])
        if done % display_every == 0:
            now = time.perf_counter()
            console.print_result(
                console.eval_line(done, images_per_batch * display_every / (now - shown))
            )
            shown = now
    examples = num_batches * images_per_batch
    rate = examples / (time.perf_counter() - started)
    accuracy = Accuracy(top_1 / num_batches, top_5 / num_batches, examples, rate)
    console.print_result(console.accuracy_line(accuracy.top_1, accuracy.top_5, examples))
    return accuracy
