"""One side's two embedding tables with their moments: what a step reads of them and writes to them.

Dense Adam moves every row in every step, also those that no sample touches. ``SweptTables`` does
just that. ``RowTables`` touches only the batch's rows and makes good what the others missed when
they are next read, so that the numbers are those of dense Adam; it pays where a table has many more
rows than a batch has samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from trainbench.ncf.model import Geometry, Weights, first_layer
from trainbench.ncf.optimizer import Adam, CatchUp, State

Own = Callable[[Any], Any]
"""What a replica keeps of a tensor [batch, ...]: the samples whose gradients it computes."""


class Tables(Protocol):
    """One side's tables; ``read`` and ``write`` are called inside a compiled step."""

    def read(self, ids: Any, step: Any) -> list[State]:
        """What step ``step`` starts from; the values are what gradients are taken of."""

    def inputs(
        self, values: list[Any], ids: Any, kernel: Any, dtype: Any, own: Own = tf.identity
    ) -> tuple[Any, Any]:
        """MF rows and ``first_layer`` product of each own sample, from the values of ``read``."""

    def write(self, ids: Any, step: Any, states: list[State], gradients: list[Any]) -> None:
        """Apply step ``step`` to the states that ``read`` gave."""

    def values(self, step: Any) -> dict[str, Any]:
        """Both tables by name, as they are after step ``step``."""

    def assign(self, weights: Weights) -> None:
        """Take the values from ``weights``; the moments stay."""


class SweptTables:
    """Every row is updated in every step.

    With ``project`` the first layer's product is taken once per row of the table and gathered,
    instead of once per sample: less work where a batch has more samples than the table has rows.
    """

    def __init__(
        self, geometry: Geometry, side: str, adam: Adam, weights: Weights, *, project: bool
    ):
        self.side, self.adam, self.project = side, adam, project
        self.stored = {name: zero_state(weights[name]) for name in geometry.table_shapes(side)}

    def read(self, ids: Any, step: Any) -> list[State]:
        """The MF table and the MLP table, whole."""
        del ids, step
        return [(v.read_value(), m.read_value(), n.read_value()) for v, m, n in self._states]

    def inputs(
        self, values: list[Any], ids: Any, kernel: Any, dtype: Any, own: Own = tf.identity
    ) -> tuple[Any, Any]:
        """MF rows and ``first_layer`` product of each own sample."""
        (mf, mlp), ids = values, own(ids)
        if self.project:
            product = first_layer(kernel, tf.cast(mlp, dtype), self.side)
            # In float32, because this gather's gradient is a sum over a row's samples.
            return tf.gather(mf, ids), tf.cast(tf.gather(tf.cast(product, tf.float32), ids), dtype)
        rows = tf.cast(tf.gather(mlp, ids), dtype)
        return tf.gather(mf, ids), first_layer(kernel, rows, self.side)

    def write(self, ids: Any, step: Any, states: list[State], gradients: list[Any]) -> None:
        """One step of dense Adam."""
        del ids
        scales = self.adam.scales(step)
        for stored, state, gradient in zip(self._states, states, gradients, strict=True):
            after = self.adam.update(scales, *state, tf.convert_to_tensor(gradient))
            for variable, part in zip(stored, after, strict=True):
                variable.assign(part)

    def values(self, step: Any) -> dict[str, Any]:
        """The tables by name."""
        del step
        return {name: value.read_value() for name, (value, _, _) in self.stored.items()}

    def assign(self, weights: Weights) -> None:
        """Take the values from ``weights``; the moments stay."""
        for name, (value, _, _) in self.stored.items():
            value.assign(weights[name])

    @property
    def _states(self) -> list[State]:
        return list(self.stored.values())


