"""Evaluation where the tables are divided: each replica ranks the users whose rows it keeps.

Items are on every list of candidates, so each replica gets all of their rows, once per evaluation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainbench.errors import TrainbenchError
from trainbench.ncf.sharded.step import ShardedStep
from trainbench.trials import signals

PROGRESS_INTERVAL_S = 3.0

OnProgress = Callable[[int, int], None]


class Ranker(Protocol):
    """Ranks the held-out items of a batch of users on one device."""

    batch: int
    project: Callable[[dict[str, Any]], dict[str, Any]]
    rank: Callable[..., Any]

    def inputs(self, users: np.ndarray) -> tuple[Any, Any, Any]:
        """Numbers, candidates and codes of a batch of ``users``; the last one repeated."""


class ShardedRanks:
    """Ranks every user's held-out item where the user's row is."""

    def __init__(self, ranker: Ranker, step: ShardedStep) -> None:
        self._ranker, self._step = ranker, step

    def ranks(self, chosen: np.ndarray, on_progress: OnProgress | None) -> np.ndarray:
        """Int64 [users] of the ``chosen`` users, the same on every worker.

        Raises:
            TrainbenchError: a parameter is not finite, whoever keeps it.
        """
        step, batch, total = self._step, self._ranker.batch, len(chosen)
        replicas, told = step.replicas, time.perf_counter()
        found, tensors = np.zeros(total, np.int64), self._tensors()
        of_owner = [np.flatnonzero(chosen % step.owners == n) for n in range(step.owners)]
        mine = of_owner[replicas.first :][: len(replicas.devices)]
        for start in range(0, max(len(places) for places in of_owner), batch):
            ranked = []
            for device, own, places in zip(replicas.devices, tensors, mine, strict=True):
                some = places[start : start + batch]
                if len(some):
                    with tf.device(device):
                        ranked.append((some, self._ranks(own, chosen[some])))
            for some, ranks in ranked:
                found[some] = np.asarray(ranks)[: len(some)]
            signals.raise_if_requested()
            if on_progress and time.perf_counter() - told >= PROGRESS_INTERVAL_S:
                told = time.perf_counter()
                on_progress(min((start + batch) * step.owners, total), total)
        return replicas.total(found)

    def _ranks(self, tensors: dict[str, Any], users: np.ndarray) -> Any:
        _, items, code = self._ranker.inputs(users)
        rows = np.pad(users // self._step.owners, (0, self._ranker.batch - len(users)), mode="edge")
        return self._ranker.rank(tensors, tf.constant(rows), items, code)

    def _tensors(self) -> list[dict[str, Any]]:
        """Of each local replica: its users' rows, all items' rows and the dense parameters."""
        step, each = self._step, self._step.local_tensors()
        self._require_finite(each)
        items = step.geometry.table_shapes("item")
        whole = {n: step.whole([t[n] for t in each], shape[0]) for n, shape in items.items()}
        ready = []
        for device, tensors in zip(step.replicas.devices, each, strict=True):
            with tf.device(device):
                own = tensors | {name: tf.constant(table) for name, table in whole.items()}
                ready.append(own | self._ranker.project(own))
        return ready

    def _require_finite(self, each: list[dict[str, Any]]) -> None:
        names = list(self._step.geometry.shapes)
        bad = [
            any(not bool(tf.reduce_all(tf.math.is_finite(tensors[name]))) for tensors in each)
            for name in names
        ]
        # All end, not only the one that has the row.
        found = self._step.replicas.gathered(np.array(bad, np.int32)).any(axis=0)
        if found.any():
            raise TrainbenchError(
                f"the parameter {names[int(found.argmax())]} is not finite: training diverged; "
                "lower the learning rate"
            )
