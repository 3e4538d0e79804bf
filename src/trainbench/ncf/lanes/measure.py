"""The rates of some forms of the training step, in a process of their own (``lanes.choice``)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainbench.files import write_json
from trainbench.ncf.config import NcfConfig, from_json
from trainbench.ncf.input.batches import MemoryBatches
from trainbench.ncf.lanes.choice import chosen
from trainbench.ncf.step import SWEEP_ROWS_PER_SAMPLE
from trainbench.ncf.train import build

SAMPLES_PER_CALL = 65_536
CALLS = 4
BUDGET_S = 0.5
# Past the first steps, whose bias correction costs more terms.
STEPS_BEFORE = 10_000
# More are cut off: these are far more than caches hold, and forms that are measured in one process
# stay there together. ml-32m has 200,948 users.
MOST_ROWS = 300_000


def run(arguments: Mapping[str, Any]) -> int:
    """Write samples per second by name.

    Args:
        arguments: config (as JSON), size (users and items), names (of forms with one number of
            threads), file (to write).
    """
    config = replace(from_json(arguments["config"]), last_batch="pad")
    users, items = measured_size(config, *arguments["size"])
    rates = {
        name: rate(chosen(config, {"lanes": name}), users, items) for name in arguments["names"]
    }
    write_json(Path(arguments["file"]), rates)
    return 0


def measured_size(config: NcfConfig, users: int, items: int) -> tuple[int, int]:
    """Rows of the tables that are measured on: as many as there are, up to a bound.

    So many that tables which are updated by rows are measured by rows.
    """
    most = max(MOST_ROWS, SWEEP_ROWS_PER_SAMPLE * config.batch_size + 1)
    return min(users, most), min(items, most)


def rate(config: NcfConfig, users: int, items: int) -> float:
    """Samples per second of the fastest of some calls."""
    steps = max(2, SAMPLES_PER_CALL // config.batch_size)
    trainer = build(replace(config, steps_per_call=steps), users, items, seed=1)
    trainer.step.count_from(STEPS_BEFORE)
    data = random_batches(users, items, steps=steps, batch=config.batch_size)
    trainer.train_epoch(data)  # compiles
    best, started = 0.0, time.perf_counter()
    for _ in range(CALLS):
        result = trainer.train_epoch(data)
        best = max(best, result.samples / result.seconds)
        if time.perf_counter() - started > BUDGET_S:
            break
    return best


def random_batches(users: int, items: int, *, steps: int, batch: int) -> MemoryBatches:
    """``steps`` batches of a few active users and of all items, the same at every call."""
    rng = np.random.default_rng(0)
    shape = (steps, batch)
    return MemoryBatches(
        users=(rng.random(shape) ** 2 * users).astype(np.int32),
        items=rng.integers(0, items, shape, np.int32),
        labels=(rng.random(shape) < 0.2).astype(np.uint8),
    )
