"""The parts of a run: the built network, its step, its input and its checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainbench.cnn.distribution.membership import Membership
from trainbench.cnn.flags.params import Params
from trainbench.cnn.input.batches import Batch, Batches, Source, is_synthetic
from trainbench.cnn.models import forms
from trainbench.cnn.plan import Plan
from trainbench.cnn.startup import Startup
from trainbench.cnn.train import precision, schedules
from trainbench.cnn.train.checkpoints import CheckpointNotFoundException, Checkpoints
from trainbench.cnn.train.evaluation import Accuracy, evaluate
from trainbench.cnn.train.executor import Executor, compiled
from trainbench.cnn.train.network import Network
from trainbench.cnn.train.step import Step
from trainbench.cnn.train.strategies import APPLYING_EACH
from trainbench.errors import NotFiniteError
from trainbench.trials import signals


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
        startup: Startup | None = None,
    ) -> None:
        self.params, self.plan, self.dataset, self.model = params, plan, dataset, model
        self.devices, self.membership = devices, membership
        self.startup = startup or Startup()
        self._started_s = time.monotonic()
        with forms.chosen(forms.of(devices)):
            self.network = Network(_built(params, dataset, model), model)
        workers = membership.workers if membership else None
        self._coordinator = membership.coordinator if membership else None
        place = self._coordinator.place if self._coordinator else None
        self.step = Step.of(params, self.network, devices, workers, place=place)
        self.executor = self._executor()
        self.checkpoints = self._checkpoints()
        self._eval_batches: Batches | None = None

    @property
    def images_per_step(self) -> int:
        """Images of the steps that this process prints: of all workers, if it coordinates them."""
        batch = self.plan.train_batch
        return batch.total if self._coordinator else batch.worker

    def own_batches(self) -> list[Batch]:
        """A batch for each device of one worker."""
        devices = self.devices[: self.params.num_gpus]
        return Batches(self._source("train"), self.params, devices).next()

    def batches(self, subset: str) -> Any:
        """Input for all devices: ``train`` or ``validation``."""
        if self._coordinator is not None:
            return self._coordinator.batches(self._source(subset))
        return Batches(self._source(subset), self.params, self.devices)

    def rate(self, warmup: int) -> schedules.Rate:
        """The learning rate of each global step."""
        examples = self.dataset.num_examples_per_epoch("train")
        # Where each worker applies gradients of its own, every one of them counts as a step.
        batch, turns = self.plan.train_batch.total, 1
        if self.params.variable_update in APPLYING_EACH:
            batch, turns = self.plan.train_batch.worker, self.plan.train_batch.num_workers
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
        workers = self.step.strategy.workers
        if workers is not None:
            # Of equal workers the first alone has the checkpoints.
            first, state = self.step.copies[0], self.step.training_state()
            step = workers.from_first([*first.trainable, *first.state, *state.values()], step)
            self.step.broadcast()
        return step

    @property
    def ends_alone(self) -> bool:
        """Whether no other process would wait for this one, if it ended between two steps."""
        return self.step.strategy.workers is None

    def ended_early(self) -> str | None:
        """Why the run is to end before its last step; ``None`` where it is not.

        Raises:
            KeyboardInterrupt: it is to stop, and others would wait for it.
        """
        if not self.ends_alone:
            signals.raise_if_requested()
            return None
        longest = self.params.max_seconds
        if longest is not None and time.monotonic() - self._started_s >= longest:
            return f"--max_seconds={longest:g}"
        return signals.requested()

    def settle(self) -> None:
        """Wait until no worker is at a step: variables no longer change."""
        if self._coordinator is not None:
            self._coordinator.settle()

    def evaluate(self, told: Callable[[int, int], object] | None = None) -> Accuracy:
        """Measure the accuracy on validation images, printing it.

        An evaluation of all images begins with the first one, so that each is seen once. A shorter
        one takes those that follow the last evaluation. ``told`` hears of each batch.

        Raises:
            NotFiniteError: the network's output is not finite.
        """
        assert self.plan.eval_length is not None
        num_batches, size = self.plan.eval_length.num_batches, self.plan.eval_batch.worker
        examples = self._validation_examples()
        unordered = self.params.datasets_sloppy_parallel_interleave
        begins = examples is not None and (num_batches * size >= examples or unordered)
        if self._eval_batches is None or begins:
            self._eval_batches = self.batches("validation")
        return evaluate(
            self.executor,
            self._eval_batches,
            num_batches=num_batches,
            images_per_batch=size,
            display_every=self.params.display_every,
            examples=examples,
            told=told,
        )

    def check_weights(self) -> None:
        """Look whether the weights mean anything.

        Raises:
            NotFiniteError: one of them is NaN or infinite.
        """
        for name, variable in self.network.named(self.step.copies[0]).items():
            if variable.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(variable)):
                raise NotFiniteError(
                    f"the weights {name} are not finite (NaN or infinity); nothing was saved: "
                    "lower the learning rate, or raise the precision"
                )

    def _validation_examples(self) -> int | None:
        """Different validation images; ``None`` for those that are made anew."""
        if is_synthetic(self.dataset):
            return None
        if self.params.datasets_repeat_cached_sample and self.dataset.name == "imagenet":
            return 1
        return int(self.dataset.num_examples_per_epoch("validation"))

    def _executor(self) -> Executor:
        if self._coordinator is not None:
            return self._coordinator.executor(self.step)
        workers = self.step.strategy.workers
        if workers is not None:
            return Executor.collective(self.step, workers)
        return Executor.of(self.step, lambda function: compiled(self.startup.traced(function)))

    def _source(self, subset: str) -> Source:
        batch = self.plan.train_batch if subset == "train" else self.plan.eval_batch
        return Source(self.dataset, subset, batch.device)

    def _checkpoints(self) -> Checkpoints | None:
        if self.params.train_dir is None:
            return None
        return Checkpoints(
            self.params.train_dir,
            self.network.named(self.step.copies[0]),
            self.step.training_state(),
            optimizer=self.params.optimizer,
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
