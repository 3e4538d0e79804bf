"""``python -m trainbench``, and the command ``trainbench``."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; Ctrl-C ends it as interrupted also while it is still being imported."""
    try:
        from trainbench.cli.main import main as run

        run()
    except KeyboardInterrupt:
        from trainbench.trials import signals

        print("error: interrupted", file=sys.stderr)
        signals.rest()
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
