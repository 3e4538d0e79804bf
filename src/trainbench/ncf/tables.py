"""One side's two embedding tables with their moments: what a step reads of them and writes to them.

Dense Adam moves every row in every step, also those that no sample touches. ``SweptTables`` does
just that. ``RowTables`` touches only the batch's rows and makes good what the others missed when
they are next read, so that the numbers are those of dense Adam; it pays where a table has many more
rows than a batch has samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from trainbench.ncf.model import Geometry, Inputs, Weights, first_layer
from trainbench.ncf.optimizer import Adam, CatchUp, Now, State

Own = Callable[[Any], Any]
"""What a replica keeps of a tensor [batch, ...]: the samples whose gradients it computes."""


class Read(NamedTuple):
    """What a step starts from on one side.

    states: of rows of the tables; gradients are taken of their values.
    rows: int32, the table's rows that they are, or none where they are the whole tables.
    places: int32 [batch], where among them each sample's row is.
    """

    states: list[State]
    rows: Any
    places: Any

    @property
    def values(self) -> list[Any]:
        """The parameters, without their moments."""
        return [state[0] for state in self.states]


class Tables(Protocol):
    """One side's tables; ``read`` and ``write`` are called inside a compiled step."""

    side: str
    parts: int
    """How many pieces ``write_part`` writes them in, which may be written at one time."""
    whole: bool
    """Whether ``read`` gives the tables themselves."""

    def read(self, ids: Any, step: Any) -> Read:
        """What step ``step`` starts from for the samples with rows ``ids`` [batch]."""

    def inputs(self, values: list[Any], places: Any, kernel: Any, dtype: Any) -> Inputs:
        """What the samples at ``places`` read of ``values``, which ``read`` gave."""

    def write(self, read: Read, now: Now, gradients: list[Any]) -> None:
        """Apply step ``now`` to what ``read`` gave, with the gradients of its values."""

    def write_part(self, part: int, read: Read, now: Now, gradients: tuple[Any, Any]) -> None:
        """Apply step ``now`` to one part; ``read`` gave the places.

        Args:
            gradients: of the batch's MF rows and MLP rows, float32 [batch, width], one a sample.
        """

    def values(self, step: Any) -> dict[str, Any]:
        """Both tables by name, as they are after step ``step``."""

    def assign(self, weights: Weights) -> None:
        """Take the values from ``weights``; the moments stay."""


