"""Runs side by side: what was set differently, what came out, was the input the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from trainbench.reporting.page.tables import Table
from trainbench.reporting.records import Epoch, Results, Trial
from trainbench.reporting.text import NA, count, fixed, plural, seconds, shown
from trainbench.reporting.verdict import judge

NOT_KNOWN = "not known"
MOST_VALUES = 4


@dataclass(frozen=True)
class Comparison:
    """Tables with one column per run, the first being the report's own.

    ``settings`` holds what differs, and what one run says and another does not; ``unknown`` names
    what none of them says. ``inputs`` has one row per pair of trials.
    """

    outcomes: Table
    settings: Table
    unknown: tuple[str, ...]
    inputs: Table


def compare_runs(runs: Sequence[Results]) -> Comparison:
    """The comparison of the first of ``runs`` with the others, all of one benchmark."""
    names = _names(runs)
    settings = tuple(_settings(runs))
    unknown = [row[0] for row in settings if set(row[1:]) == {NOT_KNOWN}]
    if not any(r.config for r in runs):
        unknown.append("any other setting")
    pairs = [
        row
        for other, name in zip(runs[1:], names[1:], strict=True)
        for row in _inputs(runs[0], other, name)
    ]
    return Comparison(
        outcomes=Table(("", *names), tuple(_outcomes(runs)), numeric_from=1),
        settings=Table(("Setting", *names), tuple(filter(_differ, settings)), numeric_from=99),
        unknown=tuple(unknown),
        inputs=Table(
            ("Against", "Trials", "Seeds", "Epochs with equal input"), tuple(pairs), numeric_from=99
        ),
    )


def _names(runs: Sequence[Results]) -> list[str]:
    """The run ids, or the systems' names; made distinct by a number where one occurs twice."""
    ids = [r.run.run_id or _logs_of(r) for r in runs]
    return [f"{name} ({n})" if ids.count(name) > 1 else name for n, name in enumerate(ids, start=1)]


def _logs_of(results: Results) -> str:
    """The system's name by the place of its logs: ``results/<system>/<benchmark>/...``."""
    places = [t.log.file.split("/") for t in results.trials if t.log]
    return places[0][1] if places and len(places[0]) > 2 else NA


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


def _settings(runs: Sequence[Results]) -> Iterator[tuple[str, ...]]:
    """Every setting, with NOT_KNOWN for what a run does not say."""
    tags = runs[0].sections.logged
    keys = {key for r in runs for key in r.config}
    without = any(not r.config for r in runs)
    for key in sorted(keys | tags.keys() if without else keys):
        yield key, *(_setting(r, key, tags.get(key, "")) for r in runs)
    if without:
        yield from (
            (tag, *(_logged(r, tag) for r in runs))
            for tag in sorted({tag for r in runs for tag in r.logged} - set(tags.values()))
        )
    datasets = [r.dataset for r in runs]
    for key in ("sha256", "ratings_sha256", "published"):
        yield f"dataset {key}", *_recorded(datasets, key)
    yield "test_set_sha256", *_recorded([r.cache for r in runs], "test_set_sha256")
    for name in ("cpu", "gpus", "memory_bytes", "packages", "git"):
        systems = ([t.system for t in r.trials if t.system] for r in runs)
        yield f"system {name}", *(_system(found, name) for found in systems)


def _setting(results: Results, key: str, tag: str) -> str:
    """From config.json, or from the log where config.json does not have it."""
    return _text(results.config[key]) if key in results.config else _logged(results, tag)


def _logged(results: Results, tag: str) -> str:
    values = results.logged.get(tag, ())
    listed = [_text(value) for value in values[:MOST_VALUES]]
    more = [f"and {len(values) - MOST_VALUES} more"] if len(values) > MOST_VALUES else []
    return "; ".join([*listed, *more]) or NOT_KNOWN


def _recorded(records: Sequence[Mapping[str, Any]], key: str) -> Iterator[str]:
    """A null is a value of a record that has it: generated data have no archive, for example."""
    known = any(key in record for record in records)
    for record in records:
        has = key in record if known else bool(record)
        yield _text(record.get(key)) if has else NOT_KNOWN


def _system(records: Sequence[Mapping[str, Any]], name: str) -> str:
    value = records[0].get(name) if records else None
    # No GPU is a finding of the machine, no CPU one that could not be read.
    return NOT_KNOWN if value is None or value == {} else _text(value)


def _text(value: Any) -> str:
    text = shown(value)
    return "none" if text == NA else text


def _differ(row: tuple[str, ...]) -> bool:
    """Whether a value differs from another, or from one that is not known."""
    return len({value.casefold().strip("[]") for value in row[1:]}) > 1


def _inputs(own: Results, other: Results, name: str) -> list[tuple[str, ...]]:
    """Trials paired by seed where seeds are shared, by index otherwise."""
    by_seed = {t.seed: t for t in other.trials if t.seed is not None}
    by_index = {t.index: t for t in other.trials}
    rows: list[tuple[str, ...]] = []
    for trial in own.trials:
        partner = by_seed.get(trial.seed or "") or by_index.get(trial.index)
        if partner:
            pair = f"{trial.index} and {partner.index}"
            rows.append((name, pair, _same_seed(trial, partner), _equal(trial, partner)))
    return rows


def _same_seed(a: Trial, b: Trial) -> str:
    if a.seed is None or b.seed is None:
        return NOT_KNOWN
    return "equal" if a.seed == b.seed else "different"


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


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return median(known) if known else None
