"""Runs side by side: what was set differently, what came out, was the input the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from trainbench.reporting.page.tables import Table
from trainbench.reporting.records import Epoch, Results
from trainbench.reporting.sections import Measure
from trainbench.reporting.text import NA, count, fixed, plural, seconds, shown
from trainbench.reporting.verdict import judge

NOT_KNOWN = "not known"
MOST_VALUES = 4


@dataclass(frozen=True)
class Outcome:
    """What came out of each run: numbers in ``unit``, empty for a count or a text."""

    name: str
    label: str
    unit: str
    values: tuple[float | str | None, ...]


@dataclass(frozen=True)
class Setting:
    """What each run says of a setting; of a run that does not say it, ``known`` is false."""

    name: str
    values: tuple[Any, ...]
    known: tuple[bool, ...]


@dataclass(frozen=True)
class Pair:
    """A trial of the first run and one of the run number ``run``: was their input the same?

    ``same_seed`` is None where a seed is not known; of ``shared_epochs``, which both have hashes
    of, ``equal_epochs`` had the same input.
    """

    run: int
    trials: tuple[int, int]
    same_seed: bool | None
    equal_epochs: int
    shared_epochs: int


@dataclass(frozen=True)
class Comparison:
    """Values with one entry per run, the first being the report's own.

    ``settings`` holds what differs, and what one run says and another does not; ``unknown`` names
    what none of them says. ``inputs`` has one entry per pair of trials.
    """

    runs: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    settings: tuple[Setting, ...]
    unknown: tuple[str, ...]
    inputs: tuple[Pair, ...]


@dataclass(frozen=True)
class ComparisonTables:
    """A comparison as the page shows it, one column per run."""

    outcomes: Table
    settings: Table
    unknown: tuple[str, ...]
    inputs: Table


def compare_runs(runs: Sequence[Results]) -> Comparison:
    """The comparison of the first of ``runs`` with the others, all of one benchmark."""
    settings = tuple(_settings(runs))
    unknown = [setting.name for setting in settings if not any(setting.known)]
    if not any(r.config for r in runs):
        unknown.append("any other setting")
    pairs = (_inputs(runs[0], other, number) for number, other in enumerate(runs[1:], start=1))
    return Comparison(
        runs=tuple(_names(runs)),
        outcomes=tuple(_outcomes(runs)),
        settings=tuple(filter(_differ, settings)),
        unknown=tuple(unknown),
        inputs=tuple(pair for of_run in pairs for pair in of_run),
    )


def shown_tables(found: Comparison, first: Results) -> ComparisonTables:
    """The tables of a comparison of ``first`` with others."""
    measures = _measures(first)
    settings = tuple((s.name, *_cells(s)) for s in found.settings)
    return ComparisonTables(
        outcomes=Table(
            ("", *found.runs),
            tuple(
                (outcome.label, *map(measure.shown, outcome.values))
                for outcome, measure in zip(found.outcomes, measures, strict=True)
            ),
            numeric_from=1,
        ),
        settings=Table(("Setting", *found.runs), settings, numeric_from=99),
        unknown=found.unknown,
        inputs=Table(
            ("Against", "Trials", "Seeds", "Epochs with equal input"),
            tuple(_pair_cells(found.runs[pair.run], pair) for pair in found.inputs),
            numeric_from=99,
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


def _outcomes(runs: Sequence[Results]) -> Iterator[Outcome]:
    for measure in _measures(runs[0]):
        values = tuple(measure.value(r) for r in runs)
        yield Outcome(measure.name, measure.label, measure.unit, values)


def _measures(first: Results) -> tuple[Measure, ...]:
    """What is compared of runs of the benchmark of ``first``."""
    quality = first.quality
    return (
        Measure("outcome", "Outcome", "", lambda r: judge(r).headline, shown),
        Measure(
            "level_2_findings",
            "Level-2 findings",
            "",
            lambda r: judge(r).level_findings["2"],
            count,
        ),
        Measure(
            "time_to_train_s",
            "Time to train, median",
            "s",
            lambda r: _median([t.time_s for t in r.trials]),
            seconds,
        ),
        Measure(
            f"{quality.every}s_to_target",
            f"{quality.every.capitalize()}s to target, median",
            f"{quality.every}s",
            lambda r: _median(_epochs_to_target(r)),
            lambda value: fixed(value, 1),
        ),
        Measure(quality.best, f"Best {quality.name}", quality.name, lambda r: r.best, fixed),
        *first.sections.outcomes,
        Measure("device", "Device", "", _device),
    )


def _device(results: Results) -> str | None:
    return next((t.status.device for t in results.trials if t.status.device), None)


def _settings(runs: Sequence[Results]) -> Iterator[Setting]:
    """Every setting that a run can say."""
    tags = runs[0].sections.logged
    keys = {key for r in runs for key in r.config}
    without = any(not r.config for r in runs)
    for key in sorted(keys | tags.keys() if without else keys):
        yield _setting(key, (_configured(r, key, tags.get(key, "")) for r in runs))
    if without:
        for tag in sorted({tag for r in runs for tag in r.logged} - set(tags.values())):
            yield _setting(tag, (_logged(r, tag) for r in runs))
    datasets = [r.dataset for r in runs]
    for key in ("sha256", "ratings_sha256", "published"):
        yield _setting(f"dataset {key}", _recorded(datasets, key))
    hashes = _recorded([r.cache for r in runs], "test_set_sha256")
    yield _setting("test_set_sha256", hashes)
    for name in ("cpu", "gpus", "memory_bytes", "packages", "git"):
        systems = ([t.system for t in r.trials if t.system] for r in runs)
        yield _setting(f"system {name}", (_system(found, name) for found in systems))


_Known = tuple[Any, bool]
_UNKNOWN: _Known = (None, False)


def _setting(name: str, found: Iterable[_Known]) -> Setting:
    values, known = zip(*found, strict=True)
    return Setting(name, values, known)


def _configured(results: Results, key: str, tag: str) -> _Known:
    """From config.json, or from the log where config.json does not have it."""
    return (results.config[key], True) if key in results.config else _logged(results, tag)


def _logged(results: Results, tag: str) -> _Known:
    """The value of a tag in all logs, or a list of several values."""
    values = results.logged.get(tag, ())
    return (Several(values) if len(values) > 1 else values[0], True) if values else _UNKNOWN


class Several(tuple[Any, ...]):
    """The different values that the logs of one run have."""


def _recorded(records: Sequence[Mapping[str, Any]], key: str) -> Iterator[_Known]:
    """A null is a value of a record that has it: generated data have no archive, for example."""
    known = any(key in record for record in records)
    for record in records:
        has = key in record if known else bool(record)
        yield record.get(key), has


def _system(records: Sequence[Mapping[str, Any]], name: str) -> _Known:
    value = records[0].get(name) if records else None
    # No GPU is a finding of the machine, no CPU one that could not be read.
    return _UNKNOWN if value is None or value == {} else (value, True)


def _cells(setting: Setting) -> Iterator[str]:
    for value, known in zip(setting.values, setting.known, strict=True):
        yield _text(value) if known else NOT_KNOWN


def _text(value: Any) -> str:
    if isinstance(value, Several):
        more = [f"and {len(value) - MOST_VALUES} more"] if len(value) > MOST_VALUES else []
        return "; ".join([*map(_text, value[:MOST_VALUES]), *more])
    text = shown(value)
    return "none" if text == NA else text


def _differ(setting: Setting) -> bool:
    """Whether a value differs from another, or from one that is not known."""
    return len({value.casefold().strip("[]") for value in _cells(setting)}) > 1


def _inputs(own: Results, other: Results, number: int) -> Iterator[Pair]:
    """Trials paired by seed where seeds are shared, by index otherwise."""
    by_seed = {t.seed: t for t in other.trials if t.seed is not None}
    by_index = {t.index: t for t in other.trials}
    for trial in own.trials:
        partner = by_seed.get(trial.seed or "") or by_index.get(trial.index)
        if partner:
            known = trial.seed is not None and partner.seed is not None
            left, right = _hashes(trial.epochs), _hashes(partner.epochs)
            shared = left.keys() & right.keys()
            yield Pair(
                run=number,
                trials=(trial.index, partner.index),
                same_seed=trial.seed == partner.seed if known else None,
                equal_epochs=sum(left[epoch] == right[epoch] for epoch in shared),
                shared_epochs=len(shared),
            )


def _hashes(epochs: Sequence[Epoch]) -> dict[float | None, str]:
    told = {e.epoch: getattr(e, "epoch_sha256", None) for e in epochs}
    return {epoch: sha256 for epoch, sha256 in told.items() if sha256}


def _pair_cells(name: str, pair: Pair) -> tuple[str, ...]:
    seeds = {None: NOT_KNOWN, True: "equal", False: "different"}[pair.same_seed]
    epochs = f"{pair.equal_epochs} of {plural(pair.shared_epochs, 'epoch')}"
    trials = f"{pair.trials[0]} and {pair.trials[1]}"
    return name, trials, seeds, epochs if pair.shared_epochs else NA


def _epochs_to_target(results: Results) -> list[float | None]:
    return [float(len(t.epochs)) for t in results.trials if t.reached]


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return median(known) if known else None
