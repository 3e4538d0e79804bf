"""HR@10 and NDCG@10 of every user's held-out item, exactly as the v0.5 reference ranks it.

The reference puts an item -> score dictionary (a repeated item keeps its first place) through
``heapq.nlargest(10)``, which is stable: among equal scores the earlier item wins, so the
held-out item, appended last, loses ties, unless it was also drawn as a negative and holds that
earlier place. Its rank is therefore a count and nothing is sorted by score.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainbench.errors import ConfigError, MachineError, TrainbenchError
from trainbench.files import forget_pages
from trainbench.movielens.cache import find_cache, open_cache
from trainbench.ncf.config import TOP, NcfConfig
from trainbench.ncf.input.producer import start_producer
from trainbench.ncf.lanes.scores import Scores
from trainbench.ncf.lanes.step import LaneStep
from trainbench.ncf.model import first_layer, last_hidden
from trainbench.ncf.replicas import Replicas, ReplicatedStep
from trainbench.ncf.sharded.ranks import ShardedRanks
from trainbench.ncf.sharded.step import ShardedStep
from trainbench.ncf.train import Trainer, build
from trainbench.trials import signals
from trainbench.trials.paths import DataDir

PROGRESS_INTERVAL_S = 3.0
RANKED_USERS_AT_ONCE = 256
ITEMS_PER_CANDIDATE = 64
LARGEST_PRODUCT = 2**26  # 256 MiB of float32
SAMPLED_USERS = 2_048
# Of ml-20m's size there are 138 million.
HELD_CANDIDATES = 2**29

NOT_FINITE = -1
IGNORED, HIGHER_ONLY, HIGHER_OR_EQUAL = 0, 1, 2

OnProgress = Callable[[int, int], None]


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


@dataclass(frozen=True)
class Rivals:
    """What each user's held-out item is ranked against, duplicates gone.

    items: int32 [users, width], ascending; code: uint8 [users, width], whether the item counts
    against the held-out one never, with a higher score only, or with an equal one too; count: int32
    [users], how many there are.
    """

    items: np.ndarray
    code: np.ndarray
    count: np.ndarray

    def of(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items and code of some ``users``, by number."""
        return self.items[users], self.code[users]

    @property
    def guessed_hit_rate(self) -> float:
        """HR@10 to be expected of an order that has nothing to do with the items."""
        return float(np.minimum(1, TOP / (self.count + 1)).mean())

    @property
    def sure_hits(self) -> int:
        """Users with so few candidates that their held-out item is a hit in any order."""
        return int((self.count < TOP).sum())


