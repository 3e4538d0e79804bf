"""Build the v0.5 submission folder of a run: its logs, its system and the code that made them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainbench.compliance.submission.verify import REQUIRED_LEVEL
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import ConfigError, DataIntegrityError
from trainbench.files import write_json
from trainbench.trials.paths import RunDir

# What of a checkout is the benchmark's code; whatever is absent is left out.
CODE = (
    "LICENSE",
    "README.md",
    "containers",
    "pyproject.toml",
    "requirements.lock",
    "scripts",
    "settings.py",
    "src",
    "wf.yml",
)
_NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", ".*")


@dataclass(frozen=True)
class Submitter:
    """The parts of a submission that are in no file of a run."""

    org: str
    poc_email: str
    division: str = "closed"
    status: str = "on-premise"


def build(run: RunDir, out: Path, *, system: str, submitter: Submitter, code: Path) -> Path:
    """Write the submission folder ``out`` of a stitched run; give it to ``verify`` afterwards.

    Args:
        system: the entry's name, the folder under ``results`` that ``stitch`` wrote.
        code: the checkout that made the run.

    Raises:
        ConfigError: ``out`` holds something already, or the division is unknown.
        DataIntegrityError: the run is not stitched or has no system.json.
    """
    if submitter.division not in REQUIRED_LEVEL:
        raise ConfigError(f"division {submitter.division!r}: wanted {' or '.join(REQUIRED_LEVEL)}")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: not empty; name a new folder for the submission")
    logs = sorted(run.results(system).glob("result_*.txt"))
    if not logs:
        raise DataIntegrityError(
            f"{run.results(system)}: no result_<i>.txt; run stitch before submission build"
        )
    machine, preset = _system(run), _preset(run)
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        _write_results(partial, logs, system, entry(machine, submitter))
        write_json(partial / "submission.json", _meta(submitter), sort_keys=False)
        _write_code(partial / "code" / tags.BENCHMARK, code, system, preset)
        if out.exists():
            out.rmdir()
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def stitched_system(run: RunDir) -> str:
    """The system's name under which the run was stitched.

    Raises:
        DataIntegrityError: the run is not stitched.
    """
    folders = sorted(path.parent.name for path in run.root.glob("results/*/ncf"))
    if not folders:
        raise DataIntegrityError(f"{run.root}: no results/<system>/ncf; run stitch first")
    return folders[0]


def _write_results(root: Path, logs: list[Path], system: str, meta: Mapping[str, Any]) -> None:
    results = root / "results" / system / tags.BENCHMARK
    results.mkdir(parents=True)
    for log in logs:
        shutil.copyfile(log, results / log.name)
    write_json(results.parent / "entry.json", meta, sort_keys=False)


def _write_code(folder: Path, checkout: Path, system: str, preset: str) -> None:
    _copy_code(checkout, folder)
    chosen = f"--preset {shlex.quote(preset)}"
    _script(folder / "preproc_dataset.sh", f"download {chosen}", f"preprocess {chosen}")
    _script(folder / f"setup_{system}.sh", "doctor")
    _script(folder / f"run_and_time_{system}.sh", f'train {chosen} --runs "${{RUNS:-100}}"')


def _meta(submitter: Submitter) -> dict[str, str]:
    return {"org": submitter.org, "poc_email": submitter.poc_email}


def entry(machine: Mapping[str, Any], submitter: Submitter) -> dict[str, Any]:
    """The content of entry.json, from system.json; what a machine cannot tell is "N/A"."""
    packages = machine.get("packages") or {}
    gpus = machine.get("gpus") or []
    versions = [f"{name} {version}" for name, version in packages.items() if version]
    return {
        "division": submitter.division,
        "status": submitter.status,
        "hardware": _hardware(machine),
        "framework": f"TensorFlow {packages.get('tensorflow') or 'N/A'}",
        "interconnect": "N/A",
        "nodes": [_node(machine, gpus)],
        "os": machine.get("os") or "N/A",
        "libraries": ", ".join([*versions, *([f"CUDA {machine['cuda']}"] if gpus else [])]),
        "compilers": "N/A",
    }


def _node(machine: Mapping[str, Any], gpus: list[Mapping[str, Any]]) -> dict[str, Any]:
    cpu = machine.get("cpu") or {}
    memory = machine.get("memory_bytes")
    return {
        "num_nodes": 1,
        "cpu": cpu.get("model") or "N/A",
        "num_cores": cpu.get("cores") or "N/A",
        "num_vcpus": cpu.get("threads") or "N/A",
        "accelerator": gpus[0].get("name", "N/A") if gpus else "N/A",
        "num_accelerators": len(gpus),
        "sys_mem_size": f"{memory / 2**30:.0f} GiB" if memory else "N/A",
        "sys_storage_type": "N/A",
        "sys_storage_size": "N/A",
        "cpu_accel_interconnect": "N/A",
        "network_card": "N/A",
        "num_network_cards": 0,
        "notes": f"trainbench {(machine.get('packages') or {}).get('trainbench') or 'N/A'}, "
        f"revision {(machine.get('git') or {}).get('revision') or 'unknown'}",
    }


def _hardware(machine: Mapping[str, Any]) -> str:
    gpus, cpu = machine.get("gpus") or [], machine.get("cpu") or {}
    if gpus:
        return f"{len(gpus)}x {gpus[0].get('name', 'GPU')}"
    return f"{cpu.get('sockets') or 1}x {cpu.get('model') or 'CPU'}"


def _system(run: RunDir) -> Mapping[str, Any]:
    for trial in run.trials:
        if trial.system.exists():
            found: Mapping[str, Any] = json.loads(trial.system.read_text(encoding="utf-8"))
            return found
    raise DataIntegrityError(f"{run.root}: no system.json in any trial; wanted one to describe")


def _preset(run: RunDir) -> str:
    """The preset that the run says it had; the benchmark's own when it does not say."""
    if not run.run_file.exists():
        return "mlperf"
    return str(json.loads(run.run_file.read_text(encoding="utf-8")).get("preset") or "mlperf")


def _copy_code(checkout: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in CODE:
        source = checkout / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=_NOT_CODE)
        elif source.is_file():
            shutil.copyfile(source, folder / name)
    if not (folder / "README.md").exists():
        (folder / "README.md").write_text("# NCF\n\nSee run_and_time_<entry>.sh.\n")


def _script(path: Path, *commands: str) -> None:
    lines = [f"python -m trainbench {command}" for command in commands]
    path.write_text("\n".join(["#!/usr/bin/env bash", "set -euo pipefail", *lines]) + "\n")
    path.chmod(0o755)
