"""What evaluation on one device and on several have in common: progress, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainbench.errors import TrainbenchError
from trainbench.trials import signals

PROGRESS_INTERVAL_S = 3.0

OnProgress = Callable[[int, int], None]
"""Called with users done and all users."""


class Ranker(Protocol):
    """Ranks the held-out items of a batch of users on one device."""

    batch: int
    project: Callable[[dict[str, Any]], dict[str, Any]]
    rank: Callable[..., Any]

    def inputs(self, users: np.ndarray) -> tuple[Any, Any, Any]:
        """Numbers, candidates and codes of a batch of ``users``; the last one repeated."""


def watched(on_progress: OnProgress | None) -> OnProgress:
    """Pass on what is done at most every few seconds; raise if the process was asked to stop."""
    told = time.perf_counter()

    def tell(done: int, total: int) -> None:
        nonlocal told
        signals.raise_if_requested()
        if on_progress and time.perf_counter() - told >= PROGRESS_INTERVAL_S:
            told = time.perf_counter()
            on_progress(done, total)

    return tell


def is_finite(tensor: Any) -> bool:
    """Whether all of its numbers are."""
    return bool(tf.reduce_all(tf.math.is_finite(tensor)))


def not_finite(name: str) -> TrainbenchError:
    """The error of a model of which one parameter is not finite."""
    return TrainbenchError(
        f"the parameter {name} is not finite: training diverged; lower the learning rate"
    )


def require_finite(tensors: Mapping[str, Any]) -> None:
    """Also of rows that no candidate names: a diverged model is no result.

    Raises:
        TrainbenchError: a parameter is not finite.
    """
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise not_finite(name)