@dataclass(frozen=True)
class MappedRivals(Rivals):
    """Rivals that are made anew for each batch of users, from candidates that stay on disk."""

    candidates: np.ndarray
    width: int

    def of(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items and code of some ``users``, by number."""
        found = _block_rivals(np.asarray(self.candidates[users]))
        forget_pages(self.candidates)
        room = ((0, 0), (0, self.width - found.items.shape[1]))
        return np.pad(found.items, room), np.pad(found.code, room, constant_values=IGNORED)


def rivals(candidates: np.ndarray, *, held: int = HELD_CANDIDATES) -> Rivals:
    """The distinct items of each row other than its last, the held-out one.

    Args:
        candidates: int32 [users, negatives + 1].
        held: most candidates whose rivals are kept in memory (5 bytes each).
    """
    starts = range(0, len(candidates), RANKED_USERS_AT_ONCE)
    blocks = (candidates[start : start + RANKED_USERS_AT_ONCE] for start in starts)
    if candidates.size > held:
        count = np.concatenate([_counted(block, candidates) for block in blocks])
        none = np.empty((0, 0))
        return MappedRivals(none, none, count, candidates, max(1, int(count.max())))
    with ThreadPoolExecutor() as pool:  # NumPy sorts without the interpreter lock
        parts = list(pool.map(_block_rivals, blocks))
    width = max(part.items.shape[1] for part in parts)
    shape = (len(candidates), width)
    count = np.concatenate([part.count for part in parts])
    joined = Rivals(np.zeros(shape, np.int32), np.full(shape, IGNORED, np.uint8), count)
    for start, part in zip(starts, parts, strict=True):
        rows = slice(start, start + len(part.items))
        joined.items[rows, : part.items.shape[1]] = part.items
        joined.code[rows, : part.items.shape[1]] = part.code
    return joined


def _last_column(candidates: np.ndarray) -> np.ndarray:
    found = np.empty(len(candidates), candidates.dtype)
    for start in range(0, len(candidates), RANKED_USERS_AT_ONCE):
        rows = slice(start, start + RANKED_USERS_AT_ONCE)
        found[rows] = candidates[rows, -1]
        forget_pages(candidates)
    return found


def _counted(block: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    in_order = np.sort(block, axis=1)
    # The held-out item is one of the distinct ones.
    count: np.ndarray = (in_order[:, 1:] != in_order[:, :-1]).sum(axis=1, dtype=np.int32)
    forget_pages(candidates)
    return count


def _block_rivals(block: np.ndarray) -> Rivals:
    # One integer holds item and place, so that a plain sort puts an item's first place first.
    shift = block.shape[1].bit_length()
    small = (int(block.max()) + 1) << shift < 2**31
    keys = block.astype(np.int32 if small else np.int64) << shift
    keys |= np.arange(block.shape[1], dtype=keys.dtype)
    keys.sort(axis=1)
    items, none = keys >> shift, np.iinfo(keys.dtype).max
    dropped = items == block[:, -1:]
    dropped[:, 1:] |= items[:, 1:] == items[:, :-1]
    keys[dropped] = none
    count = (~dropped).sum(axis=1, dtype=np.int32)
    keys.sort(axis=1)
    keys = keys[:, : max(1, int(count.max()))]
    held_out_place = (block == block[:, -1:]).argmax(axis=1)[:, None]
    earlier = (keys & ((1 << shift) - 1)) < held_out_place
    code = np.where(keys == none, IGNORED, np.where(earlier, HIGHER_OR_EQUAL, HIGHER_ONLY))
    rows = np.where(keys == none, 0, keys >> shift).astype(np.int32)
    return Rivals(rows, code.astype(np.uint8), count)


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
        self.held_out = _last_column(candidates.items)
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
        total, told = len(chosen), time.perf_counter()
        found = np.empty(total, np.int64)
        try:
            if self.replicated:
                return self.replicated.ranks(chosen, on_progress)
            tensors = self.trainer.tensors()
            _require_finite(tensors)
            tensors |= self.project(tensors)
            for start in range(0, total, self.batch):
                end = min(start + self.batch, total)
                found[start:end] = self._batch_ranks(tensors, chosen[start:end])
                signals.raise_if_requested()
                if on_progress and (time.perf_counter() - told >= PROGRESS_INTERVAL_S):
                    told = time.perf_counter()
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


def _require_finite(tensors: dict[str, Any]) -> None:
    """Also of rows that no candidate names: a diverged model is no result."""
    for name, tensor in tensors.items():
        if not bool(tf.reduce_all(tf.math.is_finite(tensor))):
            raise TrainbenchError(
                f"the parameter {name} is not finite: training diverged; lower the learning rate"
            )


class ReplicatedRanks:
    """Ranks every user's held-out item; batches of users go to the replicas in turn."""

    def __init__(self, ranker: Evaluator, trainer: Trainer, replicas: Replicas):
        assert isinstance(trainer.step, ReplicatedStep)
        self._ranker, self._step, self._replicas = ranker, trainer.step, replicas
        run = replicas.strategy.run
        self._ready = tf.function(
            lambda *tensors: run(self._one_ready, args=tensors), autograph=False
        )
        self._rank = tf.function(lambda *inputs: run(ranker.rank, args=inputs), autograph=False)

    def ranks(self, chosen: np.ndarray, on_progress: OnProgress | None) -> np.ndarray:
        """Int64 [users] of the ``chosen`` users, the same on every worker.

        A rank is computed as on one device, so hits and gains are those of one device.
        """
        replicas, batch, total = self._replicas, self._ranker.batch, len(chosen)
        found, told = np.zeros(total, np.int64), time.perf_counter()
        each = self._step.local_tensors()
        _require_finite(each[0])
        tensors = self._ready(replicas.distribute(each))
        for start in range(0, total, batch * replicas.count):
            for first, ranks in self._some_ranks(tensors, chosen, start):
                # Empty for a replica that has no users left; it ranked the last one again.
                place = found[first : first + batch]
                place[:] = ranks[: len(place)]
            signals.raise_if_requested()
            if on_progress and time.perf_counter() - told >= PROGRESS_INTERVAL_S:
                told = time.perf_counter()
                on_progress(min(start + batch * replicas.count, total), total)
        return replicas.total(found)

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


def evaluate_saved(
    config: NcfConfig, data: DataDir, weights: Path, *, negatives: int, seed: int
) -> Evaluation:
    """HR@10 and NDCG@10 of ``weights`` (a .npz or .keras file) on the held-out items of ``config``.

    Args:
        negatives: per user; 999 is MLPerf's protocol, 99 the one of the NeuMF paper.
        seed: of the candidates; the one of the trial draws the trial's own candidates.

    Raises:
        DataIntegrityError: a parameter is missing or has another shape; a damaged cache.
        MachineError: no cache, or a GPU asked for and absent.
    """
    cache = open_cache(find_cache(config.split_spec, data), verify=True)
    config = replace(config, eval_negatives=negatives, generator="inline")
    trainer = build(config, cache.num_users, cache.num_items, seed=seed)
    trainer.load(weights)
    with tempfile.TemporaryDirectory() as logs:
        producer = start_producer(
            cache,
            config,
            seed=seed,
            work_dir=data.work,
            log_file=Path(logs) / "generator.log",
            compliance_file=Path(logs) / "compliance.log",
        )
        with producer:
            producer.release()
            return Evaluator(trainer, producer.eval_candidates()).evaluate()
