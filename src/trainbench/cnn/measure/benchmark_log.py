"""``--benchmark_log_dir``: one JSON file about the run, one line of JSON for each metric.

The files of the official models' logger, which no package offers any more; evaluations are
logged too, which a defect kept that logger from doing.
"""

from __future__ import annotations

import json
import math
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trainbench.cnn.flags.params import Params
from trainbench.display.secrets import without_secrets
from trainbench.files import write_atomically
from trainbench.machine import system

RUN_FILE = "benchmark_run.log"
METRIC_FILE = "metric.log"


class BenchmarkLog:
    """Writes the two files of one run."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    def run(self, params: Params, info: dict[str, Any]) -> None:
        """Describe the run: ``info`` holds model, dataset and the parameters that matter."""
        machine = system.record()
        record = {
            "model_name": info["model"],
            "dataset": {"name": info["dataset"]},
            "machine_config": {
                "cpu_info": machine["cpu"],
                "gpu_info": machine["gpus"],
                "memory_total": machine["memory_bytes"],
            },
            "tensorflow_version": {"version": machine["packages"]["tensorflow"]},
            "tensorflow_environment_variables": [
                {"name": name, "value": without_secrets(value)}
                for name, value in sorted(os.environ.items())
                if name.startswith("TF_")
            ],
            "run_date": _now(),
            "test_id": params.benchmark_test_id,
            "run_parameters": [{"name": name, "value": value} for name, value in info.items()],
        }
        write_atomically(self._folder / RUN_FILE, json.dumps(record, indent=1) + "\n")

    def metric(self, name: str, value: float, *, step: int) -> None:
        """Add one metric; a value that is not finite is left out, as JSON has none."""
        if not math.isfinite(value):
            return
        line = {
            "name": name,
            "value": float(value),
            "unit": None,
            "global_step": step,
            "timestamp": _now(),
            "extras": [],
        }
        with open(self._folder / METRIC_FILE, "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line) + "\n")


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
