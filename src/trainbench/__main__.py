"""``python -m trainbench``."""

from __future__ import annotations

from trainbench.cli.main import main

if __name__ == "__main__":
    main()
