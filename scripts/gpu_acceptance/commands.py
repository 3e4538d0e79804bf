"""The program's own commands, as people type them."""

from __future__ import annotations

import subprocess
import sys


def trainbench(*arguments: str) -> str:
    """What the command printed, on both streams; each line goes to the log of the claim at once."""
    print(f"$ trainbench {' '.join(arguments)}", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "trainbench", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    lines = []
    assert process.stdout
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    code = process.wait()
    tail = " | ".join(line.strip() for line in lines[-3:])
    assert code == 0, f"trainbench {arguments[0]} ended with {code}: {tail}"
    return "".join(lines)