class SweptTables:
    """Every row is updated in every step.

    With ``project`` the first layer's product is taken once per row of the table and gathered,
    instead of once per sample: less work where a batch has more samples than the table has rows.
    """

    parts, whole = 2, True

    def __init__(
        self, geometry: Geometry, side: str, adam: Adam, weights: Weights, *, project: bool
    ):
        self.side, self.adam, self.project = side, adam, project
        self.stored = {name: zero_state(weights[name]) for name in geometry.table_shapes(side)}

    def read(self, ids: Any, step: Any) -> Read:
        """The MF table and the MLP table, whole."""
        del step
        states = [(v.read_value(), m.read_value(), n.read_value()) for v, m, n in self._states]
        return Read(states, (), ids)

    def inputs(self, values: list[Any], places: Any, kernel: Any, dtype: Any) -> Inputs:
        """MF rows, and MLP rows or their products, of the samples at ``places``."""
        mf, mlp = values
        if not self.project:
            return Inputs(tf.gather(mf, places), tf.cast(tf.gather(mlp, places), dtype), False)
        product = first_layer(kernel, tf.cast(mlp, dtype), self.side)
        # In float32, because this gather's gradient is a sum over a row's samples.
        first = tf.cast(tf.gather(tf.cast(product, tf.float32), places), dtype)
        return Inputs(tf.gather(mf, places), first, True)

    def write(self, read: Read, now: Now, gradients: list[Any]) -> None:
        """One step of dense Adam."""
        for stored, state, gradient in zip(self._states, read.states, gradients, strict=True):
            self._write(stored, state, now, gradient)

    def write_part(self, part: int, read: Read, now: Now, gradients: tuple[Any, Any]) -> None:
        """One step of dense Adam on the MF table (``part`` 0) or the MLP table (1).

        Nothing of the other is read or written.
        """
        stored, gradient = self._states[part], gradients[part]
        state = tuple(v.read_value() for v in stored)
        summed = tf.math.unsorted_segment_sum(gradient, read.places, state[0].shape[0])
        self._write(stored, state, now, summed)

    def _write(self, stored: State, state: State, now: Now, gradient: Any) -> None:
        assign(stored, self.adam.update(now, *state, tf.convert_to_tensor(gradient)))

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

    A row of the MF table and the same row of the MLP table lie side by side, because a row of a
    large table comes from memory. One row more than the table has, the spare one, is read and
    written in place of a row that another sample of the batch stands for.
    """

    parts, whole = 1, False

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
        self.rows = geometry.rows(side)
        self.stored = zero_state(tf.zeros([self.rows + 1, self.dim]))
        self.last = tf.Variable(tf.zeros([self.rows + 1], tf.int32))
        self.speaker = tf.Variable(tf.zeros([self.rows], tf.int32))
        self.caught_up_at = 0
        self.flush = tf.function(self._flush, jit_compile=xla, autograph=False)
        self.assign(weights)

    def read(self, ids: Any, step: Any) -> Read:
        """Each distinct row once, with the steps made good that it missed."""
        samples = tf.range(ids.shape[0])
        # Samples of one row agree on one of them: whichever was written last.
        self.speaker.scatter_update(tf.IndexedSlices(samples, ids))
        places = tf.gather(self.speaker, ids)
        rows = tf.where(places == samples, ids, self.rows)
        state = tuple(tf.gather(part, rows) for part in self.stored)
        if self.catch_up is not None:
            last = tf.gather(self.last, rows)
            state = self.catch_up.rows(last, tf.cast(step, tf.int32) - 1 - last, state)
        return Read([state], rows, places)

    def inputs(self, values: list[Any], places: Any, kernel: Any, dtype: Any) -> Inputs:
        """MF and MLP rows of the samples at ``places``."""
        del kernel
        rows = tf.gather(values[0], places)
        return Inputs(rows[:, : self.mf_dim], tf.cast(rows[:, self.mf_dim :], dtype), False)

    def write(self, read: Read, now: Now, gradients: list[Any]) -> None:
        """One step of Adam on the batch's rows."""
        gradient = tf.convert_to_tensor(gradients[0])
        after = self.adam.update(now, *read.states[0], gradient)
        for variable, part in zip(self.stored, after, strict=True):
            variable.scatter_update(tf.IndexedSlices(part, read.rows))
        last = tf.fill(read.rows.shape, tf.cast(now.step, tf.int32))
        self.last.scatter_update(tf.IndexedSlices(last, read.rows))

    def write_part(self, part: int, read: Read, now: Now, gradients: tuple[Any, Any]) -> None:
        """One step of Adam on the batch's rows; they are one part."""
        del part
        joined = tf.concat(gradients, axis=1)
        self.write(
            read, now, [tf.math.unsorted_segment_sum(joined, read.places, read.places.shape[0])]
        )

    def values(self, step: Any) -> dict[str, Any]:
        """The tables by name, after every row was caught up."""
        if self.catch_up is not None and self.caught_up_at != int(step):
            self.flush(step)
            self.caught_up_at = int(step)
        values = self.stored[0][: self.rows]
        parts = tf.split(values, [self.mf_dim, self.dim - self.mf_dim], axis=1)
        return dict(zip(self.names, parts, strict=True))

    def assign(self, weights: Weights) -> None:
        """Take the values from ``weights``; the moments stay."""
        joined = tf.concat([weights[name] for name in self.names], axis=1)
        self.stored[0].assign(tf.pad(joined, [[0, 1], [0, 0]]))

    def _flush(self, step: Any) -> None:
        assert self.catch_up is not None
        now = tf.cast(step, tf.int32)
        state = tuple(part.read_value() for part in self.stored)
        caught_up = self.catch_up.rows(self.last.read_value(), now - self.last, state)
        for variable, part in zip(self.stored, caught_up, strict=True):
            variable.assign(part)
        self.last.assign(tf.fill(self.last.shape, now))


class DenseParameters:
    """The parameters that every sample reads, as one array: Adam is one update, not one of each.

    Each update costs three kernels to compile, which is on the clock of a trial.
    """

    def __init__(self, geometry: Geometry, adam: Adam, weights: Weights):
        self.adam, self.shapes = adam, geometry.dense_shapes
        self.stored = zero_state(self.joined(weights))

    def read(self) -> State:
        """Value, m and v, float32 [number of parameters] each."""
        value, m, v = (part.read_value() for part in self.stored)
        return value, m, v

    def values(self) -> dict[str, Any]:
        """The current parameters by name; the moments are not read."""
        return self.named(self.stored[0].read_value())

    def named(self, values: Any) -> dict[str, Any]:
        """The parameters by name, of a value as ``read`` gives it (of any dtype)."""
        parts = tf.split(values, [math.prod(shape) for shape in self.shapes.values()])
        shaped = zip(self.shapes.items(), parts, strict=True)
        return {name: tf.reshape(part, shape) for (name, shape), part in shaped}

    def joined(self, parts: Mapping[str, Any]) -> Any:
        """Parameters by name, or their gradients, as one array."""
        return tf.concat([tf.reshape(parts[name], [-1]) for name in self.shapes], 0)

    def write(self, state: State, now: Now, gradients: Any) -> None:
        """Step ``now`` of Adam on what ``read`` gave, with gradients as ``joined`` gives them."""
        assign(self.stored, self.adam.update(now, *state, gradients))

    def assign(self, weights: Weights) -> None:
        """Take the values from ``weights``; the moments stay."""
        self.stored[0].assign(self.joined(weights))


def assign(stored: State, after: State) -> None:
    """Take ``after`` as the values of the variables ``stored``."""
    for variable, part in zip(stored, after, strict=True):
        variable.assign(part)


def zero_state(value: Any) -> State:
    """Variables for ``value`` and its two moments before the first step."""
    return tf.Variable(value), tf.Variable(tf.zeros_like(value)), tf.Variable(tf.zeros_like(value))
