"""The product's commands as the tests of Slurm and of namespaces start them: a tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SETTINGS = (
    *("synthetic=200x120x6000", "eval_negatives=30", "mf_dim=8", "mlp_layer_sizes=16,8"),
    *("batch_size=512", "steps_per_call=8", "eval_users_per_batch=32", "division=open"),
    *("drop_caches=false", "devices=cpu", "xla=false", "target_hit_rate=none"),
)


def environment(data: Path, *more: str) -> dict[str, str]:
    """What configures the scripts of examples/slurm; commands need ``settings`` as well."""
    return {
        "DATA_DIR": str(data),
        "TRAINBENCH_DATA_DIR": str(data),
        "PRESET": "quick",
        "SETTINGS": " ".join((*SETTINGS, *more)),
        "PYTHON": sys.executable,
        "PYTHONPATH": str(CHECKOUT / "src"),
    }


def settings(*more: str) -> list[str]:
    """The same settings as options of a command."""
    return [f"--set={setting}" for setting in (*SETTINGS, *more)]


def command(*words: str) -> list[str]:
    """A command of the product."""
    return [sys.executable, "-m", "trainbench", *words]


def prepare(data: Path) -> None:
    """Download and preprocess into ``data``."""
    data.mkdir(parents=True)
    for step in ("download", "preprocess"):
        words = command(step, *settings("max_epochs=1"))
        env = {**os.environ, **environment(data)}
        subprocess.run(words, env=env, check=True, capture_output=True)
