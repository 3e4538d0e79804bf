"""One replica of a model with divided tables: its rows and its part of the layers, in a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
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
from trainbench.ncf.optimizer import Adam
from trainbench.ncf.sharded.plan import rows_of
from trainbench.ncf.step import tables_for
from trainbench.ncf.tables import Read, RowTables, SweptTables, zero_state

# An item's row is multiplied once for all its samples where it saves half of the products.
_SAMPLES_PER_ROW = 2


def shard_geometry(geometry: Geometry, owners: int) -> Geometry:
    """The sizes of what one of ``owners`` keeps."""
    users, items = (rows_of(geometry.rows(side), owners) for side in ("user", "item"))
    return replace(geometry, num_users=users, num_items=items)


class Dense:
    """The dense parameters as one vector, of which each of ``owners`` keeps an equal part.

    The last part is filled up with zeros, which are never updated.
    """

    def __init__(self, geometry: Geometry, owners: int) -> None:
        self.shapes = geometry.dense_shapes
        self.sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        self.size, self.owners = sum(self.sizes), owners
        self.part = -(-self.size // owners)

    def of_owner(self, weights: Weights, number: int) -> np.ndarray:
        """The part of ``number``, float32 [part]."""
        flat = np.zeros(self.part * self.owners, np.float32)
        flat[: self.size] = np.concatenate([np.ravel(weights[name]) for name in self.shapes])
        return flat[number * self.part :][: self.part]

    def joined(self, parts: Any) -> dict[str, Any]:
        """The parameters by name, of the ``parts`` of all owners in turn."""
        pieces = tf.split(tf.reshape(parts, [-1])[: self.size], self.sizes)
        named = zip(self.shapes.items(), pieces, strict=True)
        return {name: tf.reshape(piece, shape) for (name, shape), piece in named}

    def divided(self, values: dict[str, Any]) -> Any:
        """What ``joined`` took, [owners, part]."""
        flat = tf.concat([tf.reshape(values[name], [-1]) for name in self.shapes], axis=0)
        room = self.part * self.owners - self.size
        return tf.reshape(tf.pad(flat, [[0, room]]), [self.owners, self.part])


class Owner:
    """The rows of replica ``number`` and its part of the dense parameters, with their moments.

    A step is ``answer``, ``ready``, ``learn``, ``settle`` and ``finish``, each compiled by itself.
    What ``answer`` and ``learn`` give travels, one message to each owner; ``ready`` and ``settle``
    need nothing of others and run meanwhile. A message has rows of items, or their gradients, and
    then a part of the dense parameters, or of their gradients with the loss.

    ``weights`` are those of the shard.
    """

    def __init__(
        self,
        config: NcfConfig,
        geometry: Geometry,
        weights: Weights,
        *,
        number: int,
        owners: int,
        form: str,
    ):
        self.geometry, self.owners = geometry, owners
        own = replace(config, batch_size=max(1, config.batch_size // owners))
        # As many samples and requests as a batch's share: the tables' form is chosen by that.
        users, items = (
            tables_for(own, geometry, side, weights, form=form) for side in ("user", "item")
        )
        assert isinstance(users, RowTables | SweptTables)
        assert isinstance(items, RowTables | SweptTables)
        self.users, self.items, self.adam = users, items, Adam.of(config)
        self.dtype = tf.bfloat16 if config.precision == "bf16" else tf.float32
        self.width = geometry.mf_dim + geometry.mlp_dim
        self.dense, self.number = Dense(geometry, owners), number
        self.stored = zero_state(tf.constant(self.dense.of_owner(weights, number)))
        self.step = tf.Variable(0, dtype=tf.int64)

        def compiled(function: Any) -> Any:
            return tf.function(function, jit_compile=config.xla, autograph=False)

        self.answer, self.ready = compiled(self._answer), compiled(self._ready)
        self.learn, self.settle = compiled(self._learn), compiled(self._settle)
        self.finish = compiled(self._finish)

    def tables(self) -> dict[str, Any]:
        """The current rows by the names of their tables."""
        step = self.step.read_value()
        return self.users.values(step) | self.items.values(step)

    def assign(self, weights: Weights) -> None:
        """Take the shard's ``weights`` as the current parameters; the moments stay."""
        self.stored[0].assign(self.dense.of_owner(weights, self.number))
        for tables in (self.users, self.items):
            tables.values(self.step.read_value())
            tables.assign(weights)

    def _answer(self, asked: Any) -> tuple[Any, Any]:
        """Begin a step: the message to each owner, and what ``finish`` needs.

        Args:
            asked: int32 [requests], as many of each owner.
        """
        self.step.assign_add(1)
        read = self.items.read(asked, self.step.read_value())
        if isinstance(self.items, RowTables):
            rows, kept = tf.gather(read.values[0], read.places), tuple(read)
        else:
            rows = tf.concat([tf.gather(values, asked) for values in read.values], axis=1)
            kept = ()
        part = tf.repeat(self.stored[0].read_value()[None], self.owners, axis=0)
        return tf.concat([tf.reshape(rows, [self.owners, -1]), part], axis=1), kept

    def _ready(self, users: Any) -> Any:
        """The users' rows that ``learn`` needs, while those of items travel."""
        if isinstance(self.users, SweptTables):
            return ()
        return tuple(self.users.read(users, self.step.read_value()))

    def _learn(
        self, ready: Any, users: Any, places: Any, labels: Any, weights: Any, received: Any
    ) -> Any:
        """The message to each owner, with the loss at its end, and what ``settle`` needs.

        Args:
            users, places: int32 [samples], the user's row, and the item's among those received.
            labels, weights: float32 [samples]; what a loss counts in the mean over all replicas'
                samples.
            received: what ``answer`` of all owners gave for this one.
        """
        step = self.step.read_value()
        read = Read(*ready) if ready else self.users.read(users, step)
        rows, dense = self._unpacked(received, self.dense.part)
        dense = self.dense.joined(dense)
        with tf.GradientTape() as tape:
            tape.watch((dense, read.values, rows))
            kernel = dense["mlp_1_kernel"]
            user = self.users.inputs(read.values, read.places, kernel, self.dtype)
            item = self._items(rows, places, kernel)
            outputs = logits(dense, (user.mf, item.mf), first_sums(kernel, user, item))
            loss = mean_loss(outputs, labels, weights)
        of_dense, of_users, of_rows = tape.gradient(loss, (dense, read.values, rows))
        of_rows = tf.reshape(tf.convert_to_tensor(of_rows), [self.owners, -1])
        told = tf.fill([self.owners, 1], loss)
        message = tf.concat([of_rows, self.dense.divided(of_dense), told], axis=1)
        if not ready:
            # Of a whole table: it stays in this function.
            self.users.write(read, step, of_users)
            return message, ()
        return message, tf.nest.map_structure(tf.convert_to_tensor, of_users)

    def _unpacked(self, received: Any, part: int) -> tuple[Any, Any]:
        """Rows [received, width], and what came behind them, [owners, part]."""
        rows = received[:, : received.shape[1] - part]
        return tf.reshape(rows, [-1, self.width]), received[:, -part:]

    def _items(self, rows: Any, places: Any, kernel: Any) -> Inputs:
        mf = tf.gather(rows[:, : self.geometry.mf_dim], places)
        mlp = tf.cast(rows[:, self.geometry.mf_dim :], self.dtype)
        if _SAMPLES_PER_ROW * rows.shape[0] > places.shape[0]:
            return Inputs(mf, tf.gather(mlp, places), False)
        product = tf.cast(first_layer(kernel, mlp, "item"), tf.float32)
        return Inputs(mf, tf.cast(tf.gather(product, places), self.dtype), True)

    def _settle(self, ready: Any, gradients: Any) -> None:
        """Update the users' rows, while the gradients of items' rows travel."""
        self.users.write(Read(*ready), self.step.read_value(), gradients)

    def _finish(self, asked: Any, kept: Any, received: Any) -> Any:
        """Update the items' rows and the part of the dense ones; the loss of the whole batch.

        Args:
            asked, kept: what ``answer`` took and gave.
            received: what ``learn`` of all owners gave for this one.
        """
        step = self.step.read_value()
        gradients, dense = self._unpacked(received, self.dense.part + 1)
        read = Read(*kept) if kept else self.items.read(asked, step)
        rows = read.values[0].shape[0]
        summed = tf.math.unsorted_segment_sum(gradients, read.places, rows)
        if isinstance(self.items, RowTables):
            self.items.write(read, step, [summed])
        else:
            mf_dim = self.geometry.mf_dim
            self.items.write(read, step, [summed[:, :mf_dim], summed[:, mf_dim:]])
        total = tf.reduce_sum(dense, axis=0)
        value, m, v = (part.read_value() for part in self.stored)
        after = self.adam.update(self.adam.scales(step), value, m, v, total[:-1])
        for variable, part in zip(self.stored, after, strict=True):
            variable.assign(part)
        return total[-1]
