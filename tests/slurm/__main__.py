"""``python tests/slurm [slurm | namespaces]``: see scripts/slurm.sh."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import jobs
import namespaces
from product import prepare

if __name__ == "__main__":
    parts = sys.argv[1:] or ["slurm", "namespaces"]
    # By name in /tmp: the socket of munge has to have a short path.
    root = Path(tempfile.mkdtemp(prefix="trainbench-slurm-"))
    try:
        prepare(root / "data")
        if "slurm" in parts:
            jobs.main(root / "data", root / "s")
        if "namespaces" in parts:
            namespaces.main(root / "data", root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
