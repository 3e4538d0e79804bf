"""The program's own commands, as people type them."""

from __future__ import annotations

import subprocess
import sys


def trainbench(*arguments: str) -> str:
    """What the command printed, on both streams; it goes to the log of the claim too."""
    done = subprocess.run(
        [sys.executable, "-m", "trainbench", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    print(f"$ trainbench {' '.join(arguments)}\n{done.stdout}", flush=True)
    tail = " | ".join(done.stdout.splitlines()[-3:])
    assert done.returncode == 0, f"trainbench {arguments[0]} ended with {done.returncode}: {tail}"
    return done.stdout
