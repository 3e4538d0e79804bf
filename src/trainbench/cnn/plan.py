"""What a run will do, decided before anything is built: mode, processes, sizes and lengths."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from trainbench.cnn import lengths, rules
from trainbench.cnn.cluster import cluster_of
from trainbench.cnn.flags.params import Params
from trainbench.cnn.lengths import Length
from trainbench.distribution.cluster import Cluster


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
        length = lengths.length(params, batch.total, size(subset))
        evaluates = mode in (rules.EVALUATION, rules.TRAINING_AND_EVALUATION)
        eval_length = (
            lengths.eval_length(params, eval_batch.worker, size("validation"))
            if evaluates
            else None
        )
        steps = lengths.eval_steps(params, batch.total, size("train"), length.num_epochs)
        warmup = lengths.warmup_steps(params)
        return cls(mode, cluster, batch, eval_batch, length, eval_length, warmup, frozenset(steps))

    @property
    def is_chief(self) -> bool:
        """Whether this process prints the totals and writes the files."""
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
