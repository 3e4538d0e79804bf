"""Points near a line, drawn and kept."""

from __future__ import annotations

import numpy as np

from toy_benchmark import ToyConfig
from trainbench.benchmark import Inputs, Source
from trainbench.errors import MachineError
from trainbench.files import write_json
from trainbench.trials.paths import DataDir


def download(config: ToyConfig, data: DataDir, source: Source) -> None:
    """Say which points there are to be."""
    data.raw("toy").mkdir(parents=True, exist_ok=True)
    write_json(data.manifest("toy"), {"dataset": "toy", "points": config.points})


def prepare(config: ToyConfig, data: DataDir) -> None:
    """Draw them."""
    folder = data.cache("toy")
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, config.points)
    np.save(folder / "points.npy", np.stack([x, 3 * x + generator.normal(0, 0.1, config.points)]))
    write_json(folder / "cache.json", {"dataset": "toy", "points": config.points})


def inputs(config: ToyConfig, data: DataDir) -> Inputs:
    """What a run copies."""
    record = data.cache("toy") / "cache.json"
    if not record.exists():
        raise MachineError(f"{record}: not found; run prepare first")
    return Inputs(record, data.manifest("toy"))
