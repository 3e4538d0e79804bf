"""Reads what is stored into ``Measured``: run folders, results.json, results of ``trainbench cnn``.

Small files alone are read, so that a thousand runs take seconds.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from trainbench.benchmark import Benchmark, find
from trainbench.display.secrets import without_secrets
from trainbench.errors import ConfigError, DataIntegrityError
from trainbench.files import is_own_file, object_or_empty, parse_object, read_file, read_object
from trainbench.history.measured import (
    IMAGES,
    QUANTITIES,
    TIME,
    Measured,
    Quantity,
    items,
    machine_of,
    number,
    quality,
    software_of,
)
from trainbench.trials.notes import NONE, Notes, notes_of
from trainbench.trials.paths import RunDir, TrialDir
from trainbench.trials.spec import benchmark_of

LEAST_EPOCHS = 4
_MOST_TRIALS = 1_000_000
# Where a result is written, and how often it was measured, has no influence on a speed.
_HARMLESS = ("result_json", "benchmark_log_dir", "benchmark_test_id", "repeat", "display_every")
_ENDED = ("converged", "not_converged", "completed")
_REPORTS = ("report.html", "report.md")
# Degradations in which a time is not that of the same work.
_WATCHED = {"profiled": "its steps were traced", "watched": "its steps ran under a profiler"}


@dataclass(frozen=True)
class _Trial:
    """One trial by its files: status.json, the speeds of its epochs, system.json."""

    status: Mapping[str, Any]
    epoch_speeds: tuple[float, ...]
    system: Mapping[str, Any]


def read(path: Path) -> Measured:
    """What is stored at ``path``: a run's folder, results.json, or a result of ``trainbench cnn``.

    Raises:
        ConfigError: nothing there, or nothing that was measured.
        DataIntegrityError: a damaged file.
    """
    if path.is_dir():
        return read_run(RunDir(path.resolve()), name=path)
    if not path.exists():
        raise ConfigError(
            f"{path}: no such file or folder; wanted the folder of a run, the results.json of a "
            "report, or a file of trainbench cnn --result_json"
        )
    try:
        record = read_object(path)
    except ValueError as error:
        raise ConfigError(
            f"{path}: not a result of trainbench cnn or a report ({error}); wanted a file of "
            "--result_json or results.json"
        ) from None
    if "schema_version" in record and isinstance(record.get("trials"), list):
        return _of_report(path, record)
    return read_cnn(path, record)


def read_run(run: RunDir, name: Path | None = None) -> Measured:
    """A run's folder; of stitched logs alone, what a report of them says.

    Raises:
        ConfigError: no folder of a run. DataIntegrityError: run.json is damaged.
    """
    shown = name or run.root
    if not run.run_file.exists():
        return _of_logs(run, shown)
    try:
        record = read_object(run.run_file)
    except ValueError as error:
        raise DataIntegrityError(f"{shown}/run.json: {error}; copy the run again") from None
    benchmark = benchmark_of(run)
    trials = [
        _Trial(object_or_empty(t.status), _epoch_speeds(t), _first_known(t)) for t in run.trials
    ]
    page = next((run.report / n for n in _REPORTS if is_own_file(run.report / n, run.root)), None)
    return _of_trials(
        benchmark,
        trials,
        record,
        place=run.root,
        config=_settings(benchmark.name, _bytes(run.config)),
        data=object_or_empty(run.manifest),
        notes=notes_of(run),
        report=page,
    )


def _first_known(trial: TrialDir) -> Mapping[str, Any]:
    return object_or_empty(trial.system) if is_own_file(trial.system, trial.root) else {}


def _bytes(path: Path) -> bytes:
    try:
        return read_file(path)
    except ValueError:
        return b""


def _of_logs(run: RunDir, shown: Path) -> Measured:
    from trainbench.reporting.collect import collect
    from trainbench.reporting.page.render import results_json

    try:
        results = collect(run, benchmark_of(run))
    except DataIntegrityError:
        raise ConfigError(
            f"{shown}: not the folder of a run (no run.json, trial_<i> or results/ in it); wanted "
            "a run, for example data/runs/latest, results.json, or a file of --result_json"
        ) from None
    return _of_report(run.root, json.loads(results_json(results)))


def _of_report(path: Path, record: Mapping[str, Any]) -> Measured:
    """The results.json of a report."""
    try:
        benchmark = find(str(record["benchmark"]))
        trials = [_reported(trial) for trial in record["trials"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: not the results.json of a report ({error!r}); write the report again"
        ) from None
    page = path.with_name("report.html")
    user = _mapping(record.get("notes"))
    tags = tuple(str(tag) for tag in items(user.get("tags")))
    return _of_trials(
        benchmark,
        trials,
        _mapping(record.get("run")),
        place=path,
        config=_settings(benchmark.name, json.dumps(_mapping(record.get("config"))).encode()),
        data=_mapping(record.get("dataset")),
        notes=Notes(str(user.get("note") or ""), tags) if user else NONE,
        report=page if page.is_file() else None,
    )


def _reported(trial: Mapping[str, Any]) -> _Trial:
    """A trial of results.json, where a log alone may have told how it ended."""
    status, log = dict(_mapping(trial["status"])), _mapping(trial.get("log"))
    time_s = trial.get("time_to_train_s")
    if status.get("state") is None and log:
        status["state"] = "converged" if log.get("converged") else "not_converged"
    status = {**log, **{k: v for k, v in status.items() if v is not None}, TIME.key: time_s}
    speeds = [_mapping(epoch).get("samples_per_s") for epoch in items(trial.get("epochs"))]
    return _Trial(status, _numbers(speeds), _mapping(trial.get("system")))


def _of_trials(
    benchmark: Benchmark,
    trials: Sequence[_Trial],
    run: Mapping[str, Any],
    *,
    place: Path,
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    notes: Notes,
    report: Path | None,
) -> Measured:
    ended = [t for t in trials if t.status.get("state") in _ENDED]
    reached = [t for t in ended if t.status.get("state") == "converged"]
    best = quality(benchmark.quality.best, benchmark.quality.name)
    values = {
        TIME.key: _measured(t.status.get(TIME.key) for t in reached),
        "samples_per_s": _measured(fmean(t.epoch_speeds) for t in ended if t.epoch_speeds),
        IMAGES.key: _measured(t.status.get(IMAGES.key) for t in ended),
        best.key: _numbers(t.status.get(best.key) for t in ended),
    }
    codes = _codes(trials)
    system = next((t.system for t in trials if t.system), {})
    single = ended[0].epoch_speeds if len(ended) == 1 else ()
    return Measured(
        name=str(run.get("run_id") or place.name),
        place=place,
        kind="run",
        benchmark=benchmark.name,
        title=_title(benchmark, config),
        created_unix_s=number(run.get("created_unix_s")),
        task=_task(config, data, codes),
        machine=machine_of(system),
        software=software_of(system, run.get("trainbench_version")),
        values={key: found for key, found in values.items() if found},
        quantities={**QUANTITIES, best.key: best},
        blocks={"samples_per_s": single} if len(single) >= LEAST_EPOCHS else {},
        trials=max(len(trials), _count(run.get("runs"))),
        ended=len(ended),
        reached=len(reached),
        targetless=bool(ended) and all(t.status.get("state") == "completed" for t in ended),
        degraded=tuple(codes),
        left_out=_left_out(run, trials, ended, codes),
        report=report,
        note=without_secrets(notes.note),
        tags=notes.tags,
    )


def _codes(trials: Iterable[_Trial]) -> list[str]:
    noted = [note for t in trials for note in items(t.status.get("degraded"))]
    codes = [note.get("code") if isinstance(note, dict) else note for note in noted]
    return list(dict.fromkeys(str(code) for code in codes if code))


def _left_out(
    run: Mapping[str, Any], trials: Sequence[_Trial], ended: Sequence[_Trial], codes: Sequence[str]
) -> str:
    if run.get("replays") or "replay" in codes:
        return "a replay, whose time is not what is repeated"
    for code in codes:
        if code in _WATCHED:
            return _WATCHED[code]
    if ended:
        return ""
    if not trials:
        return "no trial was started"
    states = list(dict.fromkeys(str(t.status.get("state") or "no status") for t in trials))
    said = next((str(t.status["message"]) for t in trials if t.status.get("message")), "")
    return f"no trial ended ({', '.join(states)}{': ' if said else ''}{without_secrets(said)})"


def _task(
    config: Mapping[str, Any], data: Mapping[str, Any], codes: Sequence[str]
) -> dict[str, Any]:
    """What the time of a run depends on beside machine and software."""
    found = {key: value for key, value in config.items() if key != "preset"}
    found["data sha256"] = data.get("ratings_sha256") or data.get("sha256")
    found["page cache"] = "not dropped" if "caches_not_dropped" in codes else "dropped"
    return found


@functools.lru_cache(maxsize=512)
def _settings(name: str, text: bytes) -> Mapping[str, Any]:
    """The content of config.json, with today's names and defaults for what earlier ones lack.

    So a new setting with its default makes no other task of runs before it.
    """
    benchmark = find(name)
    try:
        raw = parse_object(text)
    except ValueError:
        return {}
    try:
        return asdict(benchmark.from_json(text))
    except (ConfigError, ValueError, TypeError):
        known = {f.name: f.default for f in fields(benchmark.config) if f.default is not MISSING}
        return {**known, **raw}


def _title(benchmark: Benchmark, config: Mapping[str, Any]) -> str:
    data, preset = config.get("dataset"), config.get("preset")
    words = [benchmark.name, str(preset or data or "")]
    return " ".join(word for word in words if word)


def _epoch_speeds(trial: TrialDir) -> tuple[float, ...]:
    """Samples per second of each epoch; none where epochs.jsonl is absent or damaged."""
    if not is_own_file(trial.epochs, trial.root):
        return ()
    found = []
    for line in _bytes(trial.epochs).splitlines():
        try:
            found.append(parse_object(line).get("samples_per_s"))
        except ValueError:
            continue
    return _numbers(found)


def read_cnn(path: Path, record: Mapping[str, Any]) -> Measured:
    """A result of ``trainbench cnn --result_json``.

    Raises:
        ConfigError: it is none, or nothing was timed.
    """
    try:
        if not record["stats"]["images_per_sec"] > 0 or not record["batch_size"] > 0:
            raise ValueError("nothing was timed")
        return _of_cnn(path, record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: not a result of trainbench cnn --result_json ({error})"
        ) from None


def _of_cnn(path: Path, record: Mapping[str, Any]) -> Measured:
    params, system = _mapping(record.get("params")), _mapping(record.get("environment"))
    stats, codes = record["stats"], [str(note["code"]) for note in record.get("degraded") or ()]
    told = items(_mapping(record.get("repeats")).get("images_per_sec"))
    repeats = _measured(told)
    if len(repeats) < len(told):
        raise ValueError("repeats: a speed that is not above 0; measure again")
    settings = {f"--{key}": params[key] for key in sorted({*params} - {*_HARMLESS})}
    accuracies = [_mapping(e).get("top_1_accuracy") for e in record.get("evaluations") or ()]
    best = quality("top_1_accuracy", "top-1 accuracy")
    values = {
        IMAGES.key: repeats or _measured([stats["images_per_sec"]]),
        best.key: _numbers([max(_numbers(accuracies), default=None)]),
    }
    watched = next((_WATCHED[code] for code in codes if code in _WATCHED), "")
    return Measured(
        name=path.name,
        place=path,
        kind="cnn",
        benchmark="cnn",
        title=f"cnn {params.get('model', 'trivial')}, batch {record['batch_size']}",
        created_unix_s=number(record.get("created_unix_s")) or path.stat().st_mtime,
        task={**settings, "batch_size": record["batch_size"], "mode": record.get("mode")},
        machine=machine_of(system),
        software=software_of(system, record.get("trainbench_version")),
        values={key: found for key, found in values.items() if found},
        quantities={IMAGES.key: IMAGES, best.key: best},
        blocks={IMAGES.key: _block_speeds(record)},
        steps=len(record.get("step_times_s") or ()),
        trials=max(1, len(repeats)),
        ended=max(1, len(repeats)),
        targetless=True,
        degraded=tuple(codes),
        left_out=watched,
    )


def _block_speeds(record: Mapping[str, Any]) -> tuple[float, ...]:
    """Speeds of blocks of steps; none where there are too few."""
    from trainbench.statistics import LEAST_STEPS, block_speeds

    times = record.get("step_times_s") or ()
    if len(times) < LEAST_STEPS:
        return ()
    images = record["batch_size"] * (record["stats"].get("num_workers") or 1)
    return tuple(block_speeds(times, images))


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    """Those of ``values`` that are finite numbers."""
    found = (number(value) for value in values)
    return tuple(value for value in found if value is not None)


def _measured(values: Iterable[Any]) -> tuple[float, ...]:
    """Times or speeds among ``values``: none is 0."""
    return tuple(value for value in _numbers(values) if value > 0)


def _count(value: Any) -> int:
    """How many trials were asked for, where a file says it."""
    return value if type(value) is int and 0 < value < _MOST_TRIALS else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def quantities_of(runs: Iterable[Measured]) -> list[Quantity]:
    """What any of ``runs`` measured, in a fixed order."""
    found: dict[str, Quantity] = {}
    for run in runs:
        found |= {key: run.quantities[key] for key in run.values if key in run.quantities}
    order = [*QUANTITIES, *sorted(found.keys() - QUANTITIES.keys())]
    return [found[key] for key in order if key in found]
