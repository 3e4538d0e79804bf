"""Finds what is stored below folders: runs, reports and results of ``trainbench cnn``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainbench.display.visible import one_line
from trainbench.errors import ConfigError, DataIntegrityError, TrainbenchError, system_text
from trainbench.files import read_object
from trainbench.history.measured import Measured
from trainbench.history.reading import read, read_cnn, read_run
from trainbench.trials.paths import RunDir

# Folders of a data directory that hold no results, and may hold very much else.
_WITHOUT = {"raw", "cache", "images", "work", "workers", "history"}
# Of two values of one measurement by two clocks.
_SAME = 0.01


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
    found: dict[tuple[object, ...], list[Measured]] = {}
    unreadable: list[tuple[str, str]] = []
    copies = 0

    def refused(error: OSError) -> None:
        unreadable.append((one_line(str(error.filename)), system_text(error)))

    for place in places:
        for path in _candidates(place, refused):
            try:
                run = _read(path)
            except OSError as error:
                refused(error)
                continue
            except TrainbenchError as error:
                unreadable.append((one_line(str(path)), str(error)))
                continue
            if run is None:
                continue
            key = (run.kind, run.name, run.created_unix_s, run.task_key, run.fingerprint)
            known = found.setdefault(key, [])
            if any(_is_copy(run, each) for each in known):
                copies += 1
            else:
                known.append(run)
    runs = sorted(
        (run for each in found.values() for run in each),
        key=lambda r: (r.created_unix_s or 0.0, r.name),
    )
    return Stored(tuple(runs), tuple(unreadable), copies)


def _is_copy(run: Measured, known: Measured) -> bool:
    """Whether two runs of one name and second are one; two machines of a kind may begin so.

    A report has its times from the log, a run's folder from another clock.
    """
    shared = run.values.keys() & known.values.keys()
    return all(
        math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME)
        for key in shared
        for one, other in zip(run.values[key], known.values[key], strict=False)
    )


def _candidates(place: Path, refused: Callable[[OSError], None]) -> Iterator[Path]:
    """Folders of runs, and files that may be results; ``refused`` hears of what cannot be read."""
    if place.is_file():
        read(place)  # A file that was named has to be one.
        yield place
        return
    if not place.is_dir():
        raise ConfigError(
            f"{place}: no such folder; wanted a data directory, a folder of runs or of results"
        )
    for folder, below, names in os.walk(place.resolve(), onerror=refused):
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
    try:
        record = read_object(path)
    except ValueError as error:
        # Another program's file may be a list; a damaged one may have been a result.
        if path.read_bytes().lstrip()[:1] == b"[":
            return None
        raise DataIntegrityError(f"damaged ({error}); copy it again") from None
    if "stats" in record and "batch_size" in record:
        return read_cnn(path, record)
    return read(path) if "schema_version" in record and "trials" in record else None
