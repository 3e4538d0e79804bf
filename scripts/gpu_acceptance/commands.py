"""The program's own commands, as people type them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def trainbench(*arguments: str, codes: Sequence[int] = (0,)) -> str:
    """What the command printed, on both streams; each line goes to the log of the claim at once.

    Args:
        codes: exit codes with which it may end.
    """
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
    assert code in codes, f"trainbench {arguments[0]} ended with {code}: {tail}"
    return "".join(lines)
