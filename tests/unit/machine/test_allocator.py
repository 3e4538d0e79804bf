"""Freed memory that a process keeps."""

from __future__ import annotations

import subprocess
import sys

import pytest

WORK = """
import ctypes, resource, sys
import numpy as np
from trainbench.machine.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    several = lambda: [np.ones(100_000) for _ in range(6)]
    several()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        several()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_arrays_that_come_and_go_take_no_pages_from_the_kernel() -> None:
    def faults(word: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", WORK, word], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert faults("kept") < 10 < faults("as it is")
