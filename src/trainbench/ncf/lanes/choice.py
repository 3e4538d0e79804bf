"""Which form of the step a set of trials runs: measured once, on this machine, before its trials.

The form is lanes of some size (``ncf.lanes.step``) or none, which is all in XLA. What is fastest
depends on the CPU's instructions, caches and number of cores, so it is timed and not looked up. It
is timed in processes of their own on random samples: the trial compiles all it runs on its clock.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainbench.configuration import parsed, to_json
from trainbench.files import read_object
from trainbench.machine import allotment
from trainbench.machine.system import nvidia_gpus
from trainbench.movielens.cache import find_cache, open_cache
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.steps import Options
from trainbench.progress import log_line
from trainbench.trials import child
from trainbench.trials.spec import SetSpec

# An epoch of less is over before the measurement would be.
LEAST_SAMPLES = 2_000_000
# Lanes must be so much faster than none: the difference of two measurements of one form.
MARGIN = 1.05
LARGE_CHUNK, SMALL_CHUNK = 8_192, 2_048
TIMEOUT_S = 180.0


def choose(spec: SetSpec) -> Mapping[str, Any]:
    """``{"lanes": "8192x1"}`` or ``{"lanes": "none"}`` for the trials of ``spec``.

    Empty where the configuration says it. Nothing is measured, and the choice is none, where lanes
    cannot be used (several devices or machines, a GPU, no XLA) or an epoch is short.
    """
    config = spec.config
    if config.lanes != "auto":
        return {}
    alone = not (config.tpu or config.devices in ("gpu", "all") or Options(**spec.options).cluster)
    if not (alone and config.xla) or (config.devices == "auto" and nvidia_gpus()):
        return {"lanes": "none"}
    cache = open_cache(find_cache(config.split_spec, spec.data), verify=False)
    if cache.record["counts"]["train"] * (1 + config.train_negatives) < LEAST_SAMPLES:
        return {"lanes": "none"}
    log_line("measuring which form of the training step is fastest here (--set lanes=...)")
    rates = measured(config, cache.num_users, cache.num_items)
    best = fastest(rates)
    told = ", ".join(f"{name} {rate / 1e3:,.0f} k" for name, rate in rates.items())
    log_line(f"lanes={best} for all trials of this run (samples/s: {told or 'none measured'})")
    return {"lanes": best, "samples_per_s": {name: round(rate) for name, rate in rates.items()}}


def chosen(config: NcfConfig, choice: Mapping[str, Any]) -> NcfConfig:
    """``config`` with the form of ``choice`` where it leaves that open."""
    if config.lanes != "auto":
        return config
    return replace(config, **parsed(NcfConfig, [f"lanes={choice.get('lanes', 'none')}"]))


def fastest(rates: Mapping[str, float]) -> str:
    """The name of the highest rate; ``none`` unless another is ``MARGIN`` times as fast."""
    best = max(rates, key=lambda name: rates[name], default="none")
    return best if rates.get("none", 0.0) and rates[best] > MARGIN * rates["none"] else "none"


def candidates(batch: int, cpus: int) -> list[list[str]]:
    """What is measured, by process: the threads of TensorFlow are those of a whole process."""
    half = -(-batch // 2)
    large, small = min(half, LARGE_CHUNK), min(half, SMALL_CHUNK)
    single = list(dict.fromkeys(f"{chunk}x1" for chunk in (large, small)))
    if cpus == 1:
        return [["none"], single]
    return [["none", f"{large}x{cpus}"], single]


def measured(config: NcfConfig, users: int, items: int) -> dict[str, float]:
    """Samples per second of each candidate; without those whose process failed."""
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for names in candidates(config.batch_size, allotment.cpus()):
            rates |= _in_process(config, users, items, names, Path(folder))
    return rates


def _in_process(
    config: NcfConfig, users: int, items: int, names: Sequence[str], folder: Path
) -> dict[str, float]:
    found = folder / "rates.json"
    arguments = {
        "config": to_json(config),
        "size": [users, items],
        "names": names,
        "file": str(found),
    }
    command = child.command(folder / "spec.json", "trainbench.ncf.lanes.measure:run", arguments)
    try:
        ended = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        told = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        if ended.returncode == 0:
            return {name: float(rate) for name, rate in read_object(found).items()}
    except subprocess.TimeoutExpired:
        told = f"it took longer than {TIMEOUT_S:.0f} s"
    log_line(f"lanes={', '.join(names)} not measured: {told}")
    return {}
