"""What happens between two training steps: checkpoints, evaluations, the end at a target."""

from __future__ import annotations

import time
from dataclasses import dataclass

from trainbench.cnn import output, rules
from trainbench.cnn.evaluation import Accuracy
from trainbench.cnn.session import Session


@dataclass
class Pauses:
    """Reacts to each step.

    Attributes:
        start: global step that the session began at.
        global_step: the newest.
        accuracy: of the newest evaluation.
        stopped: the target was reached, so no final evaluation follows.
    """

    session: Session
    start: int
    global_step: int = 0
    accuracy: Accuracy | None = None
    stopped: bool = False

    def __post_init__(self) -> None:
        self.global_step = self.start
        self._evaluates = self.session.plan.mode == rules.TRAINING_AND_EVALUATION

    def after_step(self, done: int, global_step: int, *, last: bool) -> bool:
        """Save and evaluate where it is time to; true ends the training.

        ``done`` counts timed steps from 1 and is 0 or less in the warm-up.
        """
        self.global_step = global_step
        self._save_if_due(done)
        if not self._evaluates or done <= 0 or last:
            return False
        if not self.session.plan.evaluates_after(self.session.params, done):
            return False
        output.say(f"Running evaluation at global_step {global_step}")
        self.accuracy = self.session.evaluate()
        self.stopped = self._target_reached(self.accuracy)
        return self.stopped

    def final_evaluation(self) -> None:
        """Evaluate what the training ended with, unless it ended because of an evaluation."""
        if not self.stopped:
            output.say(f"Running final evaluation at global_step {self.global_step}")
            self.accuracy = self.session.evaluate()

    def _target_reached(self, accuracy: Accuracy) -> bool:
        target = self.session.params.stop_at_top_1_accuracy
        if target and accuracy.top_1 >= target:
            output.say(f"Stopping, as eval accuracy at least {target} was reached")
            return True
        output.say("Resuming training")
        reached = getattr(self.session.model, "reached_target", None)
        if reached is not None and reached():
            output.say("Stopping, as the model indicates its custom goal was reached")
            return True
        return False

    def _save_if_due(self, done: int) -> None:
        checkpoints, params = self.session.checkpoints, self.session.params
        if checkpoints is None:
            return
        every, seconds = params.save_model_steps, params.save_model_secs
        by_steps = every and done > 0 and done % every == 0
        if by_steps or (seconds and time.monotonic() - checkpoints.saved_s >= seconds):
            checkpoints.save(self.global_step)
