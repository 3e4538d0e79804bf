"""The training loop: warm-up, timed steps, and what happens between two steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from trainbench.cnn import output
from trainbench.cnn.feed import Feed
from trainbench.cnn.params import Params
from trainbench.cnn.schedules import Rate
from trainbench.cnn.step import Step

AfterStep = Callable[..., bool]
"""(timed steps done, global step, *, last): what happens between two steps; true stops the run."""


@dataclass
class Clock:
    """Times of the timed steps, and the whole they are part of.

    Attributes:
        times_s: seconds of each timed step.
        elapsed_s: from the first timed step to the end of the loop, pauses included.
    """

    times_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    last_loss: float | None = None

    def images_per_s(self, images_per_step: int) -> float:
        """Speed over everything after the warm-up; 0 where no step was timed."""
        return len(self.times_s) * images_per_step / self.elapsed_s if self.times_s else 0.0


@dataclass
class Loop:
    """One session of training or of forward passes.

    Attributes:
        first: local step to begin with, below 0 in the warm-up; a resumed run goes on where it
            stopped.
        end: local step to stop before.
        warmup: steps of a whole run before local step 0.
    """

    params: Params
    step: Step
    feed: Feed
    rate: Rate
    after_step: AfterStep
    batch_size: int
    first: int
    end: int
    warmup: int
    summarise: Callable[[int, dict[str, Any], list[Any], list[Any]], None] | None = None

    def __post_init__(self) -> None:
        self._rate_value: float | None = None
        self._rate_tensor: Any = None

    def run(self) -> Clock:
        """Run every step and return the times."""
        clock = Clock()
        local, started = self.first, time.perf_counter()
        if local < 0 or not self.warmup:
            output.say("Running warm up")
        if local > 0:
            self._begin()
        while local < self.end:
            if local == 0:
                output.say("Done warm up")
                self._begin()
                started = time.perf_counter()
            self._one(local, clock)
            local += 1
            if self.after_step(local, local + self.warmup, last=local >= self.end):
                break
        clock.elapsed_s = time.perf_counter() - started
        return clock

    def compile(self) -> None:
        """Run one step for the sake of compiling it; the caller puts the variables back."""
        self._advance(self.feed.next(), self.first)

    def _begin(self) -> None:
        output.say(output.header(self.params))

    def _one(self, local: int, clock: Clock) -> None:
        started = time.perf_counter()
        batches = self.feed.next()
        results = self._advance(batches, local)
        loss = 0.0 if self.params.forward_only else float(results["loss"])
        seconds = time.perf_counter() - started
        clock.last_loss = None if self.params.forward_only else loss
        if local < 0:
            return
        clock.times_s.append(seconds)
        if len(clock.times_s) == 1 or (local + 1) % self.params.display_every == 0:
            self._show(local + 1, clock, loss, results)

    def _advance(self, batches: list[Any], local: int) -> dict[str, Any]:
        if self.params.forward_only:
            results = self.step.infer(batches)
            tf.nest.map_structure(lambda tensor: tensor.numpy(), results)
            return dict(results)
        rate = self._learning_rate(local + self.warmup)
        every = self.params.save_summaries_steps
        if self.summarise is not None and (local + 1) % every == 0:
            results, gradients = self.step.train_with_gradients(batches, rate)
            self.summarise(local + self.warmup + 1, results, gradients, batches)
            return dict(results)
        return dict(self.step.train(batches, rate))

    def _learning_rate(self, global_step: int) -> Any:
        value = self.rate(global_step)
        if value != self._rate_value:
            self._rate_value, self._rate_tensor = value, tf.constant(value, tf.float32)
        return self._rate_tensor

    def _show(self, done: int, clock: Clock, loss: float, results: dict[str, Any]) -> None:
        ewma = self.params.display_perf_ewma
        speed = output.speed(self.batch_size, clock.times_s, ewma=ewma)
        accuracies = None
        if "top_1_accuracy" in results:
            accuracies = float(results["top_1_accuracy"]), float(results["top_5_accuracy"])
        output.say(output.step_line(done, speed, loss, accuracies))
