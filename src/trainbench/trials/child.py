"""``python -m trainbench.trials.child SPEC``: a trial, a worker or a run in a process of its own.

SPEC is a JSON file, ``{"entry": "module:name", "parent": process, "arguments": {...}}``. The entry
takes the arguments and returns the exit code of the process, which ends with its parent.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainbench.benchmark import find, load
from trainbench.configuration import record
from trainbench.display.visible import guard_terminal
from trainbench.errors import Interrupted, MachineError, TrainbenchError, system_text
from trainbench.files import damage_told, read_object, write_json
from trainbench.machine import allotment, extras
from trainbench.machine.privileges import gain_nothing
from trainbench.trials import signals
from trainbench.trials.parent_watch import die_with_parent
from trainbench.trials.spec import TrialSpec


@dataclass(frozen=True)
class Spec:
    """The content of the file: what to call in the process, and with what."""

    entry: str
    parent: int
    arguments: Any


def command(path: Path, entry: str, arguments: Any) -> list[str]:
    """The command that calls ``entry`` with ``arguments``, which are written to ``path``."""
    write_json(path, Spec(entry, os.getpid(), arguments), sort_keys=False)
    return [sys.executable, "-m", "trainbench.trials.child", str(path)]


def trial(arguments: Mapping[str, Any]) -> int:
    """The entry of a trial of any benchmark; ``arguments`` are the fields of ``TrialSpec``."""
    spec = TrialSpec.from_json(arguments)
    return int(load(find(spec.benchmark).trial)(spec).exit_code)


def ended(work: Callable[[], int]) -> int:
    """The exit code that ``work`` returns, or that of an expected error, which is printed."""
    try:
        return work()
    except (Exception, KeyboardInterrupt) as error:
        code = exit_code_of(error)
        if code is None:
            raise
        return code


def exit_code_of(error: BaseException) -> int | None:
    """Print ``error`` in one line and return its exit code; None for an unexpected error."""
    ending = ending_of(error)
    if ending is None:
        return None
    print(f"error: {ending[1]}", file=sys.stderr)
    return ending[0]


def ending_of(error: BaseException) -> tuple[int, str] | None:
    """Exit code and message of a process that ends with ``error``; None: an unexpected error."""
    if signals.caused(error):
        return Interrupted.exit_code, "interrupted"
    if isinstance(error, TrainbenchError):
        return error.exit_code, str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and error.name in extras.EXTRAS:
        advice = extras.advice(error.name)
        return MachineError.exit_code, f"{error.name} is not installed: {advice}"
    if isinstance(error, OSError) and error.errno is not None:
        return MachineError.exit_code, system_text(error)
    return None


def last_error(text: str) -> str:
    """The last line that says ``error:``, or else the last line of a traceback or of anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"(error|\w*(Error|Exception)): ", line)]
    last = (told or lines or [""])[-1]
    return last.removeprefix("error: ")[:300]


def main(path: Path) -> int:
    """Do what the spec in ``path`` says and return its exit code."""
    guard_terminal()
    code = ended(lambda: _done(path))
    signals.rest()
    return code


def _done(path: Path) -> int:
    signals.listen()
    with damage_told(path, "a spec", "see trainbench.trials.child"):
        spec = record(Spec, read_object(path))
    die_with_parent(spec.parent)
    gain_nothing()
    # TensorFlow reads them when imported: its start-up notes would bury the progress lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.update({**allotment.thread_variables(), **os.environ})
    return int(load(spec.entry)(spec.arguments))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
