"""What a run will do, decided before anything is built: mode, sizes and lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainbench.cnn import lengths, rules
from trainbench.cnn.cluster import cluster_of
from trainbench.cnn.flags.params import Params
from trainbench.cnn.lengths import Length


@dataclass(frozen=True)
class Plan:
    """The numbers of a run.

    Attributes:
        batch_size: images per step over all devices of this process.
        eval_batch_size: the same in evaluation.
        length: of the training, or of the evaluation in evaluation mode.
        eval_length: of each evaluation; ``None`` where there is none.
        warmup: steps before the clock starts.
        eval_steps: timed steps after which training pauses to be evaluated.
    """

    mode: str
    num_workers: int
    batch_size: int
    eval_batch_size: int
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
        batch = (params.batch_size or model.default_batch_size) * params.num_gpus
        eval_batch = params.eval_batch_size * params.num_gpus or batch
        size = dataset.num_examples_per_epoch
        subset = "validation" if params.eval else "train"
        length = lengths.length(params, batch * workers, size(subset))
        evaluates = mode in (rules.EVALUATION, rules.TRAINING_AND_EVALUATION)
        eval_length = (
            lengths.eval_length(params, eval_batch, size("validation")) if evaluates else None
        )
        steps = lengths.eval_steps(params, batch * workers, size("train"), length.num_epochs)
        warmup = lengths.warmup_steps(params)
        return cls(mode, workers, batch, eval_batch, length, eval_length, warmup, frozenset(steps))

    def evaluates_after(self, params: Params, step: int) -> bool:
        """Whether training pauses to be evaluated after timed step ``step`` (from 1)."""
        every = params.eval_during_training_every_n_steps
        if every:
            return step % int(every) == 0
        return step in self.eval_steps
