"""How far a trial is, for its status line and ``runs show``: step, epoch, images/s, ETA, top-1."""

from __future__ import annotations

import time
from collections.abc import Callable

from trainbench.cnn.hooks import Follower
from trainbench.cnn.plan import Plan
from trainbench.image_classification.config import ImagesConfig
from trainbench.trials.live import INTERVAL_S, Writer


class Live(Follower):
    """Writes the progress of one trial, at most twice a second.

    The rate is that of training alone: since the first step, which compiles, or since the last
    evaluation. The ETA counts the evaluations that are to come.
    """

    def __init__(
        self, writer: Writer, config: ImagesConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._writer, self._clock = writer, clock
        self._batch = self._train = self._eval = self._steps = 1
        self._evaluations: frozenset[int] = frozenset()
        self._mark, self._rate = (0, 0.0), 0.0
        self._told_s = self._began_s = self._eval_s = 0.0
        self._best, self._epochs = 0.0, config.max_epochs
        writer.tell(
            epochs=config.max_epochs, name="top-1", target=config.target_top_1, unit="images"
        )

    def phase(self, name: str) -> None:
        """What the trial does before it trains."""
        self._writer.tell(phase=name)

    def begins(self, plan: Plan, images: Callable[[str], int]) -> None:
        """Training is about to be built and compiled.

        Args:
            images: how many a subset has.
        """
        self._batch, self._steps = plan.train_batch.total, plan.length.num_batches
        self._train, self._eval = images("train"), images("validation")
        self._evaluations = plan.eval_steps
        self.phase("compile")

    def trained(self, steps: int) -> None:
        """Write epoch, rate and ETA, if it is time to."""
        if steps < 1:
            return
        now, images = self._clock(), steps * self._batch
        if not self._mark[0]:
            self._mark = (images, now)
        since, began = self._mark
        if images > since:
            self._rate = (images - since) / max(now - began, 1e-9)
        if now - self._told_s < INTERVAL_S:
            return
        self._told_s = now
        # The last step may go beyond the last epoch.
        before = min((images - 1) // self._train, self._epochs - 1)
        self._writer.tell(
            phase="train_epoch",
            epoch=before + 1,
            done=min(images - before * self._train, self._train),
            total=self._train,
            rate_per_s=self._rate or None,
            eta_s=self._eta_s(steps),
        )

    def evaluates(self, done: int, total: int) -> None:
        """Write how far an evaluation is."""
        now = self._clock()
        self._began_s = self._began_s or now
        if now - self._told_s >= INTERVAL_S:
            self._told_s = now
            self._writer.tell(phase="eval", done=done, total=total)

    def evaluated(self, top_1: float) -> None:
        """Write the accuracy; the rate is measured anew from here."""
        now = self._clock()
        self._eval_s, self._began_s = max(self._eval_s, now - (self._began_s or now)), 0.0
        self._best, self._mark = max(self._best, top_1), (0, now)
        self._writer.tell(quality=top_1, best=self._best, done=None)

    def _eta_s(self, steps: int) -> float | None:
        if not self._rate:
            return None
        # An image takes longer to be trained on than to be evaluated.
        each = self._eval_s or self._eval / self._rate
        left = 1 + sum(step > steps for step in self._evaluations if step < self._steps)
        return (self._steps - steps) * self._batch / self._rate + left * each
