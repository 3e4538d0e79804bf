"""What was computed from the public logs of MLPerf Training v0.5, shipped as two CSV files.

The logs are those of mlperf/training_results_v0.5@7238ee7 (Apache-2.0), all runs of NCF and ResNet:
``results_v05.csv`` has the v0.5 statistic of each system, ``epochs_v05.csv`` a row for each run.
Intel's logs of NCF have no line for the batch size; it is taken from the settings that they print.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

SOURCE = "mlperf/training_results_v0.5@7238ee7"


@dataclass(frozen=True)
class PublishedResult:
    """The v0.5 statistic of one system, in seconds."""

    benchmark: str
    folder: str
    system: str
    runs: int
    converged: int
    score_s: float


@dataclass(frozen=True)
class PublishedRun:
    """One public run.

    ``epoch_of_target`` is the epoch, as the log numbers it, whose evaluation reached the target;
    ``None`` if none of its ``evaluations`` did.
    """

    benchmark: str
    folder: str
    batch_size: int
    target: float
    evaluations: int
    epoch_of_target: int | None


@functools.cache
def results() -> tuple[PublishedResult, ...]:
    """Every published result, in the order of the file."""
    return tuple(
        PublishedResult(
            benchmark=row["benchmark"],
            folder=row["folder"],
            system=row["system"],
            runs=int(row["runs"]),
            converged=int(row["converged"]),
            score_s=float(row["score_s"]),
        )
        for row in _rows("results_v05.csv")
    )


@functools.cache
def runs() -> tuple[PublishedRun, ...]:
    """Every public run, in the order of the file."""
    return tuple(
        PublishedRun(
            benchmark=row["benchmark"],
            folder=row["folder"],
            batch_size=int(row["batch_size"]),
            target=float(row["target"]),
            evaluations=int(row["evaluations"]),
            epoch_of_target=int(row["epoch_of_target"]) if row["epoch_of_target"] else None,
        )
        for row in _rows("epochs_v05.csv")
    )


def system_of(folder: str) -> str:
    """The system of a folder of public logs, as its result names it."""
    return next((r.system for r in results() if r.folder == folder), folder)


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = resources.files(__package__).joinpath(name).read_text("utf-8")
    return iter(csv.DictReader(text.splitlines()))
