"""The sampler says what a real process took, to its end, and what it costs itself is little."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainbench.machine import allotment
from trainbench.machine.load import Sample, read_samples
from trainbench.machine.sampler import sampled

# Uses CPU time, not wall time, so that other work on the machine does not change how much it does.
BUSY = "import time\nwhile time.process_time() < {seconds}: pass"
WITH_CHILD = f"""
import subprocess, sys, time
sys.stdin.readline()
subprocess.run([sys.executable, "-c", {BUSY.format(seconds=0.8)!r}])
{BUSY.format(seconds=0.4)}
"""


def looked_at(program: str, file: Path) -> list[Sample]:
    """The lines on a process that goes on when the first of them is written."""
    command = [sys.executable, "-c", program]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        sampled(process.pid, file),
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        while not read_samples(file):
            time.sleep(0.05)
        process.stdin.write(b"go\n")
        process.stdin.close()
        process.stdout.read()
    return read_samples(file)


def cpu_s(samples: list[Sample]) -> float:
    return sum((s.own_cpu or 0) * (s.interval_s or 0) * (s.cpus or 0) for s in samples)


def test_the_time_of_all_processes_of_a_trial_is_its_own_to_the_last_second(tmp_path: Path) -> None:
    found = looked_at(WITH_CHILD, tmp_path / "machine.jsonl")
    # A last look that comes soon after another is left out; the sampler's own time is in it.
    assert 0.95 < cpu_s(found) < 2.5
    assert {s.cpus for s in found} == {len(allotment.cpu_numbers())}
    assert max(s.resident_bytes or 0 for s in found) > 4 << 20
    assert all(0 <= share <= 1 for s in found for share in (s.foreign_cpu, s.steal_cpu) if share)


def test_a_file_that_cannot_be_written_is_told_and_hurts_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sampled(os.getpid(), tmp_path / "absent" / "machine.jsonl"):
        pass
    assert "the machine is not looked at any more" in capsys.readouterr().err
