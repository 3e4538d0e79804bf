"""Finds what is stored below folders: runs, reports and results of ``trainbench cnn``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainbench.display.visible import one_line
from trainbench.errors import ConfigError, TrainbenchError
from trainbench.files import object_or_empty
from trainbench.history.measured import Measured
from trainbench.history.reading import read, read_cnn, read_run
from trainbench.trials.paths import RunDir

# Folders of a data directory that hold no results, and may hold very much else.
_WITHOUT = {"raw", "cache", "images", "work", "workers", "history"}


@dataclass(frozen=True)
class Stored:
    """What was found: runs, each once, and (file or folder, reason) of what could not be read."""

    runs: tuple[Measured, ...]
    unreadable: tuple[tuple[str, str], ...] = ()
    copies: int = 0


def stored(places: Iterable[Path]) -> Stored:
    """Everything in or below ``places``, in order of time; links below them are not followed.

    Raises:
        ConfigError: one of ``places`` is not there, or is a file that is no result.
    """
    found: dict[tuple[object, ...], Measured] = {}
    unreadable, copies = [], 0
    for place in places:
        for path in _candidates(place):
            try:
                run = _read(path)
            except TrainbenchError as error:
                unreadable.append((one_line(str(path)), str(error)))
                continue
            if run is None:
                continue
            key = (run.kind, run.name, run.created_unix_s, run.task_key, run.fingerprint)
            copies += key in found
            found.setdefault(key, run)
    runs = sorted(found.values(), key=lambda r: (r.created_unix_s or 0.0, r.name))
    return Stored(tuple(runs), tuple(unreadable), copies)


def _candidates(place: Path) -> Iterator[Path]:
    """Folders of runs, and files that may be results."""
    if place.is_file():
        read(place)  # A file that was named has to be one.
        yield place
        return
    if not place.is_dir():
        raise ConfigError(
            f"{place}: no such folder; wanted a data directory, a folder of runs or of results"
        )
    for folder, below, names in os.walk(place.resolve()):
        if "run.json" in names:
            below.clear()
            yield Path(folder)
            continue
        below[:] = sorted(n for n in below if n not in _WITHOUT and not n.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.endswith(".json") and not path.is_symlink() and path.is_file():
                yield path


def _read(path: Path) -> Measured | None:
    """What is stored at ``path``; ``None`` where a JSON file is something else."""
    if path.is_dir():
        return read_run(RunDir(path))
    record = object_or_empty(path)
    if "stats" in record and "batch_size" in record:
        return read_cnn(path, record)
    return read(path) if "schema_version" in record and "trials" in record else None
