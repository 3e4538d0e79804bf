"""Runs side by side: what was set differently, what came out, was the input the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from trainbench.reporting.records import Epoch, Results, Trial
from trainbench.reporting.tables import Table
from trainbench.reporting.text import NA, count, fixed, plural, seconds, shown
from trainbench.reporting.verdict import judge


@dataclass(frozen=True)
class Comparison:
    """Tables with one column per run, the first being the report's own.

    ``settings`` holds only what differs; ``inputs`` has one row per pair of trials.
    """

    outcomes: Table
    settings: Table
    inputs: Table


def compare_runs(runs: Sequence[Results]) -> Comparison:
    """The comparison of the first of ``runs`` with the others, all of one benchmark."""
    names = _names(runs)
    settings = tuple(row for row in _settings(runs) if len(set(row[1:])) > 1)
    pairs = [
        row
        for other, name in zip(runs[1:], names[1:], strict=True)
        for row in _inputs(runs[0], other, name)
    ]
    return Comparison(
        outcomes=Table(("", *names), tuple(_outcomes(runs)), numeric_from=1),
        settings=Table(("Setting", *names), settings, numeric_from=99),
        inputs=Table(
            ("Against", "Trials", "Seeds", "Epochs with equal input"), tuple(pairs), numeric_from=99
        ),
    )


def _names(runs: Sequence[Results]) -> list[str]:
    """The run ids, made distinct by a number where one occurs twice."""
    ids = [r.run.run_id or NA for r in runs]
    return [f"{name} ({n})" if ids.count(name) > 1 else name for n, name in enumerate(ids, start=1)]


def _outcomes(runs: Sequence[Results]) -> list[tuple[str, ...]]:
    def row(label: str, value: Any) -> tuple[str, ...]:
        return label, *(value(r) for r in runs)

    quality = runs[0].quality
    return [
        row("Outcome", lambda r: judge(r).headline),
        row("Level-2 findings", lambda r: count(judge(r).level_findings["2"])),
        row("Time to train, median", lambda r: seconds(_median([t.time_s for t in r.trials]))),
        row(
            f"{quality.every.capitalize()}s to target, median",
            lambda r: fixed(_median(_epochs_to_target(r)), 1),
        ),
        row(f"Best {quality.name}", lambda r: fixed(r.best)),
        *(row(label, value) for label, value in runs[0].sections.outcomes),
        row(
            "Device",
            lambda r: shown(next((t.status.device for t in r.trials if t.status.device), None)),
        ),
    ]


def _settings(runs: Sequence[Results]) -> list[tuple[str, ...]]:
    keys = sorted({key for r in runs for key in r.config})
    rows = [(key, *(shown(r.config.get(key)) for r in runs)) for key in keys]
    for key in ("sha256", "published"):
        rows.append((f"dataset {key}", *(shown(r.dataset.get(key)) for r in runs)))
    rows.append(("test_set_sha256", *(shown(r.cache.get("test_set_sha256")) for r in runs)))
    for name in ("cpu", "gpus", "memory_bytes", "packages", "git"):
        rows.append((f"system {name}", *(shown(_system(r).get(name)) for r in runs)))
    return rows


def _inputs(own: Results, other: Results, name: str) -> list[tuple[str, ...]]:
    """Trials paired by seed where seeds are shared, by index otherwise."""
    by_seed = {t.seed: t for t in other.trials if t.seed is not None}
    by_index = {t.index: t for t in other.trials}
    rows: list[tuple[str, ...]] = []
    for trial in own.trials:
        seed = trial.seed
        partner = by_seed.get(seed) if seed is not None else None
        partner = partner or by_index.get(trial.index)
        if partner:
            same = "equal" if trial.seed == partner.seed else "different"
            rows.append((name, f"{trial.index} and {partner.index}", same, _equal(trial, partner)))
    return rows


def _equal(a: Trial, b: Trial) -> str:
    def hashes(epochs: Sequence[Epoch]) -> dict[float | None, str]:
        told = {e.epoch: getattr(e, "epoch_sha256", None) for e in epochs}
        return {epoch: sha256 for epoch, sha256 in told.items() if sha256}

    left, right = hashes(a.epochs), hashes(b.epochs)
    shared = sorted(left.keys() & right.keys(), key=str)
    if not shared:
        return NA
    equal = sum(left[epoch] == right[epoch] for epoch in shared)
    return f"{equal} of {plural(len(shared), 'epoch')}"


def _epochs_to_target(results: Results) -> list[float | None]:
    return [float(len(t.epochs)) for t in results.trials if t.reached]


def _system(results: Results) -> dict[str, Any]:
    return dict(next((t.system for t in results.trials if t.system), {}))


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return median(known) if known else None
