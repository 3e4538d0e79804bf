"""What a run is made of: the built network, its step, its input and its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from trainbench.cnn import precision, schedules
from trainbench.cnn.checkpoints import CheckpointNotFoundException, Checkpoints
from trainbench.cnn.evaluation import Accuracy, evaluate
from trainbench.cnn.feed import Feed
from trainbench.cnn.network import Network
from trainbench.cnn.params import Params
from trainbench.cnn.plan import Plan
from trainbench.cnn.step import Step


class Session:
    """Builds everything that has variables; ``devices`` are TensorFlow's names, one a replica."""

    def __init__(
        self, params: Params, plan: Plan, *, dataset: Any, model: Any, devices: Sequence[str]
    ) -> None:
        self.params, self.plan, self.dataset, self.model = params, plan, dataset, model
        self.devices = devices
        self.network = Network(_built(params, dataset, model), model)
        self.step = Step.of(params, self.network, devices)
        self.checkpoints = self._checkpoints()
        self._eval_feed: Feed | None = None

    def feed(self, subset: str, batch_size: int) -> Feed:
        """Input in batches of ``batch_size`` images over all devices."""
        each = batch_size // self.params.num_gpus
        return Feed(self.dataset, subset, self.params, batch_size=each, devices=self.devices)

    def rate(self, warmup: int) -> schedules.Rate:
        """The learning rate of each global step."""
        examples = self.dataset.num_examples_per_epoch("train")
        batch = self.plan.batch_size * self.plan.num_workers
        horizon = schedules.Horizon(examples / batch, warmup + self.plan.length.num_batches)

        own = schedules.model_rate(self.params, self.model, batch, examples)
        return schedules.rate(self.params, horizon, model_rate=own)

    def load(self, *, training: bool) -> int:
        """Take the newest checkpoint's values and return its global step.

        Raises:
            CheckpointNotFoundException: there is none.
        """
        if self.checkpoints is None:
            raise CheckpointNotFoundException("no train_dir")
        step = self.checkpoints.load(training=training)
        self.step.spread()
        return step

    def resume(self) -> int:
        """The same, and 0 where there is nothing to resume."""
        try:
            return self.load(training=bool(self.step.optimizers))
        except CheckpointNotFoundException:
            return 0

    def evaluate(self) -> Accuracy:
        """Measure the accuracy on the next validation images, printing it."""
        assert self.plan.eval_length is not None
        if self._eval_feed is None:
            self._eval_feed = self.feed("validation", self.plan.eval_batch_size)
        return evaluate(
            self.step,
            self._eval_feed,
            num_batches=self.plan.eval_length.num_batches,
            batch_size=self.plan.eval_batch_size,
            display_every=self.params.display_every,
        )

    def _checkpoints(self) -> Checkpoints | None:
        if self.params.train_dir is None:
            return None
        return Checkpoints(
            self.params.train_dir,
            self.network.named(self.step.copies[0]),
            self.step.training_state(),
            keep=self.params.max_ckpts_to_keep,
        )


def _built(params: Params, dataset: Any, model: Any) -> keras.Model:
    """The Keras model, with the seed and the number format of ``params``."""
    # Layers are numbered from the start, so that a checkpoint finds its names in any process.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(params.tf_random_seed)
    layout = "channels_first" if params.data_format == "NCHW" else "channels_last"
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision.keras_policy(params))
    try:
        return model.build(dataset.num_classes, data_format=layout)
    finally:
        keras.config.set_dtype_policy(before)
