"""Which form of the step a set of trials runs: measured once, on this machine, before its trials.

The form is lanes of some size (``ncf.lanes.step``) or none, which is all in XLA. What is fastest
depends on the CPU's instructions, caches and number of cores, so it is timed and not looked up. It
is timed in processes of their own on random samples: the trial compiles all it runs on its clock.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainbench.configuration import parsed, to_json
from trainbench.files import object_or_empty, read_object, write_json
from trainbench.machine import allotment, system
from trainbench.machine.load import Load, load_of, read_samples
from trainbench.machine.sampler import sampled
from trainbench.movielens.cache import find_cache, open_cache
from trainbench.ncf.config import LANES, Lanes, NcfConfig
from trainbench.ncf.steps import Options
from trainbench.progress import log_line
from trainbench.trials import child, signals
from trainbench.trials.spec import SetSpec
from trainbench.trials.status import at_an_end

# A set of fewer, over all its epochs and trials, gains less than the measurement takes.
LEAST_SAMPLES = 20_000_000
# Lanes must be so much faster than none: the difference of two measurements of one form.
MARGIN = 1.05
LARGE_CHUNK, SMALL_CHUNK = 8_192, 2_048
TIMEOUT_S = 180.0
# What of a configuration decides the speed of a step.
_OF_STEP = (
    *("mf_dim", "mlp_layer_sizes", "optimizer", "batch_size", "beta1", "beta2", "precision"),
    "deterministic",
)
# Beginnings of variables by which TensorFlow and its libraries choose what they run.
_VARIABLES = ("XLA_", "TF_XLA_", "TF_ENABLE_", "TF_NUM_", "ONEDNN_", "DNNL_", "OMP_")
_FORM = re.compile(r"none|[1-9]\d*x[1-9]\d*")


@dataclass(frozen=True)
class Measurement:
    """Samples per second of each form that ran, and since when that is known."""

    samples_per_s: Mapping[str, float] = field(default_factory=dict)
    measured_unix_s: int = 0
    load: Load | None = None

    @property
    def fastest(self) -> str:
        """The name of the highest rate; ``none`` unless another is ``MARGIN`` times as fast."""
        rates = self.samples_per_s
        best = max(rates, key=lambda name: rates[name], default="none")
        clear = rates.get("none", 0.0) and rates[best] > MARGIN * rates["none"]
        return best if clear else "none"

    def record(self) -> dict[str, Any]:
        """What run.json has of it."""
        rates = {name: round(rate) for name, rate in self.samples_per_s.items()}
        when = {"measured_unix_s": self.measured_unix_s} if rates else {}
        return {"lanes": self.fastest, "samples_per_s": rates, **when}

    def __str__(self) -> str:
        told = (f"{name} {rate / 1e3:,.0f} k" for name, rate in self.samples_per_s.items())
        return f"samples/s: {', '.join(told) or 'none measured'}"


def choose(spec: SetSpec) -> Mapping[str, Any]:
    """``{"lanes": "8192x1", ...}`` or ``{"lanes": "none"}`` for the trials of ``spec``.

    Empty where the configuration says it. Nothing is measured, and the choice is none, where lanes
    cannot be used or cannot be faster. What was measured before on this machine is taken; without
    that, a short set is not measured for.
    """
    config = spec.config
    if config.lanes != "auto":
        return {}
    if not _may_pay(config, Options(**spec.options)):
        return {"lanes": "none"}
    cache = open_cache(find_cache(config.split_spec, spec.data), verify=False)
    size, known = (cache.num_users, cache.num_items), spec.data.lanes
    found = recalled(known, what := identity(config, *size))
    if found:
        day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(found.measured_unix_s))
        log_line(
            f"lanes={found.fastest}, measured on such a machine at {day} UTC ({found}; see {known})"
        )
        return found.record()
    epoch = cache.record["counts"]["train"] * (1 + config.train_negatives)
    if epoch * config.max_epochs * spec.runs < LEAST_SAMPLES:
        return {"lanes": "none"}
    log_line("measuring which form of the training step is fastest here (--set lanes=...)")
    found = measured(config, *size)
    log_line(f"lanes={found.fastest} for all trials of this run ({found})")
    if found.load and found.load.busy:
        log_line(f"it is measured again for the next run: {found.load.sentence()}")
    elif len(found.samples_per_s) > 1:
        with at_an_end("which form of the step is fastest here"):
            keep(known, what, found)
    return found.record()


def _may_pay(config: NcfConfig, options: Options) -> bool:
    """Whether this is one CPU that can train in lanes, and not slower than without.

    Without bfloat16 instructions the products of lanes are emulated (docs/performance.md).
    """
    alone = not (config.tpu or config.devices in ("gpu", "all") or options.cluster)
    if not (alone and config.xla) or (config.devices == "auto" and system.nvidia_gpus()):
        return False
    return config.precision != "bf16" or system.has_bfloat16()


def chosen(config: NcfConfig, choice: Mapping[str, Any]) -> NcfConfig:
    """``config`` with the form of ``choice`` where it leaves that open."""
    if config.lanes != "auto":
        return config
    return replace(config, **parsed(NcfConfig, [f"lanes={choice.get('lanes', 'none')}"]))


def candidates(batch: int, cpus: int) -> list[list[str]]:
    """What is measured, by process: the threads of TensorFlow are those of a whole process.

    TensorFlow's pool, which both lanes share, has half of the CPUs or all of them. Of two CPUs only
    half is tried: with both it was not clearly faster (docs/performance.md).
    """
    half = -(-batch // LANES)
    chunks = dict.fromkeys(min(half, chunk) for chunk in (LARGE_CHUNK, SMALL_CHUNK))
    threads = [max(1, cpus // LANES), *([cpus] if cpus > LANES else [])]
    return [["none"], *([str(Lanes(chunk, number)) for chunk in chunks] for number in threads)]


def identity(config: NcfConfig, users: int, items: int) -> dict[str, Any]:
    """All that a measurement depends on, but for what else runs on the machine."""
    versions = system.packages()
    return {
        "cpu": system.cpu(),
        "versions": {name: versions[name] for name in ("trainbench", "tensorflow", "numpy")},
        "variables": {n: v for n, v in sorted(os.environ.items()) if n.startswith(_VARIABLES)},
        "users": users,
        "items": items,
        **{name: getattr(config, name) for name in _OF_STEP},
    }


def recalled(file: Path, what: Mapping[str, Any]) -> Measurement | None:
    """What was measured of ``what``, by ``keep``; none where the file is not whole."""
    found = object_or_empty(file).get(_key(what))
    if not isinstance(found, dict):
        return None
    rates, when = found.get("samples_per_s"), found.get("measured_unix_s")
    if not isinstance(rates, dict) or "none" not in rates or not all(map(_FORM.fullmatch, rates)):
        return None
    if not isinstance(when, int) or not all(map(_is_count, (when, *rates.values()))):
        return None
    return Measurement(rates, when)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**33


def keep(file: Path, what: Mapping[str, Any], found: Measurement) -> None:
    """Add what was measured of ``what`` to ``file``, with what it depends on."""
    record = {**found.record(), "of": what}
    write_json(file, {**object_or_empty(file), _key(what): record})


def _key(what: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def measured(config: NcfConfig, users: int, items: int) -> Measurement:
    """Samples per second of each candidate; without those that failed, which is told."""
    names = candidates(config.batch_size, allotment.cpus())
    now = int(time.time())
    with tempfile.TemporaryDirectory() as folder:
        file, looks = Path(folder) / "rates.json", Path(folder) / "machine.jsonl"
        arguments = {
            "config": to_json(config),
            "size": [users, items],
            "names": names,
            "file": str(file),
        }
        entry = "trainbench.ncf.lanes.measure:run"
        command = child.command(Path(folder) / "spec.json", entry, arguments)
        with signals.kept_from_children():
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with process:
            try:
                with sampled(process.pid, looks):
                    output, _ = process.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                output = f"it took longer than {TIMEOUT_S:.0f} s".encode()
            finally:
                process.kill()
        if process.returncode:
            told = output.decode(errors="replace").strip().rpartition("\n")[2]
            log_line(f"no form was measured: {told or f'it ended with {process.returncode}'}")
            return Measurement()
        found = read_object(file)
        for name, reason in found["failed"].items():
            log_line(f"lanes={name} not measured: {reason}")
        return Measurement(found["rates"], now, load_of(read_samples(looks)))
