"""What the status of every trial has in common, whatever it trains.

What a benchmark writes is a frozen dataclass of its own, with at least ``state``, ``exit_code``,
``message`` and ``degraded``.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trainbench.benchmark import Quality
from trainbench.errors import MachineError, TrainbenchError, system_text
from trainbench.files import fill, object_or_empty, write_json
from trainbench.progress import log_line
from trainbench.trials import signals

StatusT = TypeVar("StatusT", bound=Any)
Notes = list[tuple[str, str, Any]]
"""(code, sentence, whether it applies) of each reason why a result is degraded."""


@dataclass(frozen=True)
class Degradation:
    """One way in which a run departs from the full benchmark, in words."""

    code: str | None
    text: str | None


@dataclass(frozen=True)
class Status:
    """How a trial ended, from status.json, where ``best`` and ``target`` go by their own names."""

    state: str | None
    exit_code: int | None
    message: str | None
    seed: str | None
    time_to_train_s: float | None
    best: float | None
    target: float | None
    device: str | None
    precision: str | None
    degraded: tuple[Degradation, ...] | None


def read_status(path: Path, quality: Quality) -> Status:
    """The status in ``path``, with ``None`` for what it does not say or is damaged."""
    return fill(Status, object_or_empty(path), keys=quality.names)


def write_status(status: Any, path: Path) -> None:
    """Replace status.json; a seed is text there."""
    record = dataclasses.asdict(status)
    if "seed" in record:
        record["seed"] = str(record["seed"])
    write_json(path, record, sort_keys=False)


@contextlib.contextmanager
def at_an_end(lost: str) -> Iterator[None]:
    """Say that ``lost`` cannot be recorded, where a disk keeps the body from it; raise nothing.

    What is recorded at an end is less than why it ended.
    """
    try:
        yield
    except OSError as error:
        log_line(f"{system_text(error)}; not recorded: {lost}")


def failed_status(status: StatusT, error: BaseException) -> StatusT:
    """``status`` as it ends with ``error``: failed, or interrupted by the user or the system."""
    if signals.caused(error):
        return _replaced(status, state="interrupted", exit_code=130, message="interrupted")
    code = error.exit_code if isinstance(error, TrainbenchError) else 1
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        code, text = MachineError.exit_code, system_text(error)
    return _replaced(status, state="failed", exit_code=code, message=text)


def degraded_status(status: StatusT, code: str, text: str) -> StatusT:
    """``status`` with one more reason why the result is degraded."""
    return _replaced(status, degraded=(*status.degraded, {"code": code, "text": text}))


def code_notes(division: str, machine: Mapping[str, Any]) -> Notes:
    """The notes on the rules and the code of a result.

    Args:
        machine: the content of system.json.
    """
    git = machine.get("git") or {}
    return [
        ("open_division", "hyperparameters of the open division", division == "open"),
        ("dirty_tree", "the code has uncommitted changes", git.get("dirty")),
        ("unknown_revision", "the code's git revision is unknown", not git.get("revision")),
    ]


def applying(notes: Notes) -> list[tuple[str, str]]:
    """(code, sentence) of the notes that apply."""
    return [(code, text) for code, text, applies in notes if applies]


def _replaced(status: StatusT, **changes: Any) -> StatusT:
    found: StatusT = dataclasses.replace(status, **changes)
    return found
