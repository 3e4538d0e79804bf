"""Two result files of ``trainbench cnn``: whether the second is slower, with confidence intervals.

Whole runs are the samples where both files hold several (``--repeat``). Otherwise blocks of
consecutive steps are, which do not show how processes differ.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainbench.errors import ConfigError
from trainbench.files import read_object
from trainbench.reporting.page.tables import Table
from trainbench.reporting.text import fixed, shown
from trainbench.statistics import Change, Interval, block_speeds, change, geometric_interval

RUNS, BLOCKS = "runs", "blocks of steps"
# Where a result is written, and how often it was measured, has no influence on a speed.
_HARMLESS = ("result_json", "benchmark_log_dir", "benchmark_test_id", "repeat", "display_every")
_MACHINE = ("cpu", "gpus", "memory_bytes", "packages", "kernel", "device")


@dataclass(frozen=True)
class SpeedComparison:
    """The second of two results against the first, the baseline.

    Attributes:
        samples: what was counted as independent: runs or blocks of steps.
        speeds: geometric mean of each, with its interval: their ratio is the change.
        settings: what differs, a row each, as in a report that compares runs.
    """

    names: tuple[str, str]
    samples: str
    speeds: tuple[Interval, Interval]
    change: Change
    confidence: float
    threshold_percent: float
    settings: Table
    cautions: tuple[str, ...]

    @property
    def slower(self) -> bool:
        """Whether the second is significantly slower by more than the threshold."""
        return self.change.p_slowdown < 1 - self.confidence

    @property
    def verdict(self) -> str:
        """The outcome in a few words."""
        if self.slower:
            return "slower"
        if self.change.p_value >= 1 - self.confidence:
            return "no significant difference"
        if self.change.percent > 0:
            return "faster"
        return f"slower, but not significantly by more than {self.threshold_percent:g} %"

    def to_json(self) -> str:
        """Everything as JSON; speeds in images per second."""
        record = {
            "schema": 1,
            **{name: getattr(self, name) for name in ("names", "samples", "verdict", "slower")},
            "speeds": [asdict(speed) for speed in self.speeds],
            "change": asdict(self.change),
            **{name: getattr(self, name) for name in ("confidence", "threshold_percent")},
            "settings": [list(row) for row in self.settings.rows],
            "cautions": self.cautions,
        }
        return json.dumps(record, indent=1) + "\n"

    def to_text(self) -> str:
        """The comparison for a reader."""
        found, level = self.change, f"{100 * self.confidence:g} % interval"
        effect = "" if found.hedges_g is None else f", Hedges' g {found.hedges_g:.2f}"
        rows = [
            ("", *self.names),
            ("images/sec, geometric mean", *(fixed(speed.mean, 2) for speed in self.speeds)),
            (level, *(_span(speed) for speed in self.speeds)),
            ("samples", *(f"{speed.samples} {self.samples}" for speed in self.speeds)),
        ]
        parts = [
            *_aligned(rows),
            "",
            f"change: {found.percent:+.2f} % ({level} {found.low:+.2f} % to {found.high:+.2f} %)",
            f"Welch's t on logarithms: p = {found.p_value:.3g}{effect}",
            f"slower by more than {self.threshold_percent:g} %: p = {found.p_slowdown:.3g}",
            f"verdict: {self.verdict}",
        ]
        if self.settings.rows:
            parts += ["", *_aligned([self.settings.columns, *self.settings.rows])]
        parts += [f"caution: {caution}" for caution in self.cautions]
        return "\n".join(parts) + "\n"


def compare_speeds(
    baseline: Path, other: Path, *, confidence: float = 0.95, threshold_percent: float = 0.0
) -> SpeedComparison:
    """Compare two files of ``--result_json``.

    Raises:
        ConfigError: a file that is not a result, or holds too few steps.
    """
    records = read(baseline), read(other)
    kind = RUNS if all(_runs(record) >= 2 for record in records) else BLOCKS
    first, second = (
        _speeds(path, record, kind) for path, record in zip((baseline, other), records, strict=True)
    )
    names = _names(baseline, other)
    settings = _settings(names, records)
    try:
        speeds = tuple(geometric_interval(each, confidence=confidence) for each in (first, second))
        found = change(first, second, confidence=confidence, threshold_percent=threshold_percent)
    except ValueError as error:
        raise ConfigError(f"{baseline} or {other}: {error}") from None
    return SpeedComparison(
        names=names,
        samples=kind,
        speeds=(speeds[0], speeds[1]),
        change=found,
        confidence=confidence,
        threshold_percent=threshold_percent,
        settings=settings,
        cautions=tuple(_cautions(kind, records, settings)),
    )


def read(path: Path) -> dict[str, Any]:
    """The record in ``path``.

    Raises:
        ConfigError: it is not a result of ``trainbench cnn``.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: a folder; to compare runs of NCF: trainbench report --run ...")
    if not path.exists():
        raise ConfigError(f"{path}: no such file; write it with --result_json")
    try:
        record = read_object(path)
        if not record["stats"]["images_per_sec"] > 0 or not record["batch_size"] > 0:
            raise ValueError("nothing was timed")
        return record
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: not a result of trainbench cnn --result_json ({error})"
        ) from None


def _runs(record: dict[str, Any]) -> int:
    return len((record.get("repeats") or {}).get("images_per_sec", ()))


def _speeds(path: Path, record: dict[str, Any], kind: str) -> list[float]:
    if kind == RUNS:
        return list(record["repeats"]["images_per_sec"])
    images = record["batch_size"] * record["stats"].get("num_workers", 1)
    try:
        return block_speeds(record.get("step_times_s", ()), images)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; run longer (--num_batches) or --repeat") from None


def _names(baseline: Path, other: Path) -> tuple[str, str]:
    if baseline.name != other.name:
        return baseline.name, other.name
    return str(baseline), str(other)


def _settings(names: tuple[str, str], records: Sequence[dict[str, Any]]) -> Table:
    """What differs between the two, with the same words as the comparison of NCF runs."""
    flags = sorted({key for r in records for key in r.get("params", {})} - {*_HARMLESS})
    rows = [(f"--{key}", *(shown(r.get("params", {}).get(key)) for r in records)) for key in flags]
    rows.append(("batch_size", *(shown(r["batch_size"]) for r in records)))
    for key in _MACHINE:
        rows.append((f"system {key}", *(shown(r.get("environment", {}).get(key)) for r in records)))
    rows.append(("degraded", *(shown([d["code"] for d in r.get("degraded", ())]) for r in records)))
    return Table(
        ("Setting", *names), tuple(row for row in rows if row[1] != row[2]), numeric_from=99
    )


def _cautions(kind: str, records: Sequence[dict[str, Any]], settings: Table) -> list[str]:
    found = []
    if kind == BLOCKS:
        found.append(
            "at least one side has a single run: steps of one run resemble one another and do not "
            "show how processes differ; measure both with --repeat=5"
        )
    elif min(_runs(record) for record in records) < 4:
        found.append("fewer than 4 runs on one side: only large differences can be detected")
    if any(row[0].startswith("--") or row[0] == "batch_size" for row in settings.rows):
        found.append("the two did not do the same work; see the settings")
    if any(row[0].startswith("system") for row in settings.rows):
        found.append("the two did not run on the same system; see the settings")
    return found


def _span(speed: Interval) -> str:
    if speed.low is None or speed.high is None:
        return "n/a"
    return f"{speed.low:,.2f} to {speed.high:,.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
