"""Evaluation by several replicas: each ranks the held-out items of its own users."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainbench.ncf.replicas import Replicas, ReplicatedStep
from trainbench.ncf.train import Trainer
from trainbench.trials import signals

PROGRESS_INTERVAL_S = 3.0


class Ranker(Protocol):
    """What ``Evaluator`` offers: the work on one batch of users on one device."""

    held_out: np.ndarray
    batch: int

    def project(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """What is computed once per evaluation from the parameters, by name."""

    def rank(self, tensors: dict[str, Any], users: Any, items: Any, code: Any) -> Any:
        """The rank of each user's held-out item, int [batch]."""

    def inputs(self, start: int) -> tuple[Any, Any, Any]:
        """The arguments of ``rank`` for ``batch`` users from ``start``."""


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

    def ranks(self, on_progress: Callable[[int, int], None] | None) -> np.ndarray:
        """Int64 [users], the same on every worker.

        A rank is computed as on one device, so hits and gains are those of one device.
        """
        replicas, batch, total = self._replicas, self._ranker.batch, len(self._ranker.held_out)
        found, told = np.zeros(total, np.int64), time.perf_counter()
        tensors = self._ready(replicas.distribute(self._step.local_tensors()))
        for start in range(0, total, batch * replicas.count):
            for first, ranks in self._some_ranks(tensors, start):
                # Empty for a replica that has no users left; it ranked the last one again.
                place = found[first : first + batch]
                place[:] = ranks[: len(place)]
            signals.raise_if_requested()
            if on_progress and time.perf_counter() - told >= PROGRESS_INTERVAL_S:
                told = time.perf_counter()
                on_progress(min(start + batch * replicas.count, total), total)
        return replicas.total(found)

    def _some_ranks(self, tensors: Any, start: int) -> list[tuple[int, np.ndarray]]:
        """First user and ranks of each local replica's batch in the round from ``start``."""
        replicas, batch = self._replicas, self._ranker.batch
        numbers = range(replicas.first, replicas.first + len(replicas.devices))
        starts = [start + number * batch for number in numbers]
        inputs = replicas.distribute([self._ranker.inputs(first) for first in starts])
        ranked = replicas.local(self._rank(tensors, *inputs))
        return [(first, np.asarray(ranks)) for first, ranks in zip(starts, ranked, strict=True)]

    def _one_ready(self, tensors: dict[str, Any]) -> dict[str, Any]:
        return tensors | self._ranker.project(tensors)
