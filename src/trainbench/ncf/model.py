"""NeuMF as in the MLPerf v0.5 reference: parameters, their initialisation, the forward pass.

A user's and an item's two embeddings (matrix factorisation and MLP) lie side by side in one row, so
that one gather reads both; ``weights.npz`` and the parameter count keep the four tables apart.
Source: He et al. 2017 (arXiv 1708.05031); mlcommons/training@fe17e837 recommendation/pytorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from trainbench.config import NcfConfig

EMBEDDING_STDDEV = 0.01

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Geometry:
    """The sizes that fix every shape of the model."""

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
    def row_dim(self) -> int:
        """Width of a row of the user or item table: MF part, then MLP part."""
        return self.mf_dim + self.mlp_dim

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter, in the order of ``weights.npz``."""
        shapes: dict[str, tuple[int, ...]] = {
            "user_mf": (self.num_users, self.mf_dim),
            "item_mf": (self.num_items, self.mf_dim),
            "user_mlp": (self.num_users, self.mlp_dim),
            "item_mlp": (self.num_items, self.mlp_dim),
        }
        return shapes | self.dense_shapes

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
        """Number of trained numbers: 31,832,577 for the reference on ml-20m."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())


def initial_weights(geometry: Geometry, *, seed: int) -> Weights:
    """The parameters before training, float32, the same on every machine and device.

    Embeddings N(0, 0.01); MLP kernels Glorot uniform; final kernel LeCun uniform; biases
    U(+-1/sqrt(fan_in)), which the reference gets from PyTorch's default and the rules count as part
    of the initialisation.
    """
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in geometry.shapes.items():
        if name not in geometry.dense_shapes:
            values = rng.standard_normal(shape, dtype=np.float32)
            weights[name] = values * np.float32(EMBEDDING_STDDEV)
        else:
            limit = np.float32(uniform_limit(name, geometry.dense_shapes))
            weights[name] = (2 * rng.random(shape, dtype=np.float32) - 1) * limit
    return weights


def uniform_limit(name: str, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Half the width of the interval that the dense parameter ``name`` is drawn from."""
    fan_in, fan_out = shapes[name.replace("bias", "kernel")]
    if name.endswith("bias"):
        return float(1 / np.sqrt(fan_in))
    if name == "final_kernel":
        return float(np.sqrt(3 / fan_in))
    return float(np.sqrt(6 / (fan_in + fan_out)))


def logits(dense: Mapping[str, Any], user_rows: Any, item_rows: Any, *, mf_dim: int) -> Any:
    """Logits [batch] of pairs whose user and item rows [batch, row_dim] were gathered already.

    bfloat16 rows and kernels give bfloat16 products; the logits come out in float32.
    """
    mf = user_rows[:, :mf_dim] * item_rows[:, :mf_dim]
    hidden = tf.concat([user_rows[:, mf_dim:], item_rows[:, mf_dim:]], axis=1)
    for layer in range(1, len(dense) // 2):
        kernel = dense[f"mlp_{layer}_kernel"]
        hidden = tf.nn.relu(tf.matmul(hidden, kernel) + dense[f"mlp_{layer}_bias"])
    last = tf.cast(tf.concat([mf, hidden], axis=1), tf.float32)
    kernel = tf.cast(dense["final_kernel"], tf.float32)
    return tf.linalg.matvec(last, kernel[:, 0]) + tf.cast(dense["final_bias"], tf.float32)


def joined(weights: Mapping[str, np.ndarray], side: str) -> np.ndarray:
    """The table of ``side`` ("user" or "item"): MF and MLP embeddings side by side."""
    return np.concatenate([weights[f"{side}_mf"], weights[f"{side}_mlp"]], axis=1)


def parted(table: np.ndarray, side: str, *, mf_dim: int) -> Weights:
    """The inverse of ``joined``."""
    return {f"{side}_mf": table[:, :mf_dim], f"{side}_mlp": table[:, mf_dim:]}
