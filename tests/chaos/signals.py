"""Signals at random moments to random processes of a run; the next run ends as if none had been."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from processes import processes_in
from undisturbed import (
    CODES,
    Undisturbed,
    finished,
    pipeline,
    require_no_traceback,
    require_whole,
    scratch,
)

COUNT = 6
A_RUN = 5
"""Moments in a row in which one data folder is disturbed before it may finish."""
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGSTOP")
STOPPED_S = 1.0
GONE_WITHIN_S = 90.0


@dataclass(frozen=True)
class Moment:
    """A signal after this share of the time of a run, to this one of its processes."""

    share: float
    signal: str
    whom: float

    def __str__(self) -> str:
        return f"{self.signal} at {self.share:.0%}"


@dataclass(frozen=True)
class Case:
    """The moments of one data folder."""

    moments: tuple[Moment, ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.moments))


def drawn(chance: random.Random, index: int) -> Case:
    """Moments all over a run, each signal as often."""
    names = chance.sample(SIGNALS, A_RUN)
    return Case(tuple(Moment(chance.random(), name, chance.random()) for name in names))


def run(case: Case, wanted: Undisturbed) -> Iterator[str]:
    """Disturb runs in one folder, each after the other, and then none."""
    with scratch() as name:
        data = Path(name) / "data"
        for moment in case.moments:
            yield disturb(moment, data, wanted.length_s)
        assert finished(data) == wanted.products, f"after {case}: another result"


def disturb(moment: Moment, data: Path, length_s: float) -> str:
    """Send a signal to one process of a run, and wait until all of them are gone."""
    process = pipeline(data)
    family: list[psutil.Process] = []
    try:
        with subprocess.Popen(
            ["cat"], stdin=process.stdout, stdout=subprocess.PIPE, text=True, errors="replace"
        ) as copy:
            _wait(process, moment.share * length_s)
            family = _family(process)
            whom = _signalled(family, moment)
            output = copy.communicate(timeout=3 * GONE_WITHIN_S)[0]
        code = process.wait()
        said = f"{moment.signal} to {whom} at {moment.share:.0%}: exit {code}"
        _, alive = psutil.wait_procs(family, timeout=GONE_WITHIN_S)
        assert not alive, f"{said}: {alive} lived on"
        assert not processes_in(data), f"{said}: a process is left"
    finally:
        for one in family:
            if one.is_running():
                one.kill()
    require_no_traceback(output, said)
    assert code in CODES or -code == getattr(signal, moment.signal), f"{said}\n{output}"
    require_whole(data)
    return f"{moment.signal} to {whom}"


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def _family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signalled(family: list[psutil.Process], moment: Moment) -> str:
    if not family:
        return "nobody"
    victim = family[int(moment.whom * len(family))]
    try:
        words = " ".join(victim.cmdline())
        victim.send_signal(getattr(signal, moment.signal))
        if moment.signal == "SIGSTOP":
            time.sleep(STOPPED_S)
            victim.send_signal(signal.SIGCONT)
    except psutil.Error:
        return "nobody"
    parts = {"trials.child": "the trial", "input.generate": "the producer"}
    return next((part for word, part in parts.items() if word in words), "the pipeline")
