"""One replica of a model with divided tables: its rows, and its part of a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tensorflow as tf

from trainbench.ncf.config import NcfConfig
from trainbench.ncf.model import (
    Geometry,
    Inputs,
    Weights,
    first_layer,
    first_sums,
    logits,
    mean_loss,
)
from trainbench.ncf.sharded.plan import rows_of
from trainbench.ncf.step import Step
from trainbench.ncf.tables import Read, RowTables, SweptTables


def shard_geometry(geometry: Geometry, owners: int) -> Geometry:
    """The sizes of what one of ``owners`` keeps."""
    users, items = (rows_of(geometry.rows(side), owners) for side in ("user", "item"))
    return replace(geometry, num_users=users, num_items=items)


class Owner:
    """The rows of one replica with their moments, and a copy of the dense parameters.

    A step is ``answer``, ``learn`` and ``finish``, each compiled by itself; between them rows and
    gradients travel. ``weights`` are those of the shard.
    """

    def __init__(
        self, config: NcfConfig, geometry: Geometry, weights: Weights, *, owners: int, form: str
    ):
        self.geometry = geometry
        own = replace(config, batch_size=max(1, config.batch_size // owners))
        # As many samples and requests as a batch's share: the tables' form is chosen by that.
        self.parts = Step(own, geometry, weights, form=form)
        users, items = self.parts.tables
        assert isinstance(users, RowTables | SweptTables)
        assert isinstance(items, RowTables | SweptTables)
        self.users, self.items, self.adam = users, items, self.parts.adam
        self.dtype = self.parts.dtype

        def compiled(function: Any) -> Any:
            return tf.function(function, jit_compile=config.xla, autograph=False)

        self.answer, self.learn = compiled(self._answer), compiled(self._learn)
        self.finish = compiled(self._finish)

    def _answer(self, asked: Any) -> tuple[Any, Any]:
        """Begin a step: the rows of items ``asked`` for, [requests, width], and what to keep."""
        self.parts.step.assign_add(1)
        read = self.items.read(asked, self.parts.step.read_value())
        if isinstance(self.items, RowTables):
            return tf.gather(read.values[0], read.places), tuple(read)
        return tf.concat([tf.gather(values, asked) for values in read.values], axis=1), ()

    def _learn(self, users: Any, places: Any, labels: Any, weights: Any, rows: Any) -> Any:
        """Update the users' rows; loss and dense gradients as one vector, and those of ``rows``.

        Args:
            users, places: int32 [samples], the user's row, and the item's among ``rows``.
            labels, weights: float32 [samples]; what a loss counts in the mean over all replicas'
                samples.
            rows: float32 [received, width].
        """
        step = self.parts.step.read_value()
        read = self.users.read(users, step)
        dense = self.parts.dense.values()
        with tf.GradientTape() as tape:
            tape.watch((dense, read.values, rows))
            kernel = dense["mlp_1_kernel"]
            user = self.users.inputs(read.values, read.places, kernel, self.dtype)
            item = self._items(rows, places, kernel)
            outputs = logits(dense, (user.mf, item.mf), first_sums(kernel, user, item))
            loss = mean_loss(outputs, labels, weights)
        found = tape.gradient(loss, (dense, read.values, rows))
        self.users.write(read, self.adam.now(step), found[1])
        flat = self.parts.dense.joined(found[0])
        return tf.concat([loss[None], flat], axis=0), tf.convert_to_tensor(found[2])

    def _items(self, rows: Any, places: Any, kernel: Any) -> Inputs:
        mf = tf.gather(rows[:, : self.geometry.mf_dim], places)
        mlp = tf.cast(rows[:, self.geometry.mf_dim :], self.dtype)
        if rows.shape[0] >= places.shape[0]:
            return Inputs(mf, tf.gather(mlp, places), False)
        product = tf.cast(first_layer(kernel, mlp, "item"), tf.float32)
        return Inputs(mf, tf.cast(tf.gather(product, places), self.dtype), True)

    def _finish(self, asked: Any, kept: Any, gradients: Any, total: Any) -> Any:
        """Update the items' rows and the dense parameters; the loss of the whole batch.

        Args:
            asked, kept: what ``answer`` took and gave.
            gradients: of the rows that were asked for, [requests, width].
            total: what all replicas' ``learn`` gave as one vector, summed.
        """
        step = self.parts.step.read_value()
        read = Read(*kept) if kept else self.items.read(asked, step)
        rows = read.values[0].shape[0]
        summed = tf.math.unsorted_segment_sum(gradients, read.places, rows)
        now, dense = self.adam.now(step), self.parts.dense
        if isinstance(self.items, RowTables):
            self.items.write(read, now, [summed])
        else:
            mf_dim = self.geometry.mf_dim
            self.items.write(read, now, [summed[:, :mf_dim], summed[:, mf_dim:]])
        dense.write(dense.read(), now, total[1:])
        return total[0]
