"""Training with tables that are divided over replicas: what travels, and when.

A call's samples are first sent to the owners of their users, and the owners of items are told which
rows each step will ask of them. Then, step by step, rows come, are trained on, and their gradients
go back to the owner, who sums them in the order of the replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from trainbench.ncf.config import MASKED, NcfConfig
from trainbench.ncf.model import Geometry, Weights
from trainbench.ncf.replicas import Replicas
from trainbench.ncf.sharded.owner import Owner, shard_geometry
from trainbench.ncf.sharded.plan import (
    Requests,
    Room,
    Routed,
    Samples,
    from_owners,
    rows_of,
    with_room,
)
from trainbench.ncf.sharded.traffic import Traffic
from trainbench.ncf.step import sum_of_losses


@dataclass(frozen=True)
class _Plan:
    """What each local replica does in the steps of a call; lists of arrays [steps, ...].

    users, places: int32, of samples: the user's row, and the item's among those received.
    labels, weights: float32, of samples. asked: int32, the rows that all replicas ask for.
    """

    users: list[Any]
    places: list[Any]
    labels: list[Any]
    weights: list[Any]
    asked: list[Any]

    def tensors(self, steps: int) -> list[tuple[Any, ...]]:
        """Of each local replica; padded to ``steps``, of which the last ones are never run."""

        parts = (self.users, self.places, self.labels, self.weights, self.asked)
        each_replica = zip(*parts, strict=True)
        return [tuple(tf.constant(with_room(p, steps)) for p in each) for each in each_replica]


class ShardedStep:
    """``Step`` whose tables are divided over all replicas; the dense parameters are copies.

    ``shards`` gives the weights of replica number i.
    """

    def __init__(
        self,
        replicas: Replicas,
        config: NcfConfig,
        geometry: Geometry,
        shards: Callable[[int], Weights],
        *,
        form: str,
    ):
        self.replicas, self.config, self.geometry = replicas, config, geometry
        self.wire, self.owners = replicas.wire, replicas.count
        self.shard = shard_geometry(geometry, self.owners)
        self.steps: list[Owner] = []
        for number, device in enumerate(replicas.devices, start=replicas.first):
            with tf.device(device):
                self.steps.append(
                    Owner(config, self.shard, shards(number), owners=self.owners, form=form)
                )
        self._sample_rooms = [Room() for _ in self.steps]
        self._sent_room, self._row_room = Room(), Room()
        self._loop = tf.function(self._run, autograph=False)
        self.traffic = Traffic.none(self.wire.workers)

    def run(self, users: Any, items: Any, labels: Any, count: Any) -> Any:
        """Run the first ``count`` steps and return the sum of their losses.

        The arrays are [steps, batch], or [steps, own columns] where each worker has its own.
        """
        number = int(count)
        if not number:
            return tf.constant(0.0)
        batch = [self._own(np.asarray(part)[:number]) for part in (users, items, labels)]
        plan = self._plan(*batch)
        return self._loop(plan.tensors(users.shape[0]), tf.constant(number))

    def _own(self, part: np.ndarray) -> np.ndarray:
        own = self.config.batch_size // self.wire.workers
        return part if part.shape[1] == own else part[:, self.wire.index * own :][:, :own]

    def _plan(self, users: np.ndarray, items: np.ndarray, labels: np.ndarray) -> _Plan:
        local, workers = len(self.steps), self.wire.workers
        routed = Routed.of(users, items, labels, self.owners)
        room, trained = self._agreed(routed, (labels != MASKED).sum(axis=1))
        sent = routed.packed(room)
        steps, shape = len(users), sent.shape[1:]
        blocks = self.wire.exchange(sent.reshape(workers, local, *shape))
        samples = [
            Samples.of(blocks[:, place], room=own, spare=self.shard.num_users - 1)
            for place, own in enumerate(self._sample_rooms)
        ]
        requests = [
            Requests.of(part, num_items=self.geometry.num_items, owners=self.owners)
            for part in samples
        ]
        most = self.wire.gathered(np.array([max(r.most for r in requests)], np.int32))
        rows = self._row_room.fit(int(most.max()))
        laid = [part.laid_out(rows) for part in requests]
        asked = [rows_.reshape(workers, local, steps, rows) for rows_, _ in laid]
        got = self.wire.exchange(np.stack(asked, axis=1))
        self.traffic += self._traffic(requests, sent, rows)
        weights = [p.valid * (np.float32(p.valid.shape[1]) / trained[:, None]) for p in samples]
        weights = [w * (p.labels != MASKED) for w, p in zip(weights, samples, strict=True)]
        return _Plan(
            users=[part.rows for part in samples],
            places=[places for _, places in laid],
            labels=[part.labels.astype(np.float32) for part in samples],
            weights=[weight.astype(np.float32) for weight in weights],
            asked=[
                np.moveaxis(got[:, :, place], 2, 0).reshape(steps, -1) for place in range(local)
            ],
        )

    def _agreed(self, routed: Routed, trained: np.ndarray) -> tuple[int, np.ndarray]:
        """How many samples a part of a step has room for, and how many of each step train."""
        told = self.wire.gathered(np.append(routed.most, trained).astype(np.int32))
        return self._sent_room.fit(int(told[:, 0].max())), np.maximum(1, told[:, 1:].sum(axis=0))

    def _traffic(self, requests: list[Requests], sent: np.ndarray, rows: int) -> Traffic:
        first = self.replicas.first
        own = np.zeros(self.owners, bool)
        own[first : first + len(self.steps)] = True
        return Traffic.of_call(
            workers=self.wire.workers,
            steps=sent.shape[1],
            rows=sum(int(part.counts[:, ~own].sum()) for part in requests),
            slots=rows * len(self.steps) * int((~own).sum()),
            width=self.geometry.mf_dim + self.geometry.mlp_dim,
            sample_bytes=sent.nbytes // self.owners * int((~own).sum()),
            dense=sum(int(np.prod(s)) for s in self.geometry.dense_shapes.values()) + 1,
        )

    def _run(self, plans: list[tuple[Any, ...]], count: Any) -> Any:
        return sum_of_losses(count, lambda index: self._one_step(plans, index))

    def _one_step(self, plans: list[tuple[Any, ...]], index: Any) -> Any:
        # Every part is on its own device and starts when what it needs is there.
        parts = list(zip(self.replicas.devices, self.steps, plans, strict=True))
        answers, kept, found = [], [], []
        for device, step, plan in parts:
            with tf.device(device):
                rows, keep = step.answer(plan[4][index])
                answers.append(tf.reshape(rows, [self.owners, -1, rows.shape[1]]))
                kept.append(keep)
        received = self.wire.swap(answers)
        for (device, step, plan), rows in zip(parts, received, strict=True):
            with tf.device(device):
                flat = tf.reshape(rows, [-1, rows.shape[2]])
                found.append(step.learn(*(part[index] for part in plan[:4]), flat))
        gradients = [tf.reshape(g, r.shape) for (_, g), r in zip(found, received, strict=True)]
        back, total = self.wire.swap_and_total(gradients, [vector for vector, _ in found])
        losses = []
        for (device, step, plan), keep, sent in zip(parts, kept, back, strict=True):
            with tf.device(device):
                flat = tf.reshape(sent, [-1, sent.shape[2]])
                losses.append(step.finish(plan[4][index], keep, flat, total))
        return losses[0]

    def local_tensors(self) -> list[dict[str, Any]]:
        """The parameters that each local replica keeps: its rows, and the dense ones."""
        found = []
        for device, step in zip(self.replicas.devices, self.steps, strict=True):
            with tf.device(device):
                found.append(step.parts.tensors())
        return found

    def tensors(self) -> dict[str, Any]:
        """The whole parameters by their names in ``weights.npz``; every worker must ask."""
        each = self.local_tensors()
        return {
            name: each[0][name]
            if name in self.geometry.dense_shapes
            else tf.constant(self.whole([t[name] for t in each], shape[0]))
            for name, shape in self.geometry.shapes.items()
        }

    def lend(self) -> None:
        """Take part in another worker's ``tensors``, without their memory."""
        each = self.local_tensors()
        for name in self.geometry.shapes:
            if name not in self.geometry.dense_shapes:
                self.wire.lend(np.stack([np.asarray(t[name]) for t in each]))

    def whole(self, shards: list[Any], total: int) -> np.ndarray:
        """The table of ``total`` rows of which the local replicas keep ``shards``."""
        mine = np.stack([np.asarray(shard) for shard in shards])
        every = self.wire.gathered(mine)
        return from_owners(every.reshape(-1, *mine.shape[1:]), total)

    def assign(self, weights: Weights) -> None:
        """Take ``weights`` as the current parameters; the moments stay."""
        for number, (device, step) in enumerate(
            zip(self.replicas.devices, self.steps, strict=True), start=self.replicas.first
        ):
            with tf.device(device):
                step.parts.assign(shard_of(weights, self.geometry, number, self.owners))

    def count_from(self, step: int) -> None:
        """Take ``step`` as the number of steps done."""
        for part in self.steps:
            part.parts.count_from(step)


def shard_of(weights: Weights, geometry: Geometry, number: int, owners: int) -> Weights:
    """What replica ``number`` of ``owners`` keeps of ``weights``."""
    dense = geometry.dense_shapes
    own = {n: v if n in dense else v[number::owners] for n, v in weights.items()}
    return padded_shard(own, geometry, owners)


def padded_shard(own: Weights, geometry: Geometry, owners: int) -> Weights:
    """Weights whose tables are the rows of one of ``owners``, with all rows it has room for."""
    rows = {n: rows_of(geometry.shapes[n][0], owners) for n in own}
    dense = geometry.dense_shapes
    return {n: v if n in dense else with_room(v, rows[n]) for n, v in own.items()}
