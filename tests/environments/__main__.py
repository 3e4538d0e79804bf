"""``python tests/environments``: put the project on other machines, as they are, and read one line.

Each environment is a machine, or a state of one, with a command and the line that has to be in its
output. Those that cannot be made here stand in docs/environments.md as not run, with the reason.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src"), str(HERE.parent / "fixtures")]

import page  # noqa: E402
from environment import Environment, environments  # noqa: E402


@dataclass(frozen=True)
class Seen:
    """How one environment ended."""

    name: str
    how: str
    seconds: float = 0.0
    output: str = ""

    @property
    def failed(self) -> bool:
        """Whether the expected line or exit code did not come."""
        return bool(self.output)


def main() -> int:
    """Run what was asked for; 1 if one of them did not say its line."""
    known = {each.name: each for each in environments()}
    asked = arguments(list(known))
    chosen = [known[name] for name in asked.names] if asked.names else list(known.values())
    if asked.ci:
        chosen = [each for each in chosen if each.ci]
    if asked.list:
        print("\n".join(f"{each.name:<28} {each.state:<8} {each.what}" for each in chosen))
        return 0
    seen = [] if asked.page else [told(each) for each in chosen]
    failures = [each for each in seen if each.failed]
    for each in failures:
        print(f"\nFAILED: {each.name}: {each.how}\n{each.output}", flush=True)
    if seen:
        print("\n" + table(seen))
    if asked.write or asked.page:
        page.write(list(known.values()), {each.name: each.how for each in seen})
    return 1 if failures else 0


def told(environment: Environment) -> Seen:
    """``run``, with a line before and after it."""
    print(f"{environment.name}: {environment.what}", flush=True)
    seen = run(environment)
    print(f"{environment.name}: {seen.how} ({seen.seconds:.0f} s)", flush=True)
    return seen


def run(environment: Environment) -> Seen:
    """Make one environment in an empty folder, run its command and look for its line."""
    missing = environment.not_run or environment.missing()
    if environment.run is None or missing:
        return Seen(environment.name, f"not run: {missing}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="env-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        try:
            ended = environment.run(Path(folder).resolve())
            problem = environment.problem(ended)
            output = f"{ended.output[-4_000:]}\n{problem}" if problem else ""
        except Exception:  # noqa: BLE001  one environment ends, the others go on
            problem, output = "was not made", traceback.format_exc()
    how = f"FAILED: {problem}" if problem else "seen"
    return Seen(environment.name, how, time.monotonic() - started, output)


def table(seen: list[Seen]) -> str:
    """Name, end and seconds of each, and the sum."""
    lines = [f"{each.name:<28} {each.seconds:>5.0f} s  {each.how}" for each in seen]
    count = sum(each.how == "seen" for each in seen)
    lines.append(f"{count} of {len(seen)} seen, {sum(each.seconds for each in seen):.0f} s")
    return "\n".join(lines)


def arguments(names: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python tests/environments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Most need root, a Docker engine and the images. Exit codes: 0 each said its line, "
        "1 one did not, 2 usage.\nExample: python tests/environments --write path-with-colon",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="these alone (default: all)")
    parser.add_argument("--list", action="store_true", help="name them and run nothing")
    parser.add_argument("--ci", action="store_true", help="those that fit into a CI run")
    parser.add_argument("--write", action="store_true", help="then write docs/environments.md")
    parser.add_argument("--page", action="store_true", help="write that page and run nothing")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(names))
    if unknown:
        parser.error(f"no environment {unknown[0]!r}; --list names them")
    return asked


if __name__ == "__main__":
    sys.exit(main())
