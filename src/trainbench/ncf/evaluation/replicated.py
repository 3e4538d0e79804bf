"""Evaluation where every replica has whole tables: batches of users go to them in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from trainbench.ncf.evaluation.watch import OnProgress, Ranker, require_finite
from trainbench.ncf.replicas import Replicas, ReplicatedStep
from trainbench.ncf.train import Trainer


class ReplicatedRanks:
    """Ranks every user's held-out item; batches of users go to the replicas in turn."""

    def __init__(self, ranker: Ranker, trainer: Trainer, replicas: Replicas):
        assert isinstance(trainer.step, ReplicatedStep)
        self._ranker, self._step, self._replicas = ranker, trainer.step, replicas
        run = replicas.strategy.run
        self._ready = tf.function(
            lambda *tensors: run(self._one_ready, args=tensors), autograph=False
        )
        self._rank = tf.function(lambda *inputs: run(ranker.rank, args=inputs), autograph=False)

    def ranks(self, chosen: np.ndarray, on_progress: OnProgress) -> np.ndarray:
        """Int64 [users] of the ``chosen`` users, the same on every worker.

        A rank is computed as on one device, so hits and gains are those of one device.
        """
        replicas, batch, total = self._replicas, self._ranker.batch, len(chosen)
        found = np.zeros(total, np.int64)
        each = self._step.local_tensors()
        require_finite(each[0])
        tensors = self._ready(replicas.distribute(each))
        for start in range(0, total, batch * replicas.count):
            for first, ranks in self._some_ranks(tensors, chosen, start):
                # Empty for a replica that has no users left; it ranked the last one again.
                place = found[first : first + batch]
                place[:] = ranks[: len(place)]
            on_progress(min(start + batch * replicas.count, total), total)
        return replicas.wire.total(found)

    def _some_ranks(
        self, tensors: Any, chosen: np.ndarray, start: int
    ) -> list[tuple[int, np.ndarray]]:
        """First place and ranks of each local replica's batch in the round from ``start``."""
        replicas, batch = self._replicas, self._ranker.batch
        numbers = range(replicas.first, replicas.first + len(replicas.devices))
        starts = [start + number * batch for number in numbers]
        # A replica that has no users left ranks the last one again.
        users = [chosen[min(first, len(chosen) - 1) :][:batch] for first in starts]
        inputs = replicas.distribute([self._ranker.inputs(part) for part in users])
        ranked = replicas.local(self._rank(tensors, *inputs))
        return [(first, np.asarray(ranks)) for first, ranks in zip(starts, ranked, strict=True)]

    def _one_ready(self, tensors: dict[str, Any]) -> dict[str, Any]:
        projected: dict[str, Any] = self._ranker.project(tensors)
        return tensors | projected
