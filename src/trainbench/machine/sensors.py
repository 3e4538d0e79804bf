"""What the kernel and NVIDIA's driver count or measure, as far as this machine tells it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from trainbench.files import text_or_empty
from trainbench.machine.load import Gpu

_SYS, _PROC = Path("/sys"), Path("/proc")
_QUERY = "index,utilization.gpu,power.draw,temperature.gpu,clocks.sm,clocks.mem,memory.used"


def cpu_ticks(numbers: Collection[int], proc: Path = _PROC) -> tuple[int, int, int]:
    """Clock ticks of work and of steal on the CPUs ``numbers`` so far, and how many CPUs these are.

    Work is that of processes, without interrupts, which nobody asked for by himself. Where the
    kernel shows a container CPUs by other numbers, all it shows are its own.
    """
    text = (proc / "stat").read_text(encoding="utf-8")
    rows = {
        int(number): [int(ticks) for ticks in row.split()]
        for number, row in re.findall(r"^cpu(\d+) (.*)$", text, re.MULTILINE)
    }
    own = [row for number, row in rows.items() if number in numbers] or list(rows.values())
    return sum(sum(row[:3]) for row in own), sum(sum(row[7:8]) for row in own), len(own)


def cpu_mhz() -> float | None:
    """The mean frequency of all CPUs."""
    found = psutil.cpu_freq()
    return None if found is None or not found.current else float(found.current)


def thermal_throttles(numbers: Collection[int], sys: Path = _SYS) -> int | None:
    """How often the cores of the CPUs ``numbers`` were slowed because of heat since the start."""
    names = (f"devices/system/cpu/cpu{n}/thermal_throttle/core_throttle_count" for n in numbers)
    told = [int(text) for name in names if (text := text_or_empty(sys / name)).isdigit()]
    return sum(told) if told else None


def energy_uj(sys: Path = _SYS) -> dict[str, tuple[int, int]]:
    """RAPL's energy of each CPU package so far, in microjoules, and where the count begins anew."""
    found = {}
    for zone in sorted((sys / "class" / "powercap").glob("intel-rapl:*")):
        energy, most = (
            text_or_empty(zone / "energy_uj"),
            text_or_empty(zone / "max_energy_range_uj"),
        )
        if zone.name.count(":") == 1 and energy.isdigit() and most.isdigit():
            found[zone.name] = int(energy), int(most)
    return found


def energy_j_between(
    before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> float | None:
    """The energy that all packages took between two looks; ``None`` where it cannot be read."""
    used = [
        (now - before[zone][0]) % (most + 1)
        for zone, (now, most) in after.items()
        if zone in before
    ]
    return sum(used) / 1e6 if used else None


@dataclass
class GpuReader:
    """The newest figures of each GPU from an ``nvidia-smi`` that prints them every second."""

    process: subprocess.Popen[bytes] | None
    _found: dict[int, Gpu] = field(default_factory=dict)
    _rest: bytes = b""

    def read(self) -> tuple[Gpu, ...]:
        """What is known of the GPUs now, by their index; never waits."""
        if self.process is None or self.process.stdout is None:
            return ()
        while block := self._block(self.process.stdout.fileno()):
            *lines, self._rest = (self._rest + block).split(b"\n")
            self._found.update(filter(None, map(gpu_line, lines)))
        if self.process.poll() is not None:
            self._found.clear()
        return tuple(gpu for _, gpu in sorted(self._found.items()))

    @staticmethod
    def _block(descriptor: int) -> bytes:
        try:
            return os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return b""


@contextlib.contextmanager
def gpus() -> Iterator[GpuReader]:
    """A reader of the GPUs that the driver lists, while the body runs; of none without a driver."""
    if not shutil.which("nvidia-smi"):
        yield GpuReader(None)
        return
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    process = subprocess.Popen(
        [*command, "--loop-ms=1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    try:
        yield GpuReader(process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def gpu_line(line: bytes) -> tuple[int, Gpu] | None:
    """Index and figures of one GPU from a line of ``nvidia-smi``; ``None`` for any other line."""
    index, *figures = (part.strip() for part in line.decode(errors="replace").split(","))
    if len(figures) != 6 or not index.isdigit():
        return None
    busy, power_w, temperature_c, sm_mhz, memory_mhz, mib = map(_number, figures)
    return int(index), Gpu(
        utilisation=None if busy is None else busy / 100,
        power_w=power_w,
        temperature_c=temperature_c,
        sm_mhz=sm_mhz,
        memory_mhz=memory_mhz,
        memory_bytes=None if mib is None else int(mib) << 20,
    )


def _number(text: str) -> float | None:
    """A figure; ``None`` for ``[N/A]`` and the like."""
    with contextlib.suppress(ValueError):
        return float(text)
    return None
