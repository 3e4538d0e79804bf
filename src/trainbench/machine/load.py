"""What a trial, and all else, took of the machine: the lines of machine.jsonl and what they mean.

Shares are of the time of the CPUs that the trial may run on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainbench.files import fill, parse_object

# A tenth of a small machine is more than daemons and the kernel take of one that is idle, and much
# less than a busy loop does. A large machine is busy where most of one CPU is taken all the time.
BUSY_SHARE, BUSY_CPUS = 0.1, 0.75
# Of the samples; a disturbance that is shorter is no state of the machine.
BUSY_PART = 1 / 4
# A look that comes sooner after another says little, and is left out.
LEAST_INTERVAL_S = 0.2
_STEAL_WORTH_A_WORD = 0.01


@dataclass(frozen=True)
class Gpu:
    """What NVIDIA's driver says of one GPU; ``utilisation`` is a share."""

    utilisation: float | None
    power_w: float | None
    temperature_c: float | None
    sm_mhz: float | None
    memory_mhz: float | None
    memory_bytes: int | None


@dataclass(frozen=True)
class Sample:
    """One line of machine.jsonl, on the ``interval_s`` that ended at ``unix_s``.

    ``None`` is what this machine does not tell. ``own_cpu`` is of the trial's processes and of the
    one that waits for them, ``foreign_cpu`` of all others on the same CPUs, without interrupts;
    ``steal_cpu`` went to other virtual machines. ``resident_bytes`` counts pages that several of
    the trial's processes share once for each.
    """

    unix_s: float | None
    interval_s: float | None
    cpus: int | None
    own_cpu: float | None
    foreign_cpu: float | None
    steal_cpu: float | None
    cpu_mhz: float | None
    thermal_throttles: int | None
    quota_throttled_s: float | None
    resident_bytes: int | None
    cpu_energy_j: float | None
    gpus: tuple[Gpu, ...] | None


@dataclass(frozen=True)
class Load:
    """What ``samples`` say together: means of shares, sums of counts, the highest memory.

    ``busy_samples`` of them had more foreign work and steal than ``threshold`` allows.
    """

    samples: int
    busy_samples: int
    cpus: int
    own_cpu: float
    foreign_cpu: float
    steal_cpu: float
    cpu_mhz: float | None
    thermal_throttles: float | None
    quota_throttled_s: float | None
    resident_bytes: int | None
    cpu_energy_j: float | None
    gpu_utilisation: float | None
    gpu_power_w: float | None

    @property
    def busy(self) -> bool:
        """Whether others took too much of the machine: in the mean, and not only for a moment."""
        taken = self.foreign_cpu + self.steal_cpu
        return taken >= threshold(self.cpus) and self.busy_samples > self.samples * BUSY_PART

    def sentence(self) -> str:
        """What others took while the clock ran, in words."""
        of_what = "the CPU" if self.cpus == 1 else f"the {self.cpus} CPUs"
        text = f"while the clock ran, other processes took {100 * self.foreign_cpu:.1f} %"
        if self.steal_cpu >= _STEAL_WORTH_A_WORD:
            text += f" and other virtual machines {100 * self.steal_cpu:.1f} % (steal)"
        return f"{text} of the time of {of_what}"


def read_samples(file: Path) -> list[Sample]:
    """The lines of a machine.jsonl that can be read; none where there is no file."""
    found = []
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            found.append(fill(Sample, parse_object(line)))
    return found


def threshold(cpus: int) -> float:
    """The share from which on others make a machine of so many CPUs busy."""
    return min(BUSY_SHARE, BUSY_CPUS / cpus)


def timed(samples: Sequence[Sample], start_unix_s: float, stop_unix_s: float) -> list[Sample]:
    """The samples that lie in this time by more than half; if it is too short, those at it."""
    inside = [s for s in samples if _share_within(s, start_unix_s, stop_unix_s) > 0.5]
    around = (start_unix_s - LEAST_INTERVAL_S, stop_unix_s + LEAST_INTERVAL_S)
    return inside or [s for s in samples if _share_within(s, *around) > 0]


def load_of(samples: Sequence[Sample]) -> Load | None:
    """What ``samples`` say together; ``None`` where none tells the shares."""
    known = [s for s in samples if None not in (s.cpus, s.own_cpu, s.foreign_cpu, s.interval_s)]
    cpus = max((s.cpus or 0 for s in known), default=0)
    if not cpus:
        return None
    taken = [(s.foreign_cpu or 0.0) + (s.steal_cpu or 0.0) for s in known]
    return Load(
        samples=len(known),
        busy_samples=sum(share >= threshold(cpus) for share in taken),
        cpus=cpus,
        own_cpu=_mean(known, lambda s: s.own_cpu) or 0.0,
        foreign_cpu=_mean(known, lambda s: s.foreign_cpu) or 0.0,
        steal_cpu=_mean(known, lambda s: s.steal_cpu) or 0.0,
        cpu_mhz=_mean(known, lambda s: s.cpu_mhz),
        thermal_throttles=_sum(s.thermal_throttles for s in known),
        quota_throttled_s=_sum(s.quota_throttled_s for s in known),
        resident_bytes=max((s.resident_bytes for s in known if s.resident_bytes), default=None),
        cpu_energy_j=_sum(s.cpu_energy_j for s in known),
        gpu_utilisation=_mean(known, _utilisation),
        gpu_power_w=_mean(known, _power_w),
    )


def _share_within(sample: Sample, start: float, stop: float) -> float:
    """How much of a sample's interval lies between two times."""
    end, length = sample.unix_s, sample.interval_s
    if end is None or not length or length <= 0:
        return 0.0
    return max(0.0, min(end, stop) - max(end - length, start)) / length


def _mean(samples: Sequence[Sample], value: Callable[[Sample], float | None]) -> float | None:
    """The mean of what the samples tell, each weighed by its length."""
    told = [(found, s.interval_s or 0.0) for s in samples if (found := value(s)) is not None]
    total = sum(length for _, length in told)
    return sum(found * length for found, length in told) / total if total else None


def _sum(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) if told else None


def _utilisation(sample: Sample) -> float | None:
    """The mean of the GPUs."""
    told = [gpu.utilisation for gpu in sample.gpus or () if gpu.utilisation is not None]
    return sum(told) / len(told) if told else None


def _power_w(sample: Sample) -> float | None:
    """All GPUs together."""
    return _sum(gpu.power_w for gpu in sample.gpus or ())
