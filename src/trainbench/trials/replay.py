"""A trial run once more with its seed and its settings, and compared with its record.

The same seed has the same input on every machine. It has the same results to the last digit on the
same kind of machine: CPU, instruction sets, threads, GPUs, versions and code as in system.json.
Elsewhere sums are formed in another order, and training carries a difference in the last digit on.
So there, a share of users is judged by its standard error, and other results are told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainbench.benchmark import Benchmark, Inputs, Repeated, load
from trainbench.configuration import settings, unknown
from trainbench.errors import (
    ConfigError,
    DataIntegrityError,
    MachineError,
    ReplayDiffersError,
    TrainbenchError,
)
from trainbench.files import (
    damage_told,
    object_or_empty,
    parse_object,
    read_file,
    read_object,
    write_json,
)
from trainbench.machine import system
from trainbench.trials.paths import DataDir, RunDir, TrialDir
from trainbench.trials.spec import Original, SetSpec, benchmark_of, recorded_seed
from trainbench.trials.trial_set import run_set

STANDARD_ERRORS = 4
DATA = "data"
# What made a cache does not change what is in it.
_NOT_DATA = ("versions",)

Epochs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """A value that the record has and the replay has not; ``allowed`` names why it may differ."""

    epoch: int | None
    field: str
    recorded: Any
    found: Any
    allowed: str = ""

    def __str__(self) -> str:
        where = "" if self.epoch is None else f"epoch {self.epoch}: "
        text = f"{where}{self.field} is {self.found}, recorded is {self.recorded}"
        return f"{text} ({self.allowed})" if self.allowed else text


@dataclass(frozen=True)
class Replay:
    """The content of replay.json.

    Attributes:
        fields: of epochs.jsonl that the record has and that were compared.
        other_kind: in what this machine is of another kind, in words; empty where it is the same.
        differences: in order; the first that is not allowed decides.
    """

    replays: Original
    epochs: int
    fields: tuple[str, ...]
    other_kind: tuple[str, ...]
    differences: tuple[Difference, ...]
    same: bool
    schema: int = 1

    def __str__(self) -> str:
        count = f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
        lines = [f"replay of {self.replays}, seed {self.replays.seed}, {count}"]
        wrong = {difference.field for difference in self.differences}
        equal = [name for name in self.fields if name not in wrong]
        lines += [f"equal: {', '.join(equal)}"] if equal else []
        if self.other_kind:
            lines.append(f"another kind of machine: {'; '.join(self.other_kind)}")
        return "\n".join([*lines, *(f"different: {told}" for told in self.differences)])

    def require_same(self) -> None:
        """Raise a ``ReplayDiffersError`` that names the first difference that is not allowed."""
        first = next((d for d in self.differences if not d.allowed), None)
        if first is not None:
            raise ReplayDiffersError(f"{self.replays} came out otherwise: {first}")


def replay(
    run: RunDir, trial: TrialDir, *, data: DataDir, epochs: int | None, command: Sequence[str]
) -> tuple[RunDir, Replay]:
    """Run ``trial`` of ``run`` again in ``data``; the new run's folder, and what was compared.

    Args:
        epochs: the first so many; ``None``: as many as there are.

    Raises:
        ConfigError: a benchmark that is not replayed, or fewer epochs than asked for.
        DataIntegrityError: a damaged record. MachineError: the data are not here.
        ReplayDiffersError: the data are others. TrainbenchError: the trial failed this time.
    """
    benchmark = benchmark_of(run)
    spec, recorded = _asked(run, trial, benchmark, data, epochs, command)
    _require_data(run, spec)
    again = run_set(spec)
    fields = fields_of(run)
    found = _epochs(again.trial(0).epochs) if again.trial(0).epochs.exists() else []
    if not found:
        message = object_or_empty(again.trial(0).status).get("message")
        raise TrainbenchError(f"{again.trial(0).root}: the replay failed: {message}")
    other = tuple(_other_kind(trial, again.trial(0), spec.config))
    differences = tuple(compare(recorded, found, fields, exact=not other))
    names = tuple(f for f in (*fields.inputs, *fields.results) if f in recorded[0])
    assert spec.replays is not None
    same = all(difference.allowed for difference in differences)
    outcome = Replay(spec.replays, len(recorded), names, other, differences, same)
    write_json(again.replay, outcome, sort_keys=False)
    return again, outcome


def fields_of(run: RunDir) -> Repeated:
    """What is compared of the trials of ``run``; a ``ConfigError`` if they are not replayed."""
    benchmark = benchmark_of(run)
    if benchmark.repeated is None:
        raise ConfigError(
            f"{run.root}: a run of {benchmark.name}, which is not replayed: its trials record no "
            "hash of their input, and the same seed does not promise the same results"
        )
    return benchmark.repeated


def compare(
    recorded: Epochs, found: Epochs, fields: Repeated, *, exact: bool
) -> Iterator[Difference]:
    """Where ``found`` differs from ``recorded``, epoch by epoch: input first, then results.

    Args:
        exact: results have to be equal to the last digit.
    """
    for number, wanted in enumerate(recorded):
        if number >= len(found):
            ended = "" if exact else "another kind of machine"
            yield Difference(number, "epoch", "there", "missing", ended)
            return
        for name in (*fields.inputs, *fields.results):
            value = found[number].get(name)
            # What was not recorded then cannot differ, and does not count as equal either.
            if wanted.get(name) is not None and wanted[name] != value:
                may = not exact and name in fields.results
                why = _allowed(name, wanted, found[number], fields) if may else ""
                yield Difference(number, name, wanted[name], value, why)


def _allowed(
    name: str, wanted: Mapping[str, Any], found: Mapping[str, Any], fields: Repeated
) -> str:
    """Why a result may differ on another kind of machine; empty where it differs too much."""
    if fields.share is None or name != fields.share[0]:
        return "another kind of machine"
    count, total = wanted[name], wanted.get(fields.share[1])
    if not (isinstance(count, int) and isinstance(found.get(name), int) and total):
        return ""
    share = count / total
    most = STANDARD_ERRORS * math.sqrt(2 * total * share * (1 - share))
    within = abs(found[name] - count) <= most
    return f"another kind of machine: within {most:.0f}, four standard errors" if within else ""


def _asked(
    run: RunDir,
    trial: TrialDir,
    benchmark: Benchmark,
    data: DataDir,
    epochs: int | None,
    command: Sequence[str],
) -> tuple[SetSpec, Epochs]:
    """The set that repeats ``trial``, and the epochs to compare with."""
    inputs, recorded = fields_of(run).inputs, _epochs(trial.epochs)
    if not any(name in recorded[0] for name in inputs):
        raise DataIntegrityError(f"{trial.epochs}: no hash of the input to compare with")
    if epochs is not None and epochs > len(recorded):
        raise ConfigError(f"--epochs {epochs}: the trial has {len(recorded)}")
    recorded = recorded[:epochs]
    config = benchmark.from_json(read_file(run.config))
    spec = SetSpec(
        benchmark=benchmark,
        # The time is not what is repeated.
        config=replace(config, max_epochs=len(recorded), drop_caches=False),
        data=data,
        command=command,
        options=_options(trial, benchmark),
        choice=_choice(trial),
        fresh=True,
        replays=Original(_run_id(run), trial.index, str(recorded_seed(trial))),
    )
    return spec.checked(), recorded


def _options(trial: TrialDir, benchmark: Benchmark) -> dict[str, Any]:
    """The benchmark's own options that the trial was started with.

    Raises:
        ConfigError: one that is not known here.
    """
    arguments = object_or_empty(trial.spec).get("arguments")
    options = arguments.get("options") if isinstance(arguments, dict) else None
    known = [option.name for option in benchmark.options if not option.field]
    for name in options if isinstance(options, dict) else ():
        if name not in known:
            raise ConfigError(f"{trial.spec}: {unknown('option', str(name), known)}")
    return dict(options) if isinstance(options, dict) else {}


def _choice(trial: TrialDir) -> Mapping[str, Any]:
    """What had been decided for the trial; nothing is decided anew."""
    arguments = object_or_empty(trial.spec).get("arguments")
    choice = arguments.get("choice") if isinstance(arguments, dict) else None
    return choice if isinstance(choice, dict) else {}


def _run_id(run: RunDir) -> str:
    named = object_or_empty(run.run_file).get("run_id")
    return named if isinstance(named, str) else run.root.name


def _epochs(path: Path) -> Epochs:
    with damage_told(path, "the epochs of a trial", "name a trial that has trained"):
        lines = [parse_object(line) for line in read_file(path).decode().splitlines()]
        if not lines:
            raise ValueError("no line")
    return lines


def _require_data(run: RunDir, spec: SetSpec) -> None:
    """Raise unless the data directory has the data that ``run`` was made from."""
    benchmark, config = spec.benchmark, spec.config
    try:
        inputs: Inputs = load(benchmark.inputs)(config, spec.data)
    except MachineError as error:
        changed = settings(config, benchmark.preset(config.preset))
        words = [f"--preset {config.preset}", *(f"--set {setting}" for setting in changed)]
        group = f"{benchmark.command} " * bool(benchmark.command)
        step = f"trainbench {group}download --data-dir {spec.data.root} {' '.join(words)}"
        raise MachineError(
            f"{error}. For this run: {step}, then the same with {benchmark.prepare_step} in place "
            "of download; or name a data directory that has it with --data-dir"
        ) from None
    with damage_told(run.cache_record, "the record of a run's cache", "copy the run again"):
        recorded, found = read_object(run.cache_record), read_object(inputs.cache_record)
    for key in sorted(recorded.keys() - set(_NOT_DATA)):
        if recorded[key] != found.get(key):
            difference = Difference(None, f"{DATA} ({key})", recorded[key], found.get(key))
            raise ReplayDiffersError(f"{spec.replays}: other data: {difference}")


def _other_kind(first: TrialDir, again: TrialDir, config: Any) -> Iterator[str]:
    """In what the two machines differ that may change the last digits, in words."""
    recorded, here = (system.kind(object_or_empty(t.system)) for t in (first, again))
    for name, value in recorded.items():
        if value is None or here[name] is None:
            yield f"{name}: {'not recorded' if value is None else value}, here {here[name]}"
        elif value != here[name]:
            yield f"{name}: {value}, here {here[name]}"
    if "GPU" in str(here["device"]) and not getattr(config, "deterministic", False):
        yield "a GPU without --deterministic repeats results only nearly"
