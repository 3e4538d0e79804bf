"""Batches that lie in memory and come from no producer: what is measured and tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MemoryBatches:
    """One epoch's input: int32, int32 and uint8 arrays of shape [steps, batch]."""

    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    epoch: int = 0
