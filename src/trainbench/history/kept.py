"""The runs of a data directory: what each is, how much disk it takes, and taking old ones away."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainbench.errors import ConfigError, MachineError, TrainbenchError
from trainbench.files import is_own_folder, object_or_empty, require_own_folder
from trainbench.history.measured import number
from trainbench.history.reading import read_run
from trainbench.trials.notes import KEPT, notes_of
from trainbench.trials.paths import DataDir, RunDir

STILL_S = 3_600
CLOSED = "cannot be read"
"""In place of the state of a run that this user may not look into."""
REMOVING = ".removing-"
"""How the name of a folder begins while it is taken away."""


@dataclass(frozen=True)
class Kept:
    """One run of a data directory.

    Attributes:
        states: of its trials, by status.json.
        size_bytes: on the disk.
        latest: whether ``runs/latest`` is this run.
    """

    run: RunDir
    benchmark: str
    preset: str
    created_unix_s: float | None
    states: tuple[str, ...]
    trials: int
    reached: int
    size_bytes: int
    latest: bool
    note: str
    tags: tuple[str, ...]
    time_s: float | None

    @property
    def name(self) -> str:
        """The run id."""
        return self.run.root.name

    @property
    def state(self) -> str:
        """``running``, ``3 of 3 reached the target``, ``failed``, in few words."""
        if "running" in self.states:
            return "running"
        if not self.states:
            return "not started"
        if self.reached:
            return f"{self.reached} of {self.trials} reached"
        return ", ".join(dict.fromkeys(self.states))


def kept(data: DataDir) -> list[Kept]:
    """The runs of ``data``, the newest first; links are not followed.

    Raises:
        MachineError: there is no such folder.
    """
    if not data.runs.is_dir():
        raise MachineError(f"{data.runs}: no runs here; run the train step, or name --data-dir")
    latest = data.latest.resolve()
    folders = [p for p in data.runs.iterdir() if is_own_folder(p, data.root)]
    found = [one for p in folders if p.name[0] != "." and (one := _kept_or_closed(p, latest))]
    return sorted(found, key=lambda k: (k.created_unix_s or 0.0, k.name), reverse=True)


def _kept_or_closed(folder: Path, latest: Path) -> Kept | None:
    """The run in ``folder``, if there is one; of another user's, its name alone."""
    run = RunDir(folder)
    try:
        return _kept(run, latest) if run.run_file.is_file() else None
    except OSError:
        here = folder == latest
        return Kept(run, "", "", None, (CLOSED,), 0, 0, size_bytes(folder), here, "", (), None)


def _kept(run: RunDir, latest: Path) -> Kept:
    record, said = object_or_empty(run.run_file), notes_of(run)
    states = tuple(str(object_or_empty(t.status).get("state") or "no status") for t in run.trials)
    times: Sequence[float] = ()
    # Of a benchmark that is not installed here, or damaged: listed all the same.
    with contextlib.suppress(TrainbenchError):
        times = read_run(run).values.get("time_to_train_s", ())
    created, runs = number(record.get("created_unix_s")), record.get("runs")
    return Kept(
        run=run,
        benchmark=str(record.get("benchmark") or "ncf"),
        preset=str(record.get("preset") or ""),
        created_unix_s=created,
        states=states,
        trials=max(len(states), runs if type(runs) is int else 0),
        reached=states.count("converged"),
        size_bytes=size_bytes(run.root),
        latest=run.root == latest,
        note=said.note,
        tags=said.tags,
        time_s=sorted(times)[len(times) // 2] if times else None,
    )


def size_bytes(folder: Path) -> int:
    """What a folder takes on the disk; a file with several names counts once, links as links."""
    total, seen = 0, set[tuple[int, int]]()
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(place, name))
            except OSError:
                continue
            key = (found.st_dev, found.st_ino)
            if found.st_ino and key in seen:
                continue
            seen.add(key)
            blocks = getattr(found, "st_blocks", None)
            total += found.st_size if blocks is None else 512 * blocks
    return total


def find(data: DataDir, name: str) -> Kept:
    """The run called ``name``: its id, the beginning of one, ``latest``, or a path.

    Raises:
        ConfigError: there is none, or there are several.
    """
    runs = kept(data)
    if Path(name).name != name:
        # Another data directory may have a run of this name.
        near = [one for one in runs if one.run.root == Path(name).resolve()]
    else:
        wanted = data.latest.resolve().name if name == "latest" else name
        exact = [one for one in runs if one.name == wanted]
        near = exact or [one for one in runs if one.name.startswith(name)]
    if len(near) == 1:
        return near[0]
    if near:
        names = ", ".join(one.name for one in near[:5])
        raise ConfigError(f"{name!r}: {len(near)} runs begin so ({names}); write more of the name")
    known = ", ".join(one.name for one in runs[:5]) or "none"
    raise ConfigError(f"{data.runs}: no run {name!r}; wanted one of: {known}")


def to_prune(runs: Iterable[Kept], keep: int) -> tuple[list[Kept], list[tuple[Kept, str]]]:
    """What goes if the newest ``keep`` runs stay; and what stays of the others, and why."""
    gone, stay = [], []
    for one in list(runs)[keep:]:
        reason = _protected(one)
        if reason:
            stay.append((one, reason))
        else:
            gone.append(one)
    return gone, stay


def _protected(one: Kept) -> str:
    if one.latest:
        return "runs/latest"
    if KEPT in one.tags:
        return f"tagged {KEPT!r}"
    if CLOSED in one.states:
        return CLOSED
    return "running" if "running" in one.states and _moves(one.run) else ""


def _moves(run: RunDir) -> bool:
    """Whether a trial wrote something of late: one that was cut off does not."""
    written = [p.stat().st_mtime for p in run.root.glob("trial_*/*") if not p.is_symlink()]
    return time.time() - max(written, default=0.0) < STILL_S


def prune(data: DataDir, runs: Iterable[Kept]) -> int:
    """Take ``runs`` away, each whole or not at all; the bytes that are free now.

    Only while the data directory is held (``trials.lock``), so that none of them runs.

    Raises:
        DataIntegrityError: a folder that is a link by now. OSError: one that may not be removed.
    """
    freed = 0
    for one in runs:
        require_own_folder(one.run.root, data.root)
        away = one.run.root.with_name(REMOVING + one.name)
        one.run.root.rename(away)
        _remove(away)
        freed += one.size_bytes
    return freed


def clear_remains(data: DataDir) -> None:
    """Take away what a prune that was killed left half removed."""
    for path in data.runs.glob(f"{REMOVING}*"):
        if is_own_folder(path, data.root):
            _remove(path)


def _remove(folder: Path) -> None:
    """Take a folder away, also where its owner has made parts of it read-only."""
    for place, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            os.chmod(place, 0o700)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise MachineError(
            f"{folder}: cannot be removed whole ({error.strerror}); remove it as the user who owns "
            "what is in it"
        ) from None
