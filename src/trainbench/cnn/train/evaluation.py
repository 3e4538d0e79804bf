"""Accuracy over the validation images, each counted once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainbench.cnn import console
from trainbench.cnn.input.batches import Batches
from trainbench.cnn.train.executor import Executor
from trainbench.errors import NotFiniteError
from trainbench.trials import signals


@dataclass(frozen=True)
class Accuracy:
    """Accuracies of one evaluation, and how fast it was.

    Attributes:
        examples: different images that were evaluated.
        images_per_s: of all that were computed, repeats included.
        constant_top_1: what one answer for all images would get: the share of the largest class.
        collapsed: the network gave one answer for all images, of which there were several.
    """

    top_1: float
    top_5: float
    examples: int
    images_per_s: float
    constant_top_1: float = 0.0
    collapsed: bool = False

    def remark(self, target: float | None) -> str | None:
        """Why it reaches no target, whatever its size; ``None`` for a usual accuracy."""
        if self.collapsed:
            return f"the network gives one answer for all {self.examples} images"
        if target and target <= self.top_1 <= self.constant_top_1:
            return f"one answer for all images is right as often ({self.constant_top_1:.4f})"
        return None

    def reaches(self, target: float | None) -> bool:
        """Whether ``target`` is reached, and by more than one answer for all images would get."""
        if not target:
            return False
        return self.top_1 >= target and self.remark(target) is None


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


@dataclass
class Tally:
    """Counts over the images of one evaluation.

    Attributes:
        limit: different images that there are; those that come after so many are repeats.
    """

    limit: int | None
    examples: int = 0
    top_1: int = 0
    top_5: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    answers: set[int] = field(default_factory=set)

    def add(self, scores: dict[str, Any]) -> None:
        """Count the images of one step, as ``Step.score`` gives them.

        Raises:
            NotFiniteError: the network's output for one of them is not finite.
        """
        arrays = {name: np.asarray(value) for name, value in scores.items()}
        bad, count = int(np.sum(~arrays["finite"])), len(arrays["finite"])
        if bad:
            raise NotFiniteError(
                f"the network's output for {bad} of {count} images is not finite (NaN or "
                "infinity), so it has no accuracy; lower the learning rate, or raise the precision"
            )
        new = slice(0, count if self.limit is None else min(count, self.limit - self.examples))
        self.examples += len(arrays["finite"][new])
        self.top_1 += int(np.sum(arrays["top_1"][new]))
        self.top_5 += int(np.sum(arrays["top_5"][new]))
        self.labels.update(arrays["label"][new].tolist())
        self.answers.update(arrays["answer"][new].tolist())

    def accuracy(self, images_per_s: float) -> Accuracy:
        """The accuracies over the images that were counted, of which there is at least one."""
        return Accuracy(
            self.top_1 / self.examples,
            self.top_5 / self.examples,
            self.examples,
            images_per_s,
            constant_top_1=max(self.labels.values()) / self.examples,
            collapsed=self.examples > 1 and len(self.answers) == 1,
        )


def evaluate(
    executor: Executor,
    batches: Batches,
    *,
    num_batches: int,
    images_per_batch: int,
    display_every: int,
    examples: int | None = None,
    told: Callable[[int, int], object] | None = None,
) -> Accuracy:
    """Run ``num_batches`` batches of ``images_per_batch`` images and print progress and result.

    ``examples`` are the different images that ``batches`` has; ``None`` where none is a repeat.
    ``told`` hears after each batch how many of how many are done.

    Raises:
        NotFiniteError: the network's output is not finite.
    """
    started = shown = time.perf_counter()
    tally = Tally(examples)
    for done in range(1, num_batches + 1):
        signals.raise_if_requested()
        tally.add(executor.score(batches.next()))
        if told:
            told(done, num_batches)
        if done % display_every == 0:
            now = time.perf_counter()
            console.print_result(
                console.eval_line(done, images_per_batch * display_every / (now - shown))
            )
            shown = now
    rate = num_batches * images_per_batch / (time.perf_counter() - started)
    accuracy = tally.accuracy(rate)
    console.print_result(console.accuracy_line(accuracy.top_1, accuracy.top_5, accuracy.examples))
    return accuracy