class RowTables:
    """Only the batch's rows are updated; ``catch_up`` None leaves out what they missed (lazy Adam).

    Values and moments of both tables lie in one row of one variable, MF before MLP, because a row
    of a large table comes from memory: one place to fetch instead of six.
    """

    def __init__(
        self,
        geometry: Geometry,
        side: str,
        adam: Adam,
        weights: Weights,
        *,
        catch_up: CatchUp | None,
        xla: bool,
    ):
        self.side, self.adam, self.catch_up = side, adam, catch_up
        self.names = list(geometry.table_shapes(side))
        self.mf_dim = geometry.mf_dim
        self.dim = geometry.mf_dim + geometry.mlp_dim
        rows = geometry.rows(side)
        self.stored = tf.Variable(tf.zeros([rows, 3 * self.dim]))
        self.last = tf.Variable(tf.zeros([rows], tf.int32))
        self.place = tf.Variable(tf.zeros([rows], tf.int32))
        self.caught_up_at = 0
        self.flush = tf.function(self._flush, jit_compile=xla, autograph=False)
        self.assign(weights)

    def read(self, ids: Any, step: Any) -> list[State]:
        """Each sample's rows, with the steps made good that they missed."""
        state = tuple(tf.split(tf.gather(self.stored, ids), 3, axis=1))
        if self.catch_up is None:
            return [state]
        last = tf.gather(self.last, ids)
        return [self.catch_up.rows(last, tf.cast(step, tf.int32) - 1 - last, state)]

    def inputs(
        self, values: list[Any], ids: Any, kernel: Any, dtype: Any, own: Own = tf.identity
    ) -> tuple[Any, Any]:
        """MF rows and ``first_layer`` product of each own sample."""
        del ids
        rows = own(values[0])
        mf, mlp = rows[:, : self.mf_dim], rows[:, self.mf_dim :]
        return mf, first_layer(kernel, tf.cast(mlp, dtype), self.side)

    def write(self, ids: Any, step: Any, states: list[State], gradients: list[Any]) -> None:
        """One step of Adam on the batch's rows."""
        batch = ids.shape[0]
        # Samples of one row agree on one of their places, where their gradients are summed. All of
        # them then compute and write the same new row, so that no sample has to be left out.
        self.place.scatter_update(tf.IndexedSlices(tf.range(batch), ids))
        place = tf.gather(self.place, ids)
        total = tf.gather(tf.math.unsorted_segment_sum(gradients[0], place, batch), place)
        after = self.adam.update(self.adam.scales(step), *states[0], total)
        self.stored.scatter_update(tf.IndexedSlices(tf.concat(after, axis=1), ids))
        now = tf.fill([batch], tf.cast(step, tf.int32))
        self.last.scatter_update(tf.IndexedSlices(now, ids))

    def values(self, step: Any) -> dict[str, Any]:
        """The tables by name, after every row was caught up."""
        if self.catch_up is not None and self.caught_up_at != int(step):
            self.flush(step)
            self.caught_up_at = int(step)
        values = self.stored[:, : self.dim]
        parts = tf.split(values, [self.mf_dim, self.dim - self.mf_dim], axis=1)
        return dict(zip(self.names, parts, strict=True))

    def assign(self, weights: Weights) -> None:
        """Take the values from ``weights``; the moments stay."""
        joined = tf.concat([weights[name] for name in self.names], axis=1)
        self.stored.assign(tf.concat([joined, self.stored[:, self.dim :]], axis=1))

    def _flush(self, step: Any) -> None:
        assert self.catch_up is not None
        now = tf.cast(step, tf.int32)
        state = tuple(tf.split(self.stored.read_value(), 3, axis=1))
        caught_up = self.catch_up.rows(self.last.read_value(), now - self.last, state)
        self.stored.assign(tf.concat(caught_up, axis=1))
        self.last.assign(tf.fill(self.last.shape, now))


def zero_state(value: Any) -> State:
    """Variables for ``value`` and its two moments before the first step."""
    return tf.Variable(value), tf.Variable(tf.zeros_like(value)), tf.Variable(tf.zeros_like(value))
