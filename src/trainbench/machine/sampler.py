"""Looks at the machine once a second while a trial runs, from the process that waits for it.

The trial's own processes do nothing for it. docs/performance.md says what a look costs.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from trainbench.machine import allotment, sensors
from trainbench.machine.load import LEAST_INTERVAL_S, Sample
from trainbench.progress import log_line

INTERVAL_S = 1.0
# The search for new processes reads all of /proc: it takes at most this share of one CPU.
_MOST_SEARCH = 1 / 200
# The unit of times in /proc, which Windows has not.
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@contextlib.contextmanager
def sampled(pid: int, file: Path | None) -> Iterator[None]:
    """Write a line on process ``pid``, those below it and the machine to ``file`` every second.

    The last line is written when the body ends, while what is left of ``pid`` is still there: its
    times count until its parent has waited for it.
    """
    if file is None:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_sample, args=(pid, file, ended), daemon=True, name="sampler")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sample(pid: int, file: Path, ended: threading.Event) -> None:
    try:
        with sensors.gpus() as gpus, open(file, "a", encoding="utf-8", newline="\n") as out:
            looks = _Looks(pid, gpus)
            next_s = time.perf_counter()
            while not ended.is_set():
                next_s = max(next_s + INTERVAL_S, time.perf_counter())
                ended.wait(next_s - time.perf_counter())
                sample = looks.since_last()
                if sample is not None:
                    out.write(json.dumps(asdict(sample)) + "\n")
                    out.flush()
    except psutil.NoSuchProcess:
        pass  # it was gone before it could be looked at
    except (OSError, psutil.Error) as error:
        log_line(f"{file}: {error}; the machine is not looked at any more")


@dataclass(frozen=True)
class _Counters:
    """What is counted from some time on: seconds of CPU time, times and microjoules."""

    at_s: float
    own_s: float
    work_s: float
    steal_s: float
    throttles: int | None
    throttled_s: float | None
    energy_uj: dict[str, tuple[int, int]]


class _Looks:
    """The state between two looks at process ``pid`` and at the machine."""

    def __init__(self, pid: int, gpus: sensors.GpuReader) -> None:
        self._numbers = frozenset(allotment.cpu_numbers())
        self._gpus = gpus
        self._root = psutil.Process(pid)
        # What looks counts as the trial's own.
        self._lookers = [psutil.Process()]
        if gpus.process:
            self._lookers.append(psutil.Process(gpus.process.pid))
        self._below: list[psutil.Process] = []
        self._next_search_s = 0.0
        # Durations come from the monotonic clock; one look at the wall clock dates them.
        self._anchor = time.time() - time.perf_counter()
        self._cpus = sensors.cpu_ticks(self._numbers)[2]
        self._before = self._counters()

    def since_last(self) -> Sample | None:
        """What happened since the last look; ``None`` if that was just now, or all is over."""
        try:
            before, now = self._before, self._counters()
        except psutil.NoSuchProcess:
            return None
        seconds = now.at_s - before.at_s
        if seconds < LEAST_INTERVAL_S:
            return None
        self._before = now
        whole = seconds * self._cpus
        own_s = max(0.0, now.own_s - before.own_s)
        foreign_s = max(0.0, now.work_s - before.work_s - own_s)
        return Sample(
            unix_s=round(self._anchor + now.at_s, 3),
            interval_s=round(seconds, 3),
            cpus=self._cpus,
            own_cpu=round(own_s / whole, 4),
            foreign_cpu=round(foreign_s / whole, 4),
            steal_cpu=round((now.steal_s - before.steal_s) / whole, 4),
            cpu_mhz=_rounded(sensors.cpu_mhz()),
            thermal_throttles=_more(before.throttles, now.throttles),
            quota_throttled_s=_rounded(_more(before.throttled_s, now.throttled_s)),
            resident_bytes=self._resident_bytes(),
            cpu_energy_j=_rounded(sensors.energy_j_between(before.energy_uj, now.energy_uj)),
            gpus=self._gpus.read(),
        )

    def _counters(self) -> _Counters:
        self._search()
        work, steal, _ = sensors.cpu_ticks(self._numbers)
        return _Counters(
            at_s=time.perf_counter(),
            own_s=self._own_s(),
            work_s=work / _TICKS_PER_S,
            steal_s=steal / _TICKS_PER_S,
            throttles=sensors.thermal_throttles(self._numbers),
            throttled_s=allotment.throttling(),
            energy_uj=sensors.energy_uj(),
        )

    def _search(self) -> None:
        """Find the processes below the root, unless that has cost too much of late."""
        started_s = time.perf_counter()
        if started_s < self._next_search_s:
            return
        before_s = time.thread_time()
        self._below = self._root.children(recursive=True)
        self._next_search_s = started_s + (time.thread_time() - before_s) / _MOST_SEARCH

    def _own_s(self) -> float:
        """CPU time of the trial and of what looks at it, and of those that the trial waited for."""
        total = sum(_cpu_s(process) for process in self._lookers)
        total += _cpu_s(self._root, children=True)
        for process in self._below:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += _cpu_s(process, children=True)
        return total

    def _resident_bytes(self) -> int:
        total = 0
        for process in (self._root, *self._below):
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total


def _cpu_s(process: psutil.Process, *, children: bool = False) -> float:
    times = process.cpu_times()
    own = float(times.user + times.system)
    return own + float(times.children_user + times.children_system) if children else own


def _more(before: float | None, now: float | None) -> Any:
    """By how much a count has grown, if it is told."""
    return None if before is None or now is None else now - before


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
