"""``python tests/chaos``: disturb runs at random, and demand that nothing false is left.

After each disturbance no process may live on, no output may be a traceback, no file may be half
written under its final name, and the next run has to end well, with the bytes of an undisturbed
one. What is damaged is found, or changes nothing. The same seed makes the same cases.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src"), str(HERE.parent / "fixtures")]

from parts import PARTS, drawn, missing  # noqa: E402
from undisturbed import Undisturbed, undisturbed  # noqa: E402

LONGEST_S = 600
"""A guard against a case that hangs; nothing is said about how long anything takes."""
TOLD_EVERY_S = 30


@dataclass(frozen=True)
class Ended:
    """How one case ended; ``failure`` says what does not hold."""

    part: str
    seed: int
    index: int
    said: str
    outcomes: tuple[str, ...] = ()
    failure: str = ""

    @property
    def again(self) -> str:
        """The command that repeats it."""
        case = f"--part {self.part} --seed {self.seed} --only {self.index}"
        return f"{sys.executable} tests/chaos {case}"


def main() -> int:
    """Run the parts that were asked for; 1 if a case of any failed."""
    asked = arguments()
    faulthandler.enable()
    started, ended, seed = time.monotonic(), list[Ended](), asked.seed
    with tempfile.TemporaryDirectory(prefix="chaos-undisturbed-") as folder:
        wanted = undisturbed(Path(folder) / "data")
        while True:
            ended += one_round(asked, seed, wanted)
            seed += 1
            if time.monotonic() - started >= 60 * asked.minutes:
                break
    print(table(asked.part, ended), flush=True)
    failures = [case for case in ended if case.failure]
    for case in failures:
        print(f"\nFAILED: {case.said}\n{case.failure}\nagain: {case.again}", flush=True)
    print(f"{len(ended)} cases, {len(failures)} failed, {time.monotonic() - started:.0f} s")
    return 1 if failures else 0


def one_round(asked: argparse.Namespace, seed: int, wanted: Undisturbed) -> list[Ended]:
    """The cases of one seed, several at a time."""
    chosen = [
        (name, seed, index)
        for name in asked.part
        if not missing(name)
        for index in ([asked.only] if asked.only is not None else range(PARTS[name].COUNT))
    ]
    ended, told = list[Ended](), time.monotonic()
    # Threads of earlier cases do not outlive a fork: each process runs one case after the other.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(asked.jobs, fork) as pool:
        for future in as_completed([pool.submit(run, *case, wanted) for case in chosen]):
            case = future.result()
            ended.append(case)
            if case.failure or asked.verbose:
                print(f"{case.part} {case.index}: {case.said}: {result(case)}", flush=True)
            if time.monotonic() - told > TOLD_EVERY_S:
                told = time.monotonic()
                print(f"seed {seed}: {len(ended)} of {len(chosen)} cases", flush=True)
    return ended


def run(name: str, seed: int, index: int, wanted: Undisturbed) -> Ended:
    """One case, whatever becomes of it."""
    case = drawn(name, seed, index)
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST_S)
    said, failure, outcomes = io.StringIO(), "", list[str]()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            outcomes.extend(PARTS[name].run(case, wanted))
    except AssertionError as error:
        failure = str(error) or traceback.format_exc()
    except Exception:
        failure = said.getvalue()[-2_000:] + traceback.format_exc()
    finally:
        signal.alarm(0)
    return Ended(name, seed, index, str(case), tuple(outcomes), failure)


def too_long(number: int, frame: Any) -> NoReturn:
    """End a case that hangs."""
    raise AssertionError(f"not ended after {LONGEST_S} s")


def result(case: Ended) -> str:
    """The end of a case, in words."""
    return "FAILED" if case.failure else ", ".join(case.outcomes)


def table(names: Sequence[str], ended: Iterable[Ended]) -> str:
    """Part, cases, how many ended how; the reason of a part that was left out."""
    ended = list(ended)
    lines = [f"{'part':<10}{'cases':>6}  ended"]
    for name in names:
        cases = [case for case in ended if case.part == name]
        outcomes = Counter(o for case in cases for o in case.outcomes)
        outcomes["FAILED"] = sum(bool(case.failure) for case in cases)
        told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common() if count)
        lines.append(f"{name:<10}{len(cases):>6}  {told or 'skipped: ' + missing(name)}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python tests/chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit codes: 0 all held, 1 a case failed, 2 usage.\n"
        "Example: python tests/chaos --minutes 60 --seed 100",
    )
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default 1)")
    parser.add_argument(
        "--minutes", type=float, default=0, help="go on with the next seeds for so long"
    )
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--only", type=int, metavar="CASE", help="this case of each part alone")
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="cases at a time (default 2)"
    )
    parser.add_argument("--verbose", action="store_true", help="a line for every case")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
