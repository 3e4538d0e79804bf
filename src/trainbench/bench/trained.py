"""Values that a trained network has where a new one has 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_INITIAL = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0, "bias": 0.0}


def trained_normalization(kind: str, shape: Sequence[int]) -> np.ndarray | None:
    """Values such as training leaves of what a new network has as 0 and 1; ``None`` for the rest.

    Where weights are constants, compilers take additions of 0 out, and a forward pass would do
    less than a trained network's.

    Args:
        kind: Keras' name of a normalization's parameter, or ``bias``.
    """
    if kind not in _INITIAL:
        return None
    rng = np.random.default_rng(list(_INITIAL).index(kind))
    return (_INITIAL[kind] + rng.uniform(-0.1, 0.1, tuple(shape))).astype(np.float32)
