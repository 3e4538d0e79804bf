"""A trial's limits.json: what its machine does at best, measured when the clock has stopped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from trainbench.files import write_json
from trainbench.ncf.roofline import limits
from trainbench.ncf.roofline.work import Steps, evaluation_work, work_of
from trainbench.ncf.train import Trainer
from trainbench.progress import log_line

SEEN_STEPS = 4
# A fraction of a second each, and little memory beside the model. A GPU needs a larger product to
# show its rate.
_CPU, _GPU = (8_192, 256), (16_384, 4_096)
_LENGTH, _REPEATS = 16_000_000, 3


@dataclass(frozen=True)
class SeenSteps:
    """The ids of a few steps, kept until the clock has stopped."""

    users: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, batches: Steps) -> SeenSteps:
        """The first steps of an epoch."""
        return cls(batches.users[:SEEN_STEPS].copy(), batches.items[:SEEN_STEPS].copy())


def write_limits(file: Path, trainer: Trainer, seen: SeenSteps | None) -> None:
    """Measure and write; a device that cannot is no reason to fail a trial that has ended."""
    try:
        found = measured(trainer, seen)
    except tf.errors.OpError as error:
        log_line(f"{file.name}: not measured: {error.message}")
        return
    if found is not None:
        write_json(file, found)


def measured(trainer: Trainer, seen: SeenSteps | None) -> dict[str, Any] | None:
    """The content of limits.json; ``None`` for several devices, whose limits are not one's times n.

    Args:
        seen: what was trained on; ``None`` where nothing was.
    """
    if trainer.replicas is not None or seen is None:
        return None
    config = trainer.config
    rows, size = _GPU if "GPU" in trainer.device.upper() else _CPU
    with tf.device(trainer.device):
        matrix = limits.matrix_gflop_per_s(config.precision, repeats=_REPEATS, rows=rows, size=size)
        memory = limits.memory_gbyte_per_s(repeats=_REPEATS, length=_LENGTH)
    evaluation = evaluation_work(trainer.geometry, candidates=config.eval_negatives + 1)
    return {
        "schema": 1,
        "device": trainer.device,
        "precision": config.precision,
        "gflop_per_s": round(matrix, 3),
        "gbyte_per_s": round(memory, 3),
        "training": asdict(work_of(trainer, seen)),
        "evaluation": asdict(evaluation),
    }
