"""The parts of a run: the built network, its step, its input and its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from trainbench.cnn.distribution.membership import Membership
from trainbench.cnn.flags.params import Params
from trainbench.cnn.input.batches import Batch, Batches
from trainbench.cnn.plan import Plan
from trainbench.cnn.train import precision, schedules
from trainbench.cnn.train.checkpoints import CheckpointNotFoundException, Checkpoints
from trainbench.cnn.train.evaluation import Accuracy, evaluate
from trainbench.cnn.train.network import Network
from trainbench.cnn.train.step import Step
from trainbench.cnn.train.strategies import APPLYING_EACH


class Session:
    """Builds everything that has variables; ``devices`` are TensorFlow's names, one a replica."""

    def __init__(
        self,
        params: Params,
        plan: Plan,
        *,
        dataset: Any,
        model: Any,
        devices: Sequence[str],
        membership: Membership | None = None,
    ) -> None:
        self.params, self.plan, self.dataset, self.model = params, plan, dataset, model
        self.devices, self.membership = devices, membership
        self.network = Network(_built(params, dataset, model), model)
        workers = membership.workers if membership else None
        self._coordinator = membership.coordinator if membership else None
        place = self._coordinator.place if self._coordinator else None
        self.step = Step.of(params, self.network, devices, workers, place=place)
        if self._coordinator is not None:
            self._coordinator.schedule(self.step)
        self.checkpoints = self._checkpoints()
        self._eval_batches: Batches | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process prints the totals and writes the files."""
        return self.membership is None or self.membership.cluster.is_chief

    @property
    def images_per_step(self) -> int:
        """Images of the steps that this process prints: of all workers, if it coordinates them."""
        workers = self.plan.num_workers if self._coordinator else 1
        return self.plan.batch_size * workers

    def own_batches(self) -> list[Batch]:
        """A batch for each device of one worker."""
        each, count = self.plan.batch_size // self.params.num_gpus, self.params.num_gpus
        devices = self.devices[:count]
        return Batches(self.dataset, "train", self.params, batch_size=each, devices=devices).next()

    def batches(self, subset: str, batch_size: int) -> Any:
        """Input in batches of ``batch_size`` images over all devices."""
        each = batch_size // self.params.num_gpus
        if self._coordinator is not None:
            return self._coordinator.batches(self.dataset, subset, batch_size=each)
        return Batches(self.dataset, subset, self.params, batch_size=each, devices=self.devices)

    def rate(self, warmup: int) -> schedules.Rate:
        """The learning rate of each global step."""
        examples = self.dataset.num_examples_per_epoch("train")
        # Where each worker applies gradients of its own, every one of them counts as a step.
        turns = self.plan.num_workers if self.params.variable_update in APPLYING_EACH else 1
        batch = self.plan.batch_size * self.plan.num_workers // turns
        steps = (warmup + self.plan.length.num_batches) * turns
        horizon = schedules.Horizon(examples / batch, steps)
        own = schedules.model_rate(self.params, self.model, batch, examples)
        rate = schedules.rate(self.params, horizon, model_rate=own)
        return rate if turns == 1 else lambda step: rate(step * turns)

    def load(self, *, training: bool) -> int:
        """Take the newest checkpoint's values and return its global step.

        Raises:
            CheckpointNotFoundException: there is none.
        """
        if self.checkpoints is None:
            raise CheckpointNotFoundException("no train_dir")
        step = self.checkpoints.load(training=training)
        self.step.broadcast()
        return step

    def resume(self) -> int:
        """The same, and 0 where there is nothing to resume."""
        try:
            step = self.load(training=bool(self.step.optimizers))
        except CheckpointNotFoundException:
            step = 0
        return step if self.membership is None or self._coordinator else self._shared(step)

    def _shared(self, step: int) -> int:
        """Begin with worker 0's values: it alone has the checkpoints."""
        assert self.membership is not None
        first = self.step.copies[0]
        state = self.step.training_state()
        step = self.membership.share([*first.trainable, *first.state, *state.values()], step)
        self.step.broadcast()
        return step

    def settle(self) -> None:
        """Wait until no worker is at a step: variables no longer change."""
        if self._coordinator is not None:
            self._coordinator.settle()

    def evaluate(self) -> Accuracy:
        """Measure the accuracy on the next validation images, printing it."""
        assert self.plan.eval_length is not None
        if self._eval_batches is None:
            self._eval_batches = self.batches("validation", self.plan.eval_batch_size)
        return evaluate(
            self.step,
            self._eval_batches,
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
