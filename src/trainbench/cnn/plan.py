"""What a run will do, decided before anything is built: mode, processes, sizes and lengths."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainbench.cnn import rules
from trainbench.cnn.cluster import cluster_of
from trainbench.cnn.flags.params import ParamError, Params
from trainbench.distribution.cluster import Cluster

DEFAULT_NUM_BATCHES = 100
DEFAULT_NUM_WARMUP_BATCHES = 10


@dataclass(frozen=True)
class Length:
    """How many steps, and how many epochs they come to."""

    num_batches: int
    num_epochs: float


@dataclass(frozen=True)
class BatchSize:
    """Images of one step.

    Attributes:
        device: of one device.
        num_devices: of each worker.
    """

    device: int
    num_devices: int
    num_workers: int

    @property
    def worker(self) -> int:
        """Of all devices of one worker."""
        return self.device * self.num_devices

    @property
    def total(self) -> int:
        """Of all workers: the global batch."""
        return self.worker * self.num_workers


@dataclass(frozen=True)
class Plan:
    """The numbers of a run.

    Attributes:
        cluster: the processes of the run; ``None`` where this one is alone.
        length: of the training, or of the evaluation in evaluation mode.
        eval_length: of each evaluation; ``None`` where there is none.
        warmup: steps before the clock starts.
        eval_steps: timed steps after which training pauses to be evaluated.
    """

    mode: str
    cluster: Cluster | None
    train_batch: BatchSize
    eval_batch: BatchSize
    length: Length
    eval_length: Length | None
    warmup: int
    eval_steps: frozenset[int]

    @classmethod
    def of(cls, params: Params, dataset: Any, model: Any) -> Plan:
        """The plan for ``params``.

        Raises:
            ParamError: parameters that do not go together.
        """
        rules.check(params)
        cluster = cluster_of(params)
        workers = cluster.num_workers if cluster else 1
        mode = rules.mode_of(params)
        own = params.batch_size or model.default_batch_size
        batch = BatchSize(own, params.num_gpus, workers)
        eval_batch = replace(batch, device=params.eval_batch_size or own)
        size = dataset.num_examples_per_epoch
        subset = "validation" if params.eval else "train"
        own_length = length(params, batch.total, size(subset))
        evaluates = mode in (rules.EVALUATION, rules.TRAINING_AND_EVALUATION)
        evaluation = (
            eval_length(params, eval_batch.worker, size("validation")) if evaluates else None
        )
        steps = set[int]()
        if mode == rules.TRAINING_AND_EVALUATION:
            steps = eval_steps(params, batch.total, size("train"), own_length.num_epochs)
        return cls(
            mode=mode,
            cluster=cluster,
            train_batch=batch,
            eval_batch=eval_batch,
            length=own_length,
            eval_length=evaluation,
            warmup=warmup_steps(params),
            eval_steps=frozenset(steps),
        )

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files."""
        return self.cluster is None or self.cluster.is_chief

    def sizes(self) -> dict[str, float]:
        """How much is trained, under the names of tf_cnn_benchmarks' log."""
        return {
            "batch_size": self.train_batch.worker,
            "batch_size_per_device": self.train_batch.device,
            "num_batches": self.length.num_batches,
            "num_epochs": self.length.num_epochs,
        }

    def evaluates_after(self, params: Params, step: int) -> bool:
        """Whether training pauses to be evaluated after timed step ``step`` (from 1)."""
        every = params.eval_during_training_every_n_steps
        if every:
            return step % int(every) == 0
        return step in self.eval_steps


def length(params: Params, global_batch: int, num_examples: int) -> Length:
    """Steps and epochs of a run over ``num_examples`` images, ``global_batch`` at a time.

    Epochs are rounded up to whole steps.

    Raises:
        ParamError: both ``num_batches`` and ``num_epochs`` are given.
    """
    rules.check_length(params)
    if params.num_epochs:
        num_batches = max(whole_steps(params.num_epochs, global_batch, num_examples), 1)
    else:
        num_batches = params.num_batches or DEFAULT_NUM_BATCHES
    return Length(num_batches, num_batches * global_batch / num_examples)


def eval_length(params: Params, global_batch: int, num_examples: int) -> Length:
    """The same for an evaluation; training's flags hold where its own are not given."""
    if params.num_eval_batches is not None or params.num_eval_epochs is not None:
        params = params.replace(
            num_batches=params.num_eval_batches, num_epochs=params.num_eval_epochs
        )
    return length(params, global_batch, num_examples)


def whole_steps(epochs: float, global_batch: int, num_examples: int) -> int:
    """Steps that hold at least ``epochs`` epochs."""
    return int(epochs * num_examples + global_batch - 1) // global_batch


def warmup_steps(params: Params) -> int:
    """Steps before the clock starts.

    cuDNN tries its algorithms ``autotune_threshold`` times, which a benchmark must not time.
    """
    if params.num_warmup_batches is not None:
        return int(params.num_warmup_batches)
    threshold = params.autotune_threshold or 1
    return max(DEFAULT_NUM_WARMUP_BATCHES, 5 * threshold * threshold)


def rounded_warmup(steps: int, group: int, stages: int) -> int:
    """``steps`` raised until the clock starts at the start of a group of batches.

    Args:
        group: ``batch_group_size``.
        stages: batches that the input pipeline holds on its way to the devices.
    """
    return -(-(steps + stages - 1) // group) * group - stages + 1


def eval_steps(params: Params, global_batch: int, num_examples: int, num_epochs: float) -> set[int]:
    """The steps after which training pauses to be evaluated, by any flag but every_n_steps.

    Raises:
        ParamError: a list that is not of numbers.
    """
    if params.eval_during_training_every_n_epochs:
        # At least a step: a list of shorter times would fill the memory.
        every = max(params.eval_during_training_every_n_epochs, global_batch / num_examples)
        epochs: Collection[float] = np.arange(every, num_epochs, every)
    elif params.eval_during_training_at_specified_epochs:
        epochs = _numbers(params, "eval_during_training_at_specified_epochs", float, "floats")
    else:
        return set(_numbers(params, "eval_during_training_at_specified_steps", int, "integers"))
    return {whole_steps(epoch, global_batch, num_examples) for epoch in epochs}


def _numbers(params: Params, name: str, kind: type, plural: str) -> list[Any]:
    value = getattr(params, name)
    try:
        numbers = [kind(part) for part in value]
        if not np.isfinite(numbers).all():
            raise ValueError
        return numbers
    except (TypeError, ValueError, OverflowError):
        raise ParamError(
            f"Param {name} value of {list(value)} cannot be converted to a list of {plural}."
        ) from None
