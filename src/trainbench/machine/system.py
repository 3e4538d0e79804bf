"""The machine of a run: what a reviewer needs, and nothing that identifies its owner.

No host name, user name or serial number is recorded.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from trainbench import __version__
from trainbench.files import text_or_empty
from trainbench.machine import allotment

CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = ("avx512_bf16", "amx_bf16")
# By which libraries choose how they add and multiply. A virtual machine may hide some of its CPU's.
INSTRUCTION_SETS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", *BF16_FLAGS)
# What keeps oneDNN, and so the products of every framework here, from instructions of the CPU.
_ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_ISAS_WITHOUT_BF16 = (
    "sse41",
    "avx",
    "avx2",
    "avx2_vnni",
    "avx2_vnni_2",
    "avx512_core",
    "avx512_core_vnni",
)
PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "pandas",
    "mlperf_compliance",
    "docker",
    "pyyaml",
)


def record(
    *,
    git: Mapping[str, Any] | None = None,
    device: str | None = None,
    images: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The content of system.json.

    Args:
        images: what ``machine.images.images`` found.
        git: ``{"revision", "dirty"}`` of the code; found beside the package when ``None``.
        device: what the trainer computes on (``CPU``, ``GPU x2``).
    """
    gpus = nvidia_gpus()
    return {
        "schema": 1,
        "cpu": cpu(),
        "memory_bytes": allotment.memory_bytes(),
        "host": host(),
        "gpus": gpus,
        "cuda": cuda_version() if gpus else None,
        "kernel": platform.release(),
        "os": os_name(),
        "cgroup": allotment.cgroup_limits(),
        "packages": packages(),
        "python": platform.python_version(),
        "images": [{key: image[key] for key in ("name", "digest", "base")} for image in images],
        "image_packages": {
            image["name"]: {key: image[key] for key in ("debian", "python")} for image in images
        },
        "git": git or git_state(Path(__file__).resolve().parents[3]),
        "device": device,
        "container": in_container(),
    }


def cpu() -> dict[str, Any]:
    """Model, and the sockets, physical cores and hardware threads that this process may use."""
    told = text_or_empty(CPU_INFO)
    model, words = re.search(r"^model name\s*:\s*(.+)$", told, re.MULTILINE), set(told.split())
    return {
        "model": model.group(1) if model else platform.machine(),
        "sockets": allotment.sockets(),
        "cores": allotment.cores(),
        "threads": allotment.cpus(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in words],
    }


def kind(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a system.json decides the last digits of results, by its name for people.

    ``None`` for what is not recorded. Of the code the version counts: results of one version are
    promised to be equal, so other ones are a finding.
    """
    own_cpu, packages = _object(record.get("cpu")), _object(record.get("packages"))
    found = {name: own_cpu.get(name) for name in ("model", "threads", "instruction_sets")}
    return {
        "device": record.get("device"),
        **{f"cpu {name.replace('_', ' ')}": value for name, value in found.items()},
        "gpus": record.get("gpus"),
        **{name: packages.get(name) for name in ("trainbench", "tensorflow", "keras", "numpy")},
    }


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def host() -> dict[str, Any]:
    """What the whole machine has, whatever of it this process may use."""
    return {
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "threads": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 by itself."""
    return bfloat16_obstacle() is None


def bfloat16_obstacle() -> str | None:
    """Why products in bfloat16 are emulated here; ``None`` where the CPU computes them itself."""
    if not set(BF16_FLAGS) & set(text_or_empty(CPU_INFO).split()):
        return f"this CPU has no {' or '.join(BF16_FLAGS)}"
    # The first that is set counts.
    name = next((name for name in _ISA_LIMITS if os.environ.get(name)), None)
    if name and os.environ[name].lower() in _ISAS_WITHOUT_BF16:
        return f"{name}={os.environ[name]} leaves out this CPU's bfloat16 instructions: unset it"
    return None


def nvidia_gpus() -> list[dict[str, Any]]:
    """The NVIDIA GPUs that the driver lists: name, memory and driver version."""
    query = "--query-gpu=name,memory.total,driver_version"
    rows = _nvidia_smi(query, "--format=csv,noheader,nounits")
    gpus = []
    for row in rows.splitlines():
        parts = [part.strip() for part in row.split(",")]
        if len(parts) == 3 and parts[1].isdigit():
            gpus.append({"name": parts[0], "memory_bytes": int(parts[1]) << 20, "driver": parts[2]})
    return gpus


def cuda_version() -> str | None:
    """The CUDA version that the driver supports."""
    found = re.search(r"CUDA Version:\s*([\d.]+)", _nvidia_smi())
    return found.group(1) if found else None


def os_name() -> str:
    """The distribution's own name for itself."""
    found = re.search(
        r'^PRETTY_NAME="?([^"\n]+)', text_or_empty(Path("/etc/os-release")), re.MULTILINE
    )
    return found.group(1) if found else platform.system()


def packages() -> dict[str, str | None]:
    """Versions of the packages that decide the numbers; ``None`` where one is not installed.

    The code of this one may be a checkout that no installer knows, so it says its version itself.
    """
    return {"trainbench": __version__, **{name: version(name) for name in PACKAGES}}


def git_state(folder: Path) -> dict[str, Any]:
    """Revision of the checkout at ``folder`` and whether it has uncommitted changes.

    Both are ``None`` for a folder inside of somebody else's repository, as an installed package is
    that lies in the environment of a project: that revision says nothing of this code.
    """
    top, _, revision = _output(
        "git", "-C", str(folder), "rev-parse", "--show-toplevel", "HEAD"
    ).partition("\n")
    revision = revision.strip()
    if not revision or not os.path.samefile(top, folder):
        return {"revision": None, "dirty": None}
    changes = _output("git", "-C", str(folder), "status", "--porcelain")
    return {"revision": revision, "dirty": bool(changes.strip())}


def in_container() -> bool:
    """Whether this process runs in a container."""
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def slug(system: dict[str, Any]) -> str:
    """A folder name for results: ``xeon-processor-2c`` or ``a100-sxm4-40gb-x8``."""
    gpus = system.get("gpus") or []
    if gpus and "GPU" in (system.get("device") or "GPU"):
        text = f"{gpus[0]['name']} x{len(gpus)}"
    else:
        text = f"{system['cpu']['model']} {system['cpu']['cores']}c"
    text = re.sub(r"\([^)]*\)|@.*?(?=\d+c$)|\bCPU\b|\bNVIDIA\b", " ", text)
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _nvidia_smi(*arguments: str) -> str:
    return _output("nvidia-smi", *arguments) if shutil.which("nvidia-smi") else ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # As Python reads names of files.
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def version(package: str) -> str | None:
    """The version of an installed package; ``None`` where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def held_bytes(pid: int) -> int:
    """The most resident memory that process ``pid`` ever held; 0 if it is gone.

    The kernel's high-water mark misses no peak between two looks; where there is none, as outside
    Linux, the present amount has to do.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0
    except OSError:
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
