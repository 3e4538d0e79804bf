"""Evaluation where the tables are divided: each replica ranks the users whose rows it keeps.

Items are on every list of candidates, so each replica gets all of their rows, once per evaluation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from trainbench.ncf.evaluation.watch import OnProgress, Ranker, is_finite, not_finite
from trainbench.ncf.sharded.step import ShardedStep


class ShardedRanks:
    """Ranks every user's held-out item where the user's row is."""

    def __init__(self, ranker: Ranker, step: ShardedStep) -> None:
        self._ranker, self._step = ranker, step

    def ranks(self, chosen: np.ndarray, on_progress: OnProgress) -> np.ndarray:
        """Int64 [users] of the ``chosen`` users, the same on every worker.

        Raises:
            TrainbenchError: a parameter is not finite, whoever keeps it.
        """
        step, batch, total = self._step, self._ranker.batch, len(chosen)
        replicas, found, tensors = step.replicas, np.zeros(total, np.int64), self._tensors()
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
            on_progress(min((start + batch) * step.owners, total), total)
        return replicas.wire.total(found)

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
        bad = [any(not is_finite(tensors[name]) for tensors in each) for name in names]
        # All end, not only the one that has the row.
        found = self._step.replicas.wire.gathered(np.array(bad, np.int32)).any(axis=0)
        if found.any():
            raise not_finite(names[int(found.argmax())])
