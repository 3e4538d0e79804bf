"""HR@10 and NDCG@10 of every user's held-out item, exactly as the v0.5 reference ranks it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainbench.errors import ConfigError, MachineError, TrainbenchError
from trainbench.ncf.config import TOP
from trainbench.ncf.evaluation.replicated import ReplicatedRanks
from trainbench.ncf.evaluation.rivals import HIGHER_OR_EQUAL, IGNORED, last_column, rivals
from trainbench.ncf.evaluation.sharded import ShardedRanks
from trainbench.ncf.evaluation.watch import OnProgress, require_finite, watched
from trainbench.ncf.lanes.scores import Scores
from trainbench.ncf.lanes.step import LaneStep
from trainbench.ncf.model import first_layer, last_hidden
from trainbench.ncf.sharded.step import ShardedStep
from trainbench.ncf.train import Trainer

NOT_FINITE = -1
ITEMS_PER_CANDIDATE = 64
LARGEST_PRODUCT = 2**26  # 256 MiB of float32
SAMPLED_USERS = 2_048


class Candidates(Protocol):
    """One row of items per user."""

    @property
    def items(self) -> np.ndarray:
        """int32 [users, negatives + 1], the held-out item last."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: ``hits`` of ``users`` held-out items were in the top 10.

    ranks: int64 [users], of each held-out item, from 0.
    """

    hits: int
    users: int
    hit_rate: float
    ndcg: float
    seconds: float
    pairs: int
    ranks: np.ndarray = field(repr=False, compare=False)


def ranks(scores: Any, code: Any) -> Any:
    """Rank, from 0, of the held-out item of each row: how many of its rivals are ahead of it.

    ``NOT_FINITE`` in a row with a score that is NaN or infinite: no rival is ahead of a NaN, so a
    model that diverged would have every hit.

    Args:
        scores: float [users, width + 1], the held-out item's last.
        code: uint8 [users, width], of ``Rivals``.
    """
    others, held_out = scores[:, :-1], scores[:, -1:]
    ahead = (others > held_out) & (code != IGNORED)
    ahead |= (others == held_out) & (code == HIGHER_OR_EQUAL)
    finite = tf.reduce_all(tf.math.is_finite(scores), axis=1)
    return tf.where(finite, tf.reduce_sum(tf.cast(ahead, tf.int32), axis=1), NOT_FINITE)


def picks_from_product(users: int, width: int, num_items: int) -> bool:
    """Whether one product with all items is less work than a row of the table per candidate.

    Measured (docs/performance.md): faster up to some 60 items per candidate, slower from 130.
    """
    return num_items <= ITEMS_PER_CANDIDATE * width and users * num_items <= LARGEST_PRODUCT


def require_missable(target: float | None, guessed: float, untrained: float | None) -> None:
    """End a trial whose target is reached without training; none is, where there is no target.

    Args:
        guessed: HR@10 to be expected of any order; ``untrained``: of the untrained model.

    Raises:
        ConfigError: one of them is at the target.
    """
    if target is None or max(guessed, untrained or 0.0) < target:
        return
    found = f"a guess has HR@{TOP} {guessed:.4f} on these candidates"
    if untrained is not None:
        found += f", the untrained model {untrained:.4f}"
    raise ConfigError(
        f"target_hit_rate={target}: it is reached without training ({found}); choose a higher "
        "target, more items or more eval_negatives, or target_hit_rate=none"
    )


class Evaluator:
    """Scores one fixed set of candidates whenever asked; duplicates are masked once, here."""

    def __init__(self, trainer: Trainer, candidates: Candidates):
        self.trainer = trainer
        self.shape = candidates.items.shape
        self.rivals = rivals(candidates.items)
        self.held_out = last_column(candidates.items)
        config = trainer.config
        self.batch = min(config.eval_users_per_batch, len(self.held_out))
        self.dtype = tf.bfloat16 if config.precision == "bf16" else tf.float32
        self.project = tf.function(self._projected, jit_compile=config.xla, autograph=False)
        in_lanes = isinstance(trainer.step, LaneStep) and self.dtype == tf.bfloat16
        self.scores = Scores(trainer.geometry, self.dtype, xla=config.xla) if in_lanes else None
        jit = config.xla and not in_lanes
        self.rank = tf.function(self._ranks, jit_compile=jit, autograph=False)
        # On a CPU the hidden layers of a few users stay in the cache; an accelerator wants more.
        self.group = math.gcd(self.batch, 2 if "CPU" in trainer.device else 32)
        replicas = trainer.replicas
        self.replicated: ReplicatedRanks | ShardedRanks | None = None
        if isinstance(trainer.step, ShardedStep):
            self.replicated = ShardedRanks(self, trainer.step)
        elif replicas:
            self.replicated = ReplicatedRanks(self, trainer, replicas)

    def evaluate(
        self, on_progress: OnProgress | None = None, *, chosen: np.ndarray | None = None
    ) -> Evaluation:
        """Rank every user's held-out item with the trainer's current parameters.

        With ``chosen``, an array of user numbers, only theirs. ``pairs`` counts what the reference
        scores: users x (negatives + 1).
        ``on_progress(done_users, total_users)`` is called at most every few seconds.

        Raises:
            TrainbenchError: a parameter or a score is not finite. MachineError: out of memory.
        """
        started = time.perf_counter()
        everyone = np.arange(len(self.held_out))
        chosen = everyone if chosen is None else chosen
        with self.trainer.scope():
            found = self._all_ranks(chosen, on_progress)
        if (found == NOT_FINITE).any():
            lost = chosen[found == NOT_FINITE]
            raise TrainbenchError(
                f"the scores of {len(lost)} users are not finite, user {lost[0]} first: training "
                "diverged; lower the learning rate"
            )
        seconds = time.perf_counter() - started
        users = len(found)
        hits = int((found < TOP).sum())
        gain = np.log(2) / np.log(found[found < TOP] + 2.0)
        return Evaluation(
            hits,
            users,
            hits / users,
            float(gain.sum()) / users,
            seconds,
            users * self.shape[1],
            found,
        )

    def sample(self) -> np.ndarray:
        """Numbers of at most 2,048 users, evenly among all."""
        total = len(self.held_out)
        return np.linspace(0, total - 1, min(total, SAMPLED_USERS)).astype(np.int64)

    def _all_ranks(self, chosen: np.ndarray, on_progress: OnProgress | None) -> np.ndarray:
        total, on_progress = len(chosen), watched(on_progress)
        found = np.empty(total, np.int64)
        try:
            if self.replicated:
                return self.replicated.ranks(chosen, on_progress)
            tensors = self.trainer.tensors()
            require_finite(tensors)
            tensors |= self.project(tensors)
            for start in range(0, total, self.batch):
                end = min(start + self.batch, total)
                found[start:end] = self._batch_ranks(tensors, chosen[start:end])
                on_progress(end, total)
        except (tf.errors.ResourceExhaustedError, MemoryError):
            raise MachineError(
                f"out of memory on {self.trainer.device} with eval_users_per_batch={self.batch}; "
                f"try --set eval_users_per_batch={max(1, self.batch // 2)}"
            ) from None
        return found

    def _batch_ranks(self, tensors: dict[str, Any], users: np.ndarray) -> np.ndarray:
        return np.asarray(self.rank(tensors, *self.inputs(users)))[: len(users)]

    def inputs(self, users: np.ndarray) -> tuple[Any, Any, Any]:
        """Numbers, candidates and codes of a batch of ``users``; the last one repeated."""
        rows = np.pad(users, (0, self.batch - len(users)), mode="edge")
        rivals, code = self.rivals.of(rows)
        items = np.concatenate([rivals, self.held_out[rows, None]], axis=1)
        return tf.constant(rows), tf.constant(items), tf.constant(code)

    def _projected(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """What each item adds to the first layer: once per item instead of once per pair."""
        rows = tf.cast(tensors["item_mlp"], self.dtype)
        return {"item_first": first_layer(tensors["mlp_1_kernel"], rows, "item")}

    def _ranks(self, tensors: dict[str, Any], users: Any, items: Any, code: Any) -> Any:
        return ranks(self._scores(tensors, users, items), code)

    def _scores(self, tensors: dict[str, Any], users: Any, items: Any) -> Any:
        """Logits, float32 [users, width]."""
        mlp = tf.cast(tf.gather(tensors["user_mlp"], users), self.dtype)
        first = first_layer(tensors["mlp_1_kernel"], mlp, "user")
        first += tf.cast(tensors["mlp_1_bias"], first.dtype)
        groups = self._grouped(first), self._grouped(items)
        if self.scores:
            mlp_part = self.scores.mlp_part(tensors, *groups)
        else:
            mlp_part = tf.map_fn(
                lambda group: self._mlp_part(tensors, *group),
                groups,
                fn_output_signature=tf.float32,
            )
        mf_part = self._mf_part(tensors, tf.gather(tensors["user_mf"], users), items)
        return tf.reshape(mlp_part, items.shape) + mf_part + tensors["final_bias"]

    def _grouped(self, tensor: Any) -> Any:
        return tf.reshape(tensor, [self.batch // self.group, self.group, tensor.shape[1]])

    def _mf_part(self, tensors: dict[str, Any], mf: Any, items: Any) -> Any:
        """What matrix factorisation adds to the logits, float32 [users, width]."""
        table, (users, width) = tensors["item_mf"], items.shape
        scaled = mf * tensors["final_kernel"][: mf.shape[1], 0]
        if not picks_from_product(users, width, table.shape[0]):
            return tf.linalg.matvec(tf.gather(table, items), scaled)
        product = tf.reshape(tf.matmul(scaled, table, transpose_b=True), [-1])
        first_of_user = table.shape[0] * tf.range(users, dtype=items.dtype)
        return tf.gather(product, items + first_of_user[:, None])

    def _mlp_part(self, tensors: dict[str, Any], first: Any, items: Any) -> Any:
        """What the MLP adds to the logits, float32 [group, width], of users' first-layer parts."""
        group, width = items.shape
        dense = {n: tensors[n] for n in self.trainer.geometry.dense_shapes}
        sums = tf.gather(tensors["item_first"], items) + first[:, None, :]
        hidden = last_hidden(dense, tf.reshape(sums, [group * width, sums.shape[2]]))
        final = dense["final_kernel"][self.trainer.geometry.mf_dim :, 0]
        return tf.reshape(tf.linalg.matvec(tf.cast(hidden, tf.float32), final), [group, width])
