"""Build the v0.5 submission folder of a run: its logs, its system and the code that made them."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec

from trainbench.benchmark import Benchmark
from trainbench.compliance.stitch import unlike_raw
from trainbench.compliance.submission.verify import REQUIRED_LEVEL, SUMS
from trainbench.errors import ConfigError, DataIntegrityError, NotCompliantError
from trainbench.files import (
    damage_told,
    is_own_file,
    object_or_empty,
    read_object,
    whole_folder,
    write_atomically,
    write_json,
)
from trainbench.trials import chain
from trainbench.trials.paths import RunDir, TrialDir
from trainbench.trials.spec import benchmark_of

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


class _Machine(TypedDict, total=False):
    """What is taken from system.json."""

    cpu: dict[str, Any] | None
    cuda: str | None
    git: dict[str, Any] | None
    gpus: list[dict[str, Any]] | None
    memory_bytes: Annotated[int, msgspec.Meta(lt=2**62)] | None
    os: str | None
    packages: dict[str, Any] | None


def build(run: RunDir, out: Path, *, system: str, submitter: Submitter, code: Path) -> Path:
    """Write the submission folder ``out`` of a stitched run; give it to ``verify`` afterwards.

    Args:
        system: the entry's name, the folder under ``results`` that ``stitch`` wrote.
        code: the checkout that made the run.

    Raises:
        ConfigError: ``out`` holds something already, or the division is unknown.
        DataIntegrityError: the run is not stitched or has no system.json.
        NotCompliantError: its logs are not those of its trials, its records were changed, or its
            data are somebody's own.
    """
    if submitter.division not in REQUIRED_LEVEL:
        raise ConfigError(f"division {submitter.division!r}: wanted {' or '.join(REQUIRED_LEVEL)}")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: not empty; name a new folder for the submission")
    benchmark = benchmark_of(run)
    results = run.results(system, benchmark.name)
    logs = [p for p in sorted(results.glob("result_*.txt")) if is_own_file(p, run.root)]
    if not logs:
        raise DataIntegrityError(
            f"{results}: no result_<i>.txt; run stitch before submission build"
        )
    _require_evidence(run, logs)
    machine, preset = _system(run), _preset(run)
    # It can be built again, so it need not survive a loss of power.
    with whole_folder(out, durable=False) as part:
        _write_results(part / "results" / system, benchmark, logs, entry(machine, submitter))
        write_json(part / "submission.json", _meta(submitter), sort_keys=False)
        _write_code(part / "code" / benchmark.name, code, benchmark, system, preset)
        # What a submitter still fills in (entry.json, the code's README) is left out.
        chain.write(part / SUMS, part.glob(f"results/{system}/{benchmark.name}/*.txt"))
    return out


def _require_evidence(run: RunDir, logs: list[Path]) -> None:
    """Refuse own data, logs that are not those of the trials, and records that were changed."""
    if object_or_empty(run.manifest).get("own"):
        raise NotCompliantError(
            f"{run.root}: trained on own ratings; a submission is of the rules' own data alone"
        )
    breaks = chain.of_run(run).breaks
    broken = [f"{b.file}: {b.rule}: found {b.found}, wanted {b.wanted}" for b in breaks]
    for log in logs:
        trial = run.root / log.stem.replace("result_", "trial_")
        finding = unlike_raw(TrialDir(trial), log)
        broken += [f"{log.name}: {finding}"] if finding else []
    if broken:
        more = f" (and {len(broken) - 1} more; report lists them)" if len(broken) > 1 else ""
        raise NotCompliantError(f"{run.root}: {broken[0]}{more}")


def stitched_system(run: RunDir) -> str:
    """The system's name under which the run was stitched.

    Raises:
        DataIntegrityError: the run is not stitched.
    """
    name = benchmark_of(run).name
    folders = sorted(path.parent.name for path in run.root.glob(f"results/*/{name}"))
    if not folders:
        raise DataIntegrityError(f"{run.root}: no results/<system>/{name}; run stitch first")
    return folders[0]


def _write_results(
    folder: Path, benchmark: Benchmark, logs: list[Path], meta: Mapping[str, Any]
) -> None:
    (folder / benchmark.name).mkdir(parents=True)
    for log in logs:
        shutil.copyfile(log, folder / benchmark.name / log.name)
    write_json(folder / "entry.json", meta, sort_keys=False)


def _write_code(
    folder: Path, checkout: Path, benchmark: Benchmark, system: str, preset: str
) -> None:
    _copy_code(checkout, folder, benchmark)
    chosen, own = f"--preset {shlex.quote(preset)}", f"{benchmark.command} ".lstrip()
    prepare = f"{own}{benchmark.prepare_step} {chosen}"
    runs = f'"${{RUNS:-{benchmark.run_rule.runs}}}"'
    _script(folder / "preproc_dataset.sh", f"{own}download {chosen}", prepare)
    _script(folder / f"setup_{system}.sh", "doctor")
    _script(folder / f"run_and_time_{system}.sh", f"{own}train {chosen} --runs {runs}")


def _meta(submitter: Submitter) -> dict[str, str]:
    return {"org": submitter.org, "poc_email": submitter.poc_email}


def entry(machine: _Machine, submitter: Submitter) -> dict[str, Any]:
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
        "libraries": ", ".join([*versions, *([f"CUDA {machine.get('cuda')}"] if gpus else [])]),
        "compilers": "N/A",
    }


def _node(machine: _Machine, gpus: list[dict[str, Any]]) -> dict[str, Any]:
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


def _hardware(machine: _Machine) -> str:
    gpus, cpu = machine.get("gpus") or [], machine.get("cpu") or {}
    if gpus:
        return f"{len(gpus)}x {gpus[0].get('name', 'GPU')}"
    return f"{cpu.get('sockets') or 1}x {cpu.get('model') or 'CPU'}"


def _system(run: RunDir) -> _Machine:
    for trial in run.trials:
        if is_own_file(trial.system, run.root):
            with damage_told(trial.system, "a system record", "copy the run again"):
                return msgspec.convert(read_object(trial.system), _Machine)
    raise DataIntegrityError(f"{run.root}: no system.json in any trial; wanted one to describe")


def _preset(run: RunDir) -> str:
    """The preset that the run says it had; the benchmark's own when it does not say."""
    found = str(object_or_empty(run.run_file).get("preset"))
    return found if found in benchmark_of(run).presets else "mlperf"


def _copy_code(checkout: Path, folder: Path, benchmark: Benchmark) -> None:
    folder.mkdir(parents=True)
    for name in CODE:
        source = checkout / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=_not_code)
        elif source.is_file():
            shutil.copyfile(source, folder / name)
    if not (folder / "README.md").exists():
        text = f"# {benchmark.title}\n\nSee run_and_time_<entry>.sh.\n"
        write_atomically(folder / "README.md", text)


def _not_code(folder: str, names: list[str]) -> set[str]:
    """What is not copied: caches, and links, which may lead to anything."""
    links = {name for name in names if os.path.islink(os.path.join(folder, name))}
    return links | _NOT_CODE(folder, names)


def _script(path: Path, *commands: str) -> None:
    lines = [f"python -m trainbench {command}" for command in commands]
    text = "\n".join(["#!/usr/bin/env bash", "set -euo pipefail", *lines]) + "\n"
    write_atomically(path, text)
    path.chmod(0o755)
