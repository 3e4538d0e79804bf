"""The options of scripts/gpu_acceptance.sh; ``--plan`` and ``--one`` are its own and this one's."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gpu_acceptance import cnn, ncf  # noqa: F401  they register the claims
from gpu_acceptance.claims import CLAIMS, Case

DEFAULT_OUT = Path(__file__).parents[2] / "build" / "gpu_acceptance"


def _above_0(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: wanted a number above 0")
    return value


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu_acceptance.sh", allow_abbrev=False)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", action="append", choices=list(CLAIMS), metavar="CLAIM")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--devices", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--limit-s", type=_above_0, default=600)
    parser.add_argument("--minutes", type=_above_0, default=55)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    for own in ("--plan", "--one", "--folder"):
        parser.add_argument(own, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Parse, check, write; the exit code."""
    given = _options()
    if given.plan:
        # For the shell, which has no parser and makes the environment next.
        print("list" if given.list else given.devices)
        return 0
    if given.list:
        print("\n".join(f"{name}: {text}" for name, (text, _) in CLAIMS.items()))
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from gpu_acceptance import running
    from trainbench.trials.child import ended

    if given.one:
        running.check_one(given.one, Case(given.devices, Path(given.folder), given.out))
        return 0
    return ended(
        lambda: running.run(
            given.only or [],
            given.devices,
            given.out,
            limit_s=given.limit_s,
            minutes=given.minutes,
            resume=given.resume,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
