"""One training step in one place, and several of them in one compiled call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainbench.ncf.config import MASKED, NcfConfig
from trainbench.ncf.model import Geometry, Weights, first_sums, logits, mean_loss
from trainbench.ncf.optimizer import Adam, CatchUp, catch_up
from trainbench.ncf.tables import DenseParameters, Own, RowTables, SweptTables, Tables


@dataclass(frozen=True)
class Form:
    """Which optimizations a step uses; the numbers are the same with and without each."""

    by_rows: bool = True
    project: bool = True


FORMS = {
    "fast": Form(),
    "plain": Form(by_rows=False, project=False),
    "all swept": Form(by_rows=False),
    "none projected": Form(project=False),
}
IN_LANES = "none projected"

# Measured (docs/performance.md): a row in a batch costs as much as four rows of a sweep.
SWEEP_ROWS_PER_SAMPLE = 4


class Step:
    """The parameters, the optimizer's state and the compiled function that moves them.

    ``form`` is a name of ``FORMS``: "plain" is dense Adam over whole tables, "fast" uses all
    optimizations.
    """

    def __init__(self, config: NcfConfig, geometry: Geometry, weights: Weights, *, form: str):
        self.adam, self.masked = Adam.of(config), config.last_batch == "mask"
        self.dtype = tf.bfloat16 if config.precision == "bf16" else tf.float32
        self.geometry = geometry
        self.tables = [
            tables_for(config, geometry, side, weights, form=form) for side in ("user", "item")
        ]
        self.dense = DenseParameters(geometry, self.adam, weights)
        self.step = tf.Variable(0, dtype=tf.int64)
        self.run = tf.function(self._run, jit_compile=config.xla, autograph=False)

    def tensors(self) -> dict[str, Any]:
        """The current parameters by their names in ``weights.npz``."""
        tensors = self.dense.values()
        for tables in self.tables:
            tensors |= tables.values(self.steps_done())
        return tensors

    def assign(self, weights: Weights) -> None:
        """Take ``weights`` as the current parameters; the moments stay."""
        self.dense.assign(weights)
        for tables in self.tables:
            tables.values(self.steps_done())
            tables.assign(weights)

    def steps_done(self) -> Any:
        """Their number so far, int64 scalar."""
        return self.step.read_value()

    def count_from(self, step: int) -> None:
        """Take ``step`` as the number of steps done."""
        self.step.assign(step)

    def _run(self, users: Any, items: Any, labels: Any, count: Any) -> Any:
        """Run the first ``count`` steps of [steps, batch] and return the sum of their losses."""

        return sum_of_losses(
            count, lambda index: self._one_step((users[index], items[index]), labels[index])
        )

    def _one_step(self, ids: tuple[Any, Any], labels: Any) -> Any:
        start = self.begin(ids)
        loss, gradients = self.differentiate(start, ids, labels)
        self.finish(start, ids, gradients)
        return loss

    def begin(self, ids: tuple[Any, Any]) -> tuple[Any, Any]:
        """Count one step more; the states of the dense parameters and of the tables' rows."""
        self.step.assign_add(1)
        step = self.step.read_value()
        return self.dense.read(), [t.read(i, step) for t, i in zip(self.tables, ids, strict=True)]

    def differentiate(
        self, start: tuple[Any, Any], ids: tuple[Any, Any], labels: Any, own: Own = tf.identity
    ) -> tuple[Any, Any]:
        """The mean loss over the own samples, and its gradients in the states of ``begin``."""
        dense, reads = start
        parameters = self.dense.named(dense[0])
        values = [read.values for read in reads]
        places = [own(read.places) for read in reads]
        with tf.GradientTape() as tape:
            tape.watch((parameters, values))
            weights = own(training_weights(labels)) if self.masked else None
            loss = self._loss((parameters, values), places, own(labels), weights)
        return loss, tape.gradient(loss, (parameters, values))

    def finish(self, start: tuple[Any, Any], ids: tuple[Any, Any], gradients: Any) -> None:
        """Apply the step that ``begin`` counted."""
        del ids
        (dense, reads), now = start, self.adam.now(self.step.read_value())
        for tables, read, parts in zip(self.tables, reads, gradients[1], strict=True):
            tables.write(read, now, parts)
        self.dense.write(dense, now, self.dense.joined(gradients[0]))

    def _loss(self, parameters: tuple[Any, Any], places: Any, labels: Any, weights: Any) -> Any:
        dense, values = parameters
        kernel = dense["mlp_1_kernel"]
        user, item = (
            tables.inputs(side, place, kernel, self.dtype)
            for tables, side, place in zip(self.tables, values, places, strict=True)
        )
        sums = first_sums(kernel, user, item)
        return mean_loss(logits(dense, (user.mf, item.mf), sums), labels, weights)


def training_weights(labels: Any) -> Any:
    """Weights, float32 [batch], with which a batch's mean loss is that of its samples that train.

    Masked ones have 0. With several replicas each has its part of these weights, so that the mean
    over the replicas is right also where one of them has nothing but masked samples. All are 0
    where none trains.
    """
    trains = tf.cast(tf.not_equal(labels, MASKED), tf.float32)
    return trains * tf.math.divide_no_nan(float(trains.shape[0]), tf.reduce_sum(trains))


def sum_of_losses(count: Any, step: Callable[[Any], Any]) -> Any:
    """Run ``step`` for 0 to ``count`` - 1 and return the sum of the losses it returns."""

    def one_more(index: Any, total: Any) -> tuple[Any, Any]:
        return index + 1, total + step(index)

    start = (tf.constant(0), tf.constant(0.0))
    # One at a time: a step starts from what the one before has written.
    return tf.while_loop(lambda index, _: index < count, one_more, start, parallel_iterations=1)[1]


def tables_for(
    config: NcfConfig, geometry: Geometry, side: str, weights: Weights, *, form: str
) -> Tables:
    """The tables of ``side`` in the way that is fastest for their geometry (or plainly swept)."""
    adam, rows, batch = Adam.of(config), geometry.rows(side), config.batch_size
    closed_form: CatchUp | None = None
    row_by_row = config.optimizer == "lazy_adam"
    if FORMS[form].by_rows and not row_by_row and rows > SWEEP_ROWS_PER_SAMPLE * batch:
        closed_form = catch_up(adam)
        row_by_row = closed_form is not None
    if row_by_row:
        return RowTables(geometry, side, adam, weights, catch_up=closed_form, xla=config.xla)
    project = FORMS[form].project and rows < batch
    return SweptTables(geometry, side, adam, weights, project=project)
