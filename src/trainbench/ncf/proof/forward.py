"""NeuMF's forward pass in float64, with a bound on what a faster one may find instead.

The network (He et al. 2017, arXiv 1708.05031, section 3.4; neumf.py of the MLPerf v0.5 reference):
a user and an item each have a row p, q for matrix factorisation and a row u, v for the MLP.

    h_0 = [u, v]      h_k = relu(W_k h_(k-1) + b_k)      logit = w . [p * q, h_last] + b

The bound. Training and evaluation compute this in float32 or bfloat16, where each operation rounds.
The errors are propagated beside the values as squares ("variances"), as Higham and Mary (2019, SIAM
J. Sci. Comput. 41(5), A2815) do: roundings are independent of each other and are as often up as
down, so their squares add up. With r the unit roundoff of float32 (2^-24), c that of the format in
which matrix products read their factors, and s that of the format in which results are stored:

- a sum of n products, in any order, has an error of at most r sqrt(n) sum |W h| (their theorem
  3.1), which is at most r n sqrt(sum (W h)^2);
- each factor that is converted first adds c to every term; products are summed in float32;
- storing the sum, and storing it again with its bias, add s of it each time;
- an error of h passes through W linearly, so its variance through the squares of W, and relu makes
  no error larger.

A score is then wrong by at most ``DEVIATIONS`` standard deviations. Each single rounding is counted
with its greatest size, which is 1.7 times its root mean square, so that six of ours are ten of
theirs: no score of the 138 million of ml-20m passes that by chance.

    precision          c                                 s
    fp32 on a CPU      0                                 2^-24
    fp32 on a GPU      2^-10 (TensorFloat-32, which      2^-24
                       TensorFlow uses where it can)
    bf16               2^-8                              2^-8
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DEVIATIONS = 6.0
FLOAT32 = 2.0**-24
TENSOR_FLOAT_32 = 2.0**-10
BFLOAT16 = 2.0**-8

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rounding:
    """Unit roundoffs of the computation that is looked at again; 0 where nothing is rounded.

    factors: of what matrix products read; results: of what they store.
    """

    factors: float
    results: float

    @classmethod
    def of(cls, precision: str, device: str) -> Rounding:
        """That of a trial with this precision (``fp32``, ``bf16``) on this device (``GPU:0``)."""
        if precision == "bf16":
            return cls(BFLOAT16, BFLOAT16)
        return cls(TENSOR_FLOAT_32 if "GPU" in device else 0.0, FLOAT32)

    def of_sum(self, terms: int) -> float:
        """Relative variance of each of ``terms`` products in their sum."""
        return (terms * FLOAT32) ** 2 + 2 * self.factors**2


@dataclass(frozen=True)
class Values:
    """Numbers, and the variance of the error that a rounding computation has in each of them.

    of: float64; variance: float32, of the same shape.
    """

    of: Array
    variance: Array


class Network:
    """The network of a ``weights.npz``; it holds the items' part of the first layer ready."""

    def __init__(self, weights: Mapping[str, Array], rounding: Rounding) -> None:
        self._weights, self._rounding = weights, rounding
        names = [f"mlp_{layer}" for layer in range(1, hidden_layers(weights) + 1)]
        self._kernels = [self._double(f"{name}_kernel") for name in names]
        self._biases = [self._double(f"{name}_bias") for name in names]
        self._final = self._double("final_kernel")[:, 0]
        self._final_bias = self._double("final_bias")
        self._user_kernel, item_kernel = np.split(self._kernels[0], 2)
        self._of_item = self._product(_exact(self._double("item_mlp")), item_kernel)

    def scores(self, users: Array, items: Array) -> Values:
        """Logits [users, width].

        Args:
            users: numbers [users]; items: their candidates [users, width].
        """
        hidden = self._first_layer(users, items)
        for kernel, bias in zip(self._kernels[1:], self._biases[1:], strict=True):
            hidden = self._activated(self._product(hidden, kernel), bias)
        mf = self._factorised(users, items)
        mlp = self._weighted(hidden, self._final[self._mf_dim :], items.shape)
        logits = mf.of + mlp.of + self._final_bias
        stored = FLOAT32**2 * (mf.of**2 + mlp.of**2 + 2 * logits**2)
        return Values(logits, (mf.variance + mlp.variance + stored).astype(np.float32))

    @property
    def _mf_dim(self) -> int:
        return int(self._weights["user_mf"].shape[1])

    def _double(self, name: str, rows: Any = slice(None)) -> Array:
        return np.asarray(self._weights[name][rows], np.float64)

    def _first_layer(self, users: Array, items: Array) -> Values:
        user = self._product(_exact(self._double("user_mlp", users)), self._user_kernel)
        sums, variance = self._of_item.of[items], self._of_item.variance[items]
        sums += user.of[:, None, :]
        variance += user.variance[:, None, :]
        variance += self._stored(sums)
        flat = (items.size, sums.shape[2])
        return self._activated(Values(sums.reshape(flat), variance.reshape(flat)), self._biases[0])

    def _product(self, inputs: Values, kernel: Array) -> Values:
        """``inputs`` [n, from] times ``kernel`` [from, to], stored."""
        variance = _square(inputs.of)
        variance *= np.float32(self._rounding.of_sum(kernel.shape[0]))
        variance += inputs.variance
        product, variance = inputs.of @ kernel, variance @ _square(kernel)
        variance += self._stored(product)
        return Values(product, variance)

    def _activated(self, sums: Values, bias: Array) -> Values:
        """relu of ``sums`` and their bias, in their place."""
        values, variance = sums.of, sums.variance
        values += bias
        variance += self._stored(values)
        return Values(np.maximum(values, 0, out=values), variance)

    def _stored(self, values: Array) -> Array:
        return _square(values) * np.float32(self._rounding.results**2)

    def _factorised(self, users: Array, items: Array) -> Values:
        """The part of matrix factorisation in float32; its terms are products of three."""
        user = self._double("user_mf", users) * self._final[: self._mf_dim]
        terms = self._double("item_mf", items) * user[:, None, :]
        of = terms.sum(axis=2)
        return Values(of, _square(terms).sum(axis=2) * self._float32_sum(self._mf_dim + 2))

    def _weighted(self, hidden: Values, weights: Array, shape: tuple[int, ...]) -> Values:
        """``hidden`` [n, units] times ``weights`` [units] in float32, as ``shape``."""
        variance = hidden.variance + _square(hidden.of) * self._float32_sum(len(weights))
        of, variance = hidden.of @ weights, variance @ _square(weights)
        return Values(of.reshape(shape), variance.reshape(shape))

    def _float32_sum(self, terms: int) -> np.float32:
        return np.float32(Rounding(self._rounding.factors, FLOAT32).of_sum(terms))


TABLES = ("user_mf", "user_mlp", "item_mf", "item_mlp")


def hidden_layers(weights: Mapping[str, Array]) -> int:
    """How many layers of the MLP ``weights`` has."""
    return sum(name.startswith("mlp_") and name.endswith("_kernel") for name in weights)


def _exact(values: Array) -> Values:
    return Values(values, np.zeros(values.shape, np.float32))


def _square(values: Array) -> Array:
    found: Array = np.square(values, dtype=np.float32, casting="same_kind")
    return found
