"""Workers that are equals: their tensors are summed by TensorFlow's collectives.

Each worker is one replica of a MultiWorkerMirroredStrategy, whatever devices it computes on: it
combines the gradients of its own devices first, so that only one copy crosses the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Tensors = list[Any]


class Collectives:
    """The collectives of one worker.

    Args:
        strategy: of all workers; see ``join``.
        options: how the tensors are sent.
        count, index: how many workers there are, and which of them this is.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, options: Any, *, count: int, index: int
    ) -> None:
        self._strategy, self._options = strategy, options
        self.count, self.index = count, index

    def replica(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` as the body of a replica, where the other methods may be called."""
        return lambda *args: self._strategy.run(function, args=args)

    def sum(self, tensors: Sequence[Any]) -> Tensors:
        """The sum over all workers of each tensor."""
        context, sums = tf.distribute.get_replica_context(), list(tensors)
        # TensorFlow joins what it sends at once, which must be of one type.
        for dtype in sorted({tensor.dtype.name for tensor in tensors}):
            chosen = [i for i, tensor in enumerate(tensors) if tensor.dtype.name == dtype]
            # An operation of its own, since the place of a constant is nowhere.
            placed = [tf.identity(tensors[i]) for i in chosen]
            totals = context.all_reduce(tf.distribute.ReduceOp.SUM, placed, self._options)
            for i, total in zip(chosen, totals, strict=True):
                sums[i] = total
        return sums

    def each(self, tensors: Sequence[Any]) -> list[Tensors]:
        """The tensors of worker 0, of worker 1, and so on."""
        context = tf.distribute.get_replica_context()
        rows = [tf.identity(tensor)[None] for tensor in tensors]
        gathered = context.all_gather(rows, 0, self._options)
        return [[tensor[worker] for tensor in gathered] for worker in range(self.count)]

    def mean(self, values: dict[str, Any]) -> dict[str, Any]:
        """The mean over all workers of each value."""
        totals = self.sum(list(values.values()))
        return {name: t / self.count for name, t in zip(values, totals, strict=True)}

    def from_first(self, variables: Sequence[Any], number: int) -> int:
        """Give ``variables`` worker 0's values, and return its ``number``."""
        first = self.index == 0

        def exchange() -> Any:
            values = [_summable(variable) for variable in variables]
            values.append(tf.constant(number, tf.int64))
            return self.sum([v if first else tf.zeros_like(v) for v in values])

        *totals, found = tf.function(self.replica(exchange), autograph=False)()
        for variable, total in zip(variables, totals, strict=True):
            variable.assign(tf.cast(total, variable.dtype))
        return int(found)

    def meet(self) -> None:
        """Return once every worker has come here."""
        one = self.replica(lambda: self.sum([tf.constant(1.0)]))
        tf.function(one, autograph=False)()[0].numpy()


def _summable(variable: Any) -> Any:
    """The value in a type that collectives take: they know no unsigned integers and no booleans."""
    value = tf.convert_to_tensor(variable)
    return value if value.dtype.is_floating else tf.cast(value, tf.int64)
