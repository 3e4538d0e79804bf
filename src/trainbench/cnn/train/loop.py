"""The training loop: warm-up and timed steps. A watcher does everything else."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import tensorflow as tf

from trainbench.cnn import console
from trainbench.cnn.flags.params import Params
from trainbench.cnn.input.batches import Batch, Batches
from trainbench.cnn.startup import Startup
from trainbench.cnn.train.executor import Executor
from trainbench.cnn.train.schedules import Rate
from trainbench.errors import NotFiniteError


class Watcher(Protocol):
    """What happens beside training; its time is on the clock, as in any training."""

    def before_step(self, local_step: int) -> None:
        """Take notice of a step that is about to run, off the clock of the step."""

    def wants_summary(self, local_step: int) -> bool:
        """Whether step ``local_step`` (from 0; below 0 in the warm-up) is summarised."""

    def summarise(
        self,
        global_step: int,
        results: dict[str, Any],
        rate: float,
        gradients: list[Any],
        images: Any,
    ) -> None:
        """Take the results of a step that is summarised."""

    def shown(self, done: int, speed: console.Speed, results: dict[str, Any]) -> None:
        """Take the numbers of a step that was printed."""

    def after_step(self, done: int, global_step: int, *, last: bool) -> bool:
        """React to a step: ``done`` timed ones so far (below 1 in the warm-up); true ends it."""


@dataclass
class StepTimes:
    """Times of the timed steps, and the whole they are part of.

    Attributes:
        times_s: seconds of each timed step.
        elapsed_s: from the first timed step to the end of the loop, pauses included.
        first_step_s: the very first step of the process, which compiles.
    """

    times_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    last_loss: float | None = None
    first_step_s: float | None = None

    def compile_s(self) -> float | None:
        """What the first step took beyond a usual one."""
        if self.first_step_s is None or not self.times_s:
            return None
        return max(self.first_step_s - statistics.median(self.times_s), 0.0)

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
        startup: of which the first step is the end.
        ended_early: why, asked before each step; ``None`` to go on.
    """

    params: Params
    executor: Executor
    batches: Batches
    rate: Rate
    watcher: Watcher
    images_per_step: int
    first: int
    end: int
    warmup: int
    startup: Startup = field(default_factory=Startup)
    ended_early: Callable[[], str | None] = lambda: None

    def __post_init__(self) -> None:
        self.clock = StepTimes()
        self.cut_off: str | None = None
        self._started = 0.0
        self._rate_value: float | None = None
        self._rate_tensor: Any = None

    def run(self) -> StepTimes:
        """Run every step and return the times.

        Raises:
            NotFiniteError: a step gave NaN or infinity.
        """
        try:
            self._steps()
        finally:
            self.clock.elapsed_s = time.perf_counter() - self._started
        return self.clock

    def _steps(self) -> None:
        local, self._started = self.first, time.perf_counter()
        if local < 0 or (local == 0 and not self.warmup):
            console.print_result("Running warm up")
        if local > 0:
            console.print_result(console.header(self.params))
        while local < self.end:
            self.cut_off = self.ended_early()
            if self.cut_off:
                break
            if local == 0:
                console.print_result("Done warm up")
                console.print_result(console.header(self.params))
                self._started = time.perf_counter()
            self._one(local)
            local += 1
            if self.watcher.after_step(local, local + self.warmup, last=local >= self.end):
                break

    def compile(self) -> None:
        """Run one step for the sake of compiling it; the caller puts the variables back."""
        self._first(self.first)

    def _first(self, local: int) -> dict[str, float]:
        started = time.perf_counter()
        with self.startup.phase("compile"):
            results = self._advance(self.batches.next(), local)
        self.clock.first_step_s = time.perf_counter() - started
        self.startup.finish()
        return results

    def _one(self, local: int) -> None:
        self.watcher.before_step(local)
        clock, started = self.clock, time.perf_counter()
        if clock.first_step_s is None:
            results = self._first(local)
        else:
            results = self._advance(self.batches.next(), local)
        seconds = time.perf_counter() - started
        clock.last_loss = results.get("loss")
        self._check_finite(results, local)
        if local < 0:
            return
        clock.times_s.append(seconds)
        if len(clock.times_s) == 1 or (local + 1) % self.params.display_every == 0:
            self._show(local + 1, results)

    def _check_finite(self, results: dict[str, float], local: int) -> None:
        where = f"step {local + 1}" if local >= 0 else f"step {self.warmup + local + 1} of warm-up"
        if results.get("not_finite"):
            raise NotFiniteError(f"{where}: the network's output is not finite (NaN or infinity)")
        # The automatic loss scale leaves out the updates of such steps.
        if math.isfinite(results.get("loss", 0.0)) or self.params.fp16_enable_auto_loss_scale:
            return
        raise NotFiniteError(
            f"{where}: the loss is {results['loss']}; lower the learning rate, or raise the "
            "precision or the loss scale's range (--fp16_enable_auto_loss_scale)"
        )

    def _advance(self, batches: list[Batch], local: int) -> dict[str, float]:
        """Run one step and wait for its numbers."""
        if self.params.forward_only:
            return _numbers(self.executor.infer(batches))
        rate = self._learning_rate(local + self.warmup)
        if not self.watcher.wants_summary(local):
            return _numbers(self.executor.train(batches, rate))
        results, gradients = self.executor.train_with_gradients(batches, rate)
        numbers = _numbers(results)
        self.watcher.summarise(
            local + self.warmup + 1, numbers, float(rate), gradients, _first_images(batches)
        )
        return numbers

    def _learning_rate(self, global_step: int) -> Any:
        value = self.rate(global_step)
        if value != self._rate_value:
            self._rate_value, self._rate_tensor = value, tf.constant(value, tf.float32)
        return self._rate_tensor

    def _show(self, done: int, results: dict[str, float]) -> None:
        speed = console.speed(
            self.images_per_step, self.clock.times_s, ewma=self.params.display_perf_ewma
        )
        accuracies = None
        if "top_1_accuracy" in results:
            accuracies = results["top_1_accuracy"], results["top_5_accuracy"]
        console.print_result(console.step_line(done, speed, results.get("loss", 0.0), accuracies))
        self.watcher.shown(done, speed, results)


def _first_images(batches: list[Any]) -> Any:
    """Images of the first device; ``None`` where each worker makes its own."""
    first = batches[0]
    while isinstance(first, list):
        first = first[0]
    return first[0] if isinstance(first, tuple) else None


def _numbers(results: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in results.items()}
