"""What one sample or pair needs at least: the roofline of a rate.

A rate is bounded by the arithmetic of the matrix products and by the bytes of parameters and
moments that have to be read and written; activations count as if they stayed in the cache.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trainbench.ncf.model import Geometry
from trainbench.ncf.roofline.limits import MachineLimits
from trainbench.ncf.step import Step
from trainbench.ncf.tables import RowTables, SweptTables
from trainbench.ncf.train import Trainer

STATE_BYTES = 24
"""Value, m and v, each read and written in float32."""


class Steps(Protocol):
    """The batches of some steps: int32[steps, batch]."""

    @property
    def users(self) -> np.ndarray:
        """User numbers."""

    @property
    def items(self) -> np.ndarray:
        """Item numbers."""


@dataclass(frozen=True)
class Work:
    """What one sample or pair costs at least in the form that is timed."""

    flops: float
    bytes: float

    def limit(self, limits: MachineLimits, precision: str) -> tuple[str, float]:
        """What bounds the rate, "matrix" or "memory", and the rate per second it allows."""
        matrix = limits.gflop_per_s(precision) * 1e9 / self.flops
        memory = limits.gbyte_per_s * 1e9 / self.bytes
        return ("matrix", matrix) if matrix <= memory else ("memory", memory)


def training_work(
    geometry: Geometry, *, batch: int, projected: set[str], rows: dict[str, float]
) -> Work:
    """The work of one sample of a training step.

    Args:
        batch: samples per step.
        projected: sides whose first-layer product is taken once per row of the table.
        rows: per side, the rows of its tables that a step reads and writes.
    """
    first, *others = _layer_macs(geometry)
    macs = float(sum(others))
    for side in rows:
        macs += first / 2 * (geometry.rows(side) / batch if side in projected else 1)
    width = geometry.mf_dim + geometry.mlp_dim
    dense = sum(_layer_macs(geometry)) + sum(geometry.mlp_layer_sizes[1:])
    parameters = dense + width * sum(rows.values())
    # Forward, gradient of the weights, gradient of the inputs; two operations per product.
    return Work(3 * 2 * macs, STATE_BYTES * parameters / batch)


def evaluation_work(geometry: Geometry, *, candidates: int) -> Work:
    """The work of one pair where the first layer is taken once per user and once per item."""
    first, *others = _layer_macs(geometry)
    pairs = geometry.num_users * candidates
    once = first / 2 * (geometry.num_users + geometry.num_items) / pairs
    return Work(2 * (sum(others) + once), 4 * (geometry.mlp_layer_sizes[1] + geometry.mf_dim))


def work_of(trainer: Trainer, data: Steps) -> Work:
    """The least work per sample of ``trainer``'s form on ``data``."""
    tables = trainer.step.tables if isinstance(trainer.step, Step) else []
    ids = {"user": data.users, "item": data.items}
    rows = {
        part.side: float(np.mean([len(np.unique(step)) for step in ids[part.side]]))
        if isinstance(part, RowTables)
        else float(trainer.geometry.rows(part.side))
        for part in tables
    }
    projected = {t.side for t in tables if isinstance(t, SweptTables) and t.project}
    return training_work(
        trainer.geometry, batch=trainer.config.batch_size, projected=projected, rows=rows
    )


def _layer_macs(geometry: Geometry) -> list[int]:
    sizes = geometry.mlp_layer_sizes
    return [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(sizes)]
