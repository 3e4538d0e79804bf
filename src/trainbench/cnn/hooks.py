"""Work between two training steps: checkpoints, evaluations, summaries, the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainbench.cnn import console, rules
from trainbench.cnn.measure.benchmark_log import BenchmarkLog
from trainbench.cnn.measure.profiler import Observer
from trainbench.cnn.measure.tensorboard import Summaries
from trainbench.cnn.mlperf import lines as mlperf
from trainbench.cnn.session import Session
from trainbench.cnn.train.evaluation import Accuracy, Evaluated
from trainbench.compliance.emit import enabled
from trainbench.errors import TrainbenchError
from trainbench.progress import log_line


class Follower:
    """Is told how far a training is, by whoever runs it; this one takes no notice."""

    def trained(self, steps: int) -> None:
        """``steps`` timed ones are done."""

    def evaluates(self, done: int, total: int) -> None:
        """``done`` of ``total`` batches of an evaluation are done."""

    def evaluated(self, top_1: float) -> None:
        """An evaluation ended with this share of right answers."""


@dataclass
class Hooks:
    """Reacts to each step.

    Attributes:
        start: global step that the session began at.
        global_step: the newest.
        evaluations: all of this session, the newest last.
        log: of the benchmark's metrics, where one was asked for.
        observers: traces and profiles of single steps.
        lines: of the compliance log.
        follower: is told how far the training is.
        stopped: the target was reached, so no final evaluation follows.
    """

    session: Session
    start: int
    log: BenchmarkLog | None
    observers: Sequence[Observer]
    lines: mlperf.TrainingLines
    follower: Follower = field(default_factory=Follower)
    global_step: int = 0
    evaluations: list[Evaluated] = field(default_factory=list)
    stopped: bool = False

    def __post_init__(self) -> None:
        self.global_step = self.start
        self.observers = (*self.observers, self.lines)
        self._evaluates = self.session.plan.mode == rules.TRAINING_AND_EVALUATION
        self._summaries = Summaries.of(self.session.params, self.session.step)

    @property
    def accuracy(self) -> Accuracy | None:
        """Of the newest evaluation."""
        return self.evaluations[-1].accuracy if self.evaluations else None

    def before_step(self, local_step: int) -> None:
        """Start the traces for which it is time."""
        for observer in self.observers:
            observer.before_step(local_step)

    def wants_summary(self, local_step: int) -> bool:
        """Whether a step is summarised; the warm-up counts."""
        every = self.session.params.save_summaries_steps
        return self._summaries is not None and (local_step + 1) % every == 0

    def summarise(
        self,
        global_step: int,
        results: dict[str, Any],
        rate: float,
        gradients: list[Any],
        images: Any,
    ) -> None:
        """Write the summaries of one step."""
        assert self._summaries is not None
        self._summaries.add(global_step, results, rate, gradients, images)

    def shown(self, done: int, speed: console.Speed, results: dict[str, Any]) -> None:
        """Log the numbers of a printed step."""
        if self.log is None:
            return
        self.log.metric("current_examples_per_sec", speed.mean, step=done)
        for name in ("top_1_accuracy", "top_5_accuracy"):
            if name in results:
                self.log.metric(name, results[name], step=done)

    def after_step(self, done: int, global_step: int, *, last: bool) -> bool:
        """Save and evaluate where it is time to; true ends the training.

        ``done`` counts timed steps from 1 and is 0 or less in the warm-up.
        """
        self.global_step = global_step
        for observer in self.observers:
            observer.after_step()
        self.follower.trained(done)
        self._save_if_due(done)
        if not self._evaluates or done <= 0 or last:
            return False
        if not self.session.plan.evaluates_after(self.session.params, done):
            return False
        console.print_result(f"Running evaluation at global_step {global_step}")
        self.stopped = self._target_reached(self._evaluate(final=False))
        return self.stopped

    def final_evaluation(self) -> None:
        """Evaluate what the training ended with, unless it ended because of an evaluation."""
        if not self.stopped:
            console.print_result(f"Running final evaluation at global_step {self.global_step}")
            self._evaluate(final=True)

    def _evaluate(self, *, final: bool) -> Accuracy:
        self.lines.evaluation_starts(final=final)
        accuracy = self.session.evaluate(self.follower.evaluates)
        self._judge(accuracy)
        self.lines.evaluated(accuracy)
        self.follower.evaluated(accuracy.top_1)
        self.evaluations.append(Evaluated(self.global_step, time.time(), accuracy))
        if self._summaries is not None:
            self._summaries.evaluated(self.global_step, accuracy)
        if self.log is not None:
            log_accuracy(self.log, self.global_step, accuracy)
        return accuracy

    def _judge(self, accuracy: Accuracy) -> None:
        """Say what makes the accuracy worthless; a log could not, and must not claim the target."""
        target = self.session.params.stop_at_top_1_accuracy
        remark = accuracy.remark(target)
        if remark is None:
            return
        if target and accuracy.top_1 >= target and enabled():
            raise TrainbenchError(f"{remark}; this is not the target {target}")
        before = self.accuracy
        if before is None or before.remark(target) != remark:
            log_line(f"warning: {remark}, which reaches no target")

    def _target_reached(self, accuracy: Accuracy) -> bool:
        target = self.session.params.stop_at_top_1_accuracy
        if accuracy.reaches(target):
            console.print_result(f"Stopping, as eval accuracy at least {target} was reached")
            return True
        console.print_result("Resuming training")
        reached = getattr(self.session.model, "reached_target", None)
        if reached is not None and reached():
            console.print_result("Stopping, as the model indicates its custom goal was reached")
            return True
        return False

    def save(self) -> None:
        """Write a checkpoint, if this run trains and has a folder for it.

        Raises:
            NotFiniteError: the weights are not finite.
        """
        checkpoints = self.session.checkpoints
        if checkpoints is not None and not self.session.params.forward_only:
            self.session.check_weights()
            checkpoints.save(self.global_step)

    def saved_text(self) -> str:
        """Where to go on from, in words; empty where no checkpoint is kept."""
        checkpoints = self.session.checkpoints
        if checkpoints is None or self.session.params.forward_only:
            return ""
        folder = checkpoints.folder
        return f"; saved step {self.global_step} in {folder}, from where the same command goes on"

    def _save_if_due(self, done: int) -> None:
        checkpoints, params = self.session.checkpoints, self.session.params
        if checkpoints is None:
            return
        every, seconds = params.save_model_steps, params.save_model_secs
        by_steps = every and done > 0 and done % every == 0
        if by_steps or (seconds and time.monotonic() - checkpoints.saved_s >= seconds):
            self.save()


def log_accuracy(log: BenchmarkLog, global_step: int, accuracy: Accuracy) -> None:
    """Log the three metrics of an evaluation."""
    log.metric("eval_top_1_accuracy", accuracy.top_1, step=global_step)
    log.metric("eval_top_5_accuracy", accuracy.top_5, step=global_step)
    log.metric("eval_average_examples_per_sec", accuracy.images_per_s, step=global_step)
