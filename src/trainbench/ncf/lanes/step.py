"""A training step in lanes: serial chains of chunks of the batch, one chain per thread.

Rows, Adam and all that is no product are functions compiled by XLA; the products are in the graph
that calls them (``lanes.layers``). The mathematics is that of ``Step``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from trainbench.ncf.config import LANES, MASKED, Lanes, NcfConfig
from trainbench.ncf.lanes.layers import Layers
from trainbench.ncf.lanes.numbers import narrowed, widened
from trainbench.ncf.model import Geometry, Inputs, Weights, mean_loss
from trainbench.ncf.optimizer import Now
from trainbench.ncf.step import IN_LANES, Step, training_weights
from trainbench.ncf.tables import Read, RowTables


class _Chunk(NamedTuple):
    """What one chunk of the batch comes to."""

    loss: Any
    dense: dict[str, Any]
    rows: Any
    mf: tuple[Any, Any]


class LaneStep(Step):
    """``Step`` whose run is a graph of compiled functions and products.

    No product is taken per row of a table: in bfloat16 it saves less than its wider rows cost.
    """

    def __init__(self, config: NcfConfig, geometry: Geometry, weights: Weights, *, lanes: Lanes):
        super().__init__(config, geometry, weights, form=IN_LANES)
        self.batch = config.batch_size
        self._done_before_warm_up: Any = None
        self.chunk = min(lanes.chunk, math.ceil(config.batch_size / LANES))
        self.layers = Layers(geometry, xla=config.xla)
        self.run = tf.function(self._run, autograph=False)
        compiled = partial(tf.function, jit_compile=config.xla, autograph=False)
        self._ready = compiled(self._begin)
        self._reads = [compiled(t.read) for t in self.tables]
        self._rows, self._head = compiled(self._mlp_rows), compiled(self._loss_of_chunk)
        self._update = compiled(self._update_dense)
        self._writes = [
            [compiled(self._writing(side, part)) for part in range(t.parts)]
            for side, t in enumerate(self.tables)
        ]

    def warm_up(self, steps: int) -> None:
        """Compile the step and every function that it calls; nothing has been trained yet.

        The functions are compiled when they first run, so a step runs in which no sample trains:
        with moments of 0 and gradients of 0, Adam moves nothing. Counts are set back.
        """
        rows = [tables for tables in self.tables if isinstance(tables, RowTables)]
        done, last = self.steps_done(), [tables.last.read_value() for tables in rows]
        # An evaluator may read the parameters meanwhile, and would catch up with the step counted.
        self._done_before_warm_up = done
        ids = tf.zeros([steps, self.batch], tf.int32)
        float(self.run(ids, ids, tf.cast(ids + MASKED, tf.uint8), tf.constant(1)))
        self.step.assign(done)
        for tables, before in zip(rows, last, strict=True):
            tables.last.assign(before)
        self._done_before_warm_up = None

    def steps_done(self) -> Any:
        """Their number so far, int64 scalar; while ``warm_up`` runs, without its step."""
        before = self._done_before_warm_up
        return super().steps_done() if before is None else before

    def _one_step(self, ids: tuple[Any, Any], labels: Any) -> Any:
        self.step.assign_add(1)
        step = self.step.read_value()
        dense, now = self._ready(step)
        reads = [
            # Whole tables are read where they are used, so that nothing holds them while they move.
            Read([], (), i) if tables.whole else read(i, step)
            for tables, read, i in zip(self.tables, self._reads, ids, strict=True)
        ]
        values, places = [read.values for read in reads], [read.places for read in reads]
        weights = training_weights(labels)
        chunks = self._chunks(dense, values, places, labels, weights)
        for side, (writes, read) in enumerate(zip(self._writes, reads, strict=True)):
            for write in writes:
                mf = [chunk.mf[side] for chunk in chunks]
                write(now, read, [chunk.rows for chunk in chunks], mf)
        return self._update(now, [c.dense for c in chunks], [c.loss for c in chunks])

    def _chunks(
        self, dense: Any, values: Any, places: Any, labels: Any, weights: Any
    ) -> list[_Chunk]:
        found: list[_Chunk] = []
        ends: list[list[Any]] = [[]] * LANES
        for number, first in enumerate(range(0, self.batch, self.chunk)):
            own = slice(first, first + self.chunk)
            # A lane is a chain, so that no more than LANES chunks are in the cache at a time.
            with tf.control_dependencies(ends[number % LANES]):
                at = [tf.identity(p[own]) for p in places]
            found.append(self._one_chunk(dense, values, at, labels[own], weights[own]))
            ends[number % LANES] = [found[-1].rows]
        return found

    def _one_chunk(self, dense: Any, values: Any, at: Any, labels: Any, weights: Any) -> _Chunk:
        hidden = self.layers.hidden(dense, self._rows(values, at))
        loss, last, mf, final = self._head(values, at, hidden[-1], labels, weights)
        rows, gradients = self.layers.gradients(dense, hidden, last)
        return _Chunk(loss, gradients | final, rows, mf)

    def _begin(self, step: Any) -> tuple[dict[str, Any], Now]:
        """The layers' parameters in the dtype of the products, and the step for Adam."""
        named = self.dense.named(narrowed(self.dense.read()[0], self.dtype))
        return {n: part for n, part in named.items() if n.startswith("mlp")}, self.adam.now(step)

    def _inputs(self, values: Any, at: Any) -> list[Inputs]:
        return [
            t.inputs(t.read(p, None).values if t.whole else v, p, None, tf.float32)
            for t, v, p in zip(self.tables, values, at, strict=True)
        ]

    def _mlp_rows(self, values: Any, at: Any) -> Any:
        user, item = self._inputs(values, at)
        return narrowed(tf.concat([user.mlp, item.mlp], axis=1), self.dtype)

    def _loss_of_chunk(self, values: Any, at: Any, hidden: Any, labels: Any, weights: Any) -> Any:
        """Loss, gradients of the last hidden layer, of the MF rows and of the last parameters."""
        user, item = self._inputs(values, at)
        named = self.dense.values()
        final = {n: named[n] for n in ("final_kernel", "final_bias")}
        last, mf = widened(hidden), (user.mf, item.mf)
        with tf.GradientTape() as tape:
            tape.watch((last, mf, final))
            kernel, dim = final["final_kernel"][:, 0], user.mf.shape[1]
            outputs = tf.linalg.matvec(mf[0] * mf[1], kernel[:dim])
            outputs += tf.linalg.matvec(last, kernel[dim:]) + final["final_bias"]
            share = labels.shape[0] / self.batch
            loss = mean_loss(outputs, labels, weights) * share
        of_last, of_mf, of_final = tape.gradient(loss, (last, mf, final))
        return loss, narrowed(of_last, self.dtype), of_mf, of_final

    def _writing(self, side: int, part: int) -> Callable[..., None]:
        tables = self.tables[side]

        def write(now: Now, read: Read, rows: Any, mf: Any) -> None:
            dim = rows[0].shape[1] // 2
            own = slice(side * dim, (side + 1) * dim)
            mlp = tf.concat([widened(part[:, own]) for part in rows], 0)
            tables.write_part(part, read, now, (tf.concat(mf, 0), mlp))

        return write

    def _update_dense(self, now: Now, gradients: Any, losses: Any) -> Any:
        total = {n: sum(widened(g[n]) for g in gradients) for n in self.dense.shapes}
        self.dense.write(self.dense.read(), now, self.dense.joined(total))
        return tf.add_n(losses)


def use_threads(lanes: Lanes) -> None:
    """Give TensorFlow the threads of ``lanes``, unless it has started, as it has in tests."""
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(lanes.threads)
