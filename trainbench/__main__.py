"""``python -m trainbench`` in a clone without an installation: makes .venv once, and goes on there.

A folder without ``__init__.py`` gives way to every installed package of its name, and to ``src``.
"""

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Become the same command in an environment that has the package."""
    here = 'cd "$1" && source scripts/environment.sh && project_python'
    try:
        done = subprocess.run(
            ["bash", "-c", here, "bash", CHECKOUT], stdout=subprocess.PIPE, text=True, check=False
        )
    except KeyboardInterrupt:
        sys.exit(130)
    if done.returncode != 0:
        sys.exit(done.returncode)
    python = str(CHECKOUT / done.stdout.strip())
    paths = [str(CHECKOUT / "src"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.execv(python, [python, "-m", "trainbench", *sys.argv[1:]])


if __name__ == "__main__":
    main()
