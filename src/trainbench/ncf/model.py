"""NeuMF as in the MLPerf v0.5 reference: parameters, their initialisation, the forward pass.

Source: He et al. 2017 (arXiv 1708.05031); mlcommons/training@fe17e837 recommendation/pytorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trainbench.ncf.config import NcfConfig

EMBEDDING_STDDEV = 0.01

Weights = dict[str, np.ndarray]

_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True)
class Geometry:
    """The sizes that fix every shape of the model; sides are "user" and "item"."""

    num_users: int
    num_items: int
    mf_dim: int
    mlp_layer_sizes: tuple[int, ...]

    @classmethod
    def of(cls, config: NcfConfig, num_users: int, num_items: int) -> Geometry:
        """The geometry of ``config`` on a dataset of this size."""
        return cls(num_users, num_items, config.mf_dim, config.mlp_layer_sizes)

    @property
    def mlp_dim(self) -> int:
        """Width of one MLP embedding: the first layer reads a user's and an item's."""
        return self.mlp_layer_sizes[0] // 2

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter, in the order of ``weights.npz``."""
        return self.table_shapes("user") | self.table_shapes("item") | self.dense_shapes

    def rows(self, side: str) -> int:
        """Number of users or of items."""
        return self.num_users if side == "user" else self.num_items

    def table_shapes(self, side: str) -> dict[str, tuple[int, int]]:
        """Name and shape of the two embedding tables of ``side``."""
        rows = self.rows(side)
        return {f"{side}_mf": (rows, self.mf_dim), f"{side}_mlp": (rows, self.mlp_dim)}

    @property
    def dense_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of the parameters that every sample reads."""
        sizes = self.mlp_layer_sizes
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), start=1):
            shapes[f"mlp_{layer}_kernel"] = (fan_in, fan_out)
            shapes[f"mlp_{layer}_bias"] = (fan_out,)
        return shapes | {"final_kernel": (self.mf_dim + sizes[-1], 1), "final_bias": (1,)}

    @property
    def num_parameters(self) -> int:
        """Number of parameters: 31,832,577 for the reference on ml-20m."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())


def initial_weights(geometry: Geometry, *, seed: int, rows: slice = slice(None)) -> Weights:
    """The parameters before training, float32, the same on every machine and device.

    Of the tables, only ``rows`` are kept, whose step alone may be above 1.

    Embeddings N(0, 0.01); MLP kernels Glorot uniform; final kernel LeCun uniform; biases
    U(+-1/sqrt(fan_in)), which the reference gets from PyTorch's default and the rules count as part
    of the initialisation.
    """
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in geometry.shapes.items():
        if name not in geometry.dense_shapes:
            weights[name] = _table(rng, shape, rows)
        else:
            limit = np.float32(uniform_limit(name, geometry.dense_shapes))
            weights[name] = (2 * rng.random(shape, dtype=np.float32) - 1) * limit
    return weights


def _table(rng: np.random.Generator, shape: tuple[int, ...], rows: slice) -> np.ndarray:
    # In blocks, so that a worker which keeps few rows has never more in memory.
    start, _, step = rows.indices(shape[0])
    kept = np.empty((len(range(start, shape[0], step)), *shape[1:]), np.float32)
    done = 0
    for first in range(0, shape[0], _BLOCK_ROWS):
        size = min(_BLOCK_ROWS, shape[0] - first)
        block = rng.standard_normal((size, *shape[1:]), dtype=np.float32)
        mine = block[(start - first) % step :: step]
        np.multiply(mine, np.float32(EMBEDDING_STDDEV), out=kept[done : done + len(mine)])
        done += len(mine)
    return kept


def uniform_limit(name: str, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Half the width of the interval that the dense parameter ``name`` is drawn from."""
    fan_in, fan_out = shapes[name.replace("bias", "kernel")]
    if name.endswith("bias"):
        return float(1 / np.sqrt(fan_in))
    if name == "final_kernel":
        return float(np.sqrt(3 / fan_in))
    return float(np.sqrt(6 / (fan_in + fan_out)))


def first_layer(kernel: Any, rows: Any, side: str) -> Any:
    """What MLP rows [n, mlp_dim] of ``side`` add to the first layer's sums: [n, second size].

    The layer reads a user's and an item's row side by side, so its product is a sum of two; each is
    taken where it has the fewest rows: per sample, per row of a table, per user in evaluation.
    The product is in the dtype of ``rows``.
    """
    half = kernel.shape[0] // 2
    part = kernel[:half] if side == "user" else kernel[half:]
    return tf.matmul(rows, tf.cast(part, rows.dtype))


class Inputs(NamedTuple):
    """What samples read of one side's tables.

    mf: float32 [batch, mf_dim]. mlp: the MLP rows [batch, mlp_dim], or where ``projected`` what
    they add to the first layer's sums [batch, second size], in the dtype to multiply in.
    """

    mf: Any
    mlp: Any
    projected: bool


def first_sums(kernel: Any, user: Inputs, item: Inputs) -> Any:
    """The first layer's sums [batch, second size] before its bias."""
    if not (user.projected or item.projected):
        # One product of the width of both runs nearer the machine's rate than two.
        rows = tf.concat([user.mlp, item.mlp], axis=1)
        return tf.matmul(rows, tf.cast(kernel, rows.dtype))
    sides = (("user", user), ("item", item))
    return sum(i.mlp if i.projected else first_layer(kernel, i.mlp, side) for side, i in sides)


def logits(dense: Mapping[str, Any], mf: tuple[Any, Any], first: Any) -> Any:
    """Logits, float32 [batch].

    Args:
        dense: the parameters of ``Geometry.dense_shapes``, float32.
        mf: the user's and the item's matrix-factorisation rows, float32 [batch, mf_dim].
        first: the sum of both ``first_layer`` products; its dtype is the one to multiply in.
    """
    sums = first + tf.cast(dense["mlp_1_bias"], first.dtype)
    hidden = tf.cast(last_hidden(dense, sums), tf.float32)
    final, mf_dim = dense["final_kernel"][:, 0], mf[0].shape[1]
    mlp_part = tf.linalg.matvec(hidden, final[mf_dim:])
    return tf.linalg.matvec(mf[0] * mf[1], final[:mf_dim]) + mlp_part + dense["final_bias"]


def last_hidden(dense: Mapping[str, Any], sums: Any) -> Any:
    """The last hidden layer [n, last size] from the first one's sums, in their dtype."""
    hidden = rectified(sums)
    for layer in range(2, len(dense) // 2):
        product = tf.matmul(hidden, tf.cast(dense[f"mlp_{layer}_kernel"], hidden.dtype))
        hidden = rectified(product + tf.cast(dense[f"mlp_{layer}_bias"], hidden.dtype))
    return hidden


def rectified(sums: Any) -> Any:
    """``tf.nn.relu``, with its gradient, in operations that TensorFlow hands to XLA at once.

    For the other it runs a pipeline of compiler passes at each place, on the clock of a trial.
    """
    return tf.maximum(tf.zeros([], sums.dtype), sums)


def mean_loss(outputs: Any, labels: Any, weights: Any = None) -> Any:
    """Binary cross-entropy of logits [batch] and labels 0 or 1 [batch], mean over the batch.

    ``weights``, float32 [batch], multiply the losses before.
    """
    truth = tf.cast(labels, tf.float32)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=outputs)
    return tf.reduce_mean(losses if weights is None else losses * weights)
