"""Links from a page to the files of its run: relative, and only to those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from trainbench.files import is_own_file
from trainbench.reporting.page.tables import MOST_TRIALS
from trainbench.trials.paths import RunDir, TrialDir

NONE: Mapping[int, Sequence[str]] = {}


def files_of(run: RunDir) -> Mapping[int, Sequence[str]]:
    """The files of each trial that people read, by their paths in the run's folder.

    Wherever the page is written, it is the same: links are those of the folder ``report``.
    """
    found = {}
    for trial in run.trials[:MOST_TRIALS]:
        stitched = sorted(run.root.glob(f"results/*/*/result_{trial.index}.txt"))
        there = [
            path for path in (*_read_by_people(trial), *stitched) if is_own_file(path, run.root)
        ]
        if there:
            found[trial.index] = [path.relative_to(run.root).as_posix() for path in there]
    return found


def _read_by_people(trial: TrialDir) -> list[Path]:
    logs = [trial.stdout, trial.generator_log, *trial.raw_logs]
    return [*logs, trial.status, trial.epochs, trial.phases, trial.machine, trial.result]


def hrefs(files: Mapping[int, Sequence[str]]) -> dict[str, str]:
    """The link to each file from the folder ``report``."""
    return {path: f"../{quote(path)}" for paths in files.values() for path in paths}
