"""A set of trials that processes share, on machines of their own: each runs one trial by number.

The first process to come makes the set's folder, whole by one rename; the others compare what they
were asked for with what it says. The set has a seed, from which each trial's follows by its number,
so a trial that is run again repeats. A trial that has ended without failing stays as it is.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from trainbench import __version__, configuration
from trainbench.benchmark import Benchmark, Inputs, load
from trainbench.configuration import to_json
from trainbench.errors import (
    ConfigError,
    DataIntegrityError,
    TargetNotReachedError,
    TrainbenchError,
)
from trainbench.files import (
    UNFINISHED,
    damage_told,
    object_or_empty,
    read_file,
    read_object,
)
from trainbench.progress import log_line
from trainbench.trials import exports, trial_set
from trainbench.trials.lock import claimed
from trainbench.trials.paths import RunDir, TrialDir
from trainbench.trials.spec import SetSpec, benchmark_of
from trainbench.trials.status import Status, read_status

NAME = "set"
"""The folder of a set for which no other is named."""
COMPLETE = ("converged", "not_converged", "completed")
ELSE = "or name another set with --into"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUM = re.compile(r"[0-9a-f]{64}")
_OF_THE_MAKING = ("record_sha256", "archive_sha256")
_COMES_WITHIN_S = 90.0
"""Until a folder that another machine has made is seen here: NFS remembers names for a minute."""


def run_one(spec: SetSpec) -> RunDir:
    """Run the trial ``spec.trial`` of the set ``spec.into`` and return the set's folder.

    Raises:
        ConfigError: the set has other settings, or its trial is complete.
        DataIntegrityError, MachineError: no usable data, another process has the trial, or it
            failed for a reason that would fail the next one as well.
    """
    assert spec.trial is not None, "one trial by its number"
    exports.require_possible(1)
    require_name(spec.into)
    index, inputs = spec.trial, load(spec.benchmark.inputs)(spec.config, spec.data)
    run = _joined(spec, inputs)
    # What the first decided for all trials.
    spec = replace(spec, choice=trial_set.choice_of(spec, run))
    with claimed(run.trial_lock(index), f"trial {index} of {run.root.name}"):
        _require_open(spec, run, index)
        with damage_told(run.run_file, "a run's record", ELSE):
            seed = int(str(read_object(run.run_file)["seed"]))
        seed = trial_set.trial_seed(seed, index)
        status = trial_set.run_trial(spec, run, index, seed)
    left = missing(run)
    done = spec.runs - len(left)
    log_line(f"{run.root.name}: {done} of {spec.runs} trials complete" + _rest(run, left))
    trial_set.raise_if_hopeless(index, status)
    return run


def require_target(run: RunDir, spec: SetSpec) -> None:
    """Raise unless this process's trial reached its target, or had none and trained all epochs.

    Raises:
        TrainbenchError: it failed. TargetNotReachedError: it did not reach the target.
    """
    assert spec.trial is not None, "one trial by its number"
    quality = spec.benchmark.quality
    status = _status(run, run.trial(spec.trial), spec.benchmark)
    if status.state == "not_converged":
        raise TargetNotReachedError(
            f"trial {spec.trial} of {run.root}: best {quality.name} {status.best or 0.0:.4f} is "
            f"below the target {status.target}"
        )
    if status.state not in COMPLETE:
        raise TrainbenchError(f"trial {spec.trial} of {run.root} failed: {status.message}")


def missing(run: RunDir) -> dict[int, str]:
    """The trials that a shared set lacks, each with its state; of other runs none is missing."""
    record = object_or_empty(run.run_file)
    runs = record.get("runs")
    if not record.get(trial_set.SHARED) or type(runs) is not int:
        return {}
    benchmark, found = benchmark_of(run), {}
    for index in range(runs):
        trial = run.trial(index)
        state = _status(run, trial, benchmark).state
        if state not in COMPLETE or not trial.chain.is_file():
            found[index] = "not started" if not trial.root.is_dir() else state or "no status"
    return found


def require_complete(run: RunDir) -> None:
    """Raise for a shared set that lacks trials, with their numbers.

    Raises:
        DataIntegrityError: it does.
    """
    left = missing(run)
    if left:
        runs = object_or_empty(run.run_file)["runs"]
        numbers = ranges(left)
        raise DataIntegrityError(
            f"{run.root}: {len(left)} of {runs} trials missing{_rest(run, left)}; run each with "
            f"train --trial I --of {runs} --into {run.root.name} (as an array: {numbers}), or go "
            "on with --incomplete"
        )


def require_name(name: str) -> None:
    """Raise a ``ConfigError`` unless ``name`` can be that of a set's folder."""
    if not _NAME.fullmatch(name) or name == "latest":
        raise ConfigError(
            f"--into {name}: wanted the name of a set: letters, digits, dots, dashes and "
            "underscores, a letter or digit first, and not latest"
        )


def ranges(numbers: Any) -> str:
    """``0-2,5``, as Slurm writes an array's numbers."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)


def _rest(run: RunDir, left: dict[int, str]) -> str:
    """``: 0-2 not started, 5 failed``."""
    states: dict[str, list[int]] = {}
    for index, state in left.items():
        states.setdefault(state, []).append(index)
    told = ", ".join(f"{ranges(those)} {state}" for state, those in states.items())
    return f": {told}" if told else ""


def _status(run: RunDir, trial: TrialDir, benchmark: Benchmark) -> Status:
    return read_status(trial.status, benchmark.quality)


def _require_open(spec: SetSpec, run: RunDir, index: int) -> None:
    status = _status(run, run.trial(index), spec.benchmark)
    if trial_set.has_ended(spec, run, index) and status.state in COMPLETE:
        raise ConfigError(
            f"trial {index} of {run.root} is complete ({status.state}); a result is not made a "
            f"second time: run another number, {ELSE}"
        )


def _joined(spec: SetSpec, inputs: Inputs) -> RunDir:
    """The set's folder, made here or by another process, once it is as ``spec`` asks."""
    run = spec.data.run(spec.into)
    if not run.run_file.is_file() and _made(spec, inputs, run):
        trial_set.point_latest_at(spec.data, run)
        log_line(f"new set {run.root.name} of {spec.runs} trials")
    end = time.monotonic() + _COMES_WITHIN_S
    # A set that was being made when this process looked is there in a moment.
    while not run.run_file.is_file() and time.monotonic() < end and _is_coming(run):
        time.sleep(0.5)
    _require_same(spec, inputs, run)
    return run


def _is_coming(run: RunDir) -> bool:
    """Whether the folder may be a set's of which this machine does not see the files yet."""
    with contextlib.suppress(OSError):
        return not any(run.root.iterdir())
    return True


def _made(spec: SetSpec, inputs: Inputs, run: RunDir) -> bool:
    """Whether this process was the one to make the set's folder."""
    drawn = spec.seed if spec.seed is not None else secrets.randbits(62)
    # It may measure for a minute: a folder made before would be left by whoever is killed in that.
    seeded = replace(spec, seed=drawn, choice=trial_set.choice_of(spec, None))
    part = RunDir(run.root.with_name(f"{UNFINISHED}{run.root.name}-{secrets.token_hex(8)}"))
    try:
        part.root.mkdir(parents=True)
        more = {trial_set.SHARED: True, "run_id": run.root.name}
        trial_set.write_records(seeded, part, inputs, **more)
        part.root.rename(run.root)
    except OSError:
        # A folder is not renamed over one that is not empty.
        if not run.root.is_dir():
            raise
        return False
    finally:
        shutil.rmtree(part.root, ignore_errors=True)
    return True


def _require_same(spec: SetSpec, inputs: Inputs, run: RunDir) -> None:
    """Raise a ``ConfigError`` that names what differs between ``spec`` and the set."""
    with damage_told(run.run_file, "a set's record", ELSE):
        record, config = read_object(run.run_file), read_file(run.config)
    if not record.get(trial_set.SHARED):
        raise ConfigError(f"{run.root}: a run, and no set that trials join one by one; {ELSE}")
    pairs: list[tuple[str, Any, Any]] = [
        ("benchmark", spec.benchmark.name, record.get("benchmark")),
        ("number of trials (--of)", spec.runs, record.get("runs")),
        ("version of trainbench", __version__, record.get("trainbench_version")),
    ]
    if spec.seed is not None:
        pairs.append(("--seed", str(spec.seed), record.get("seed")))
    told = [f"{name} {own} here, {other} there" for name, own, other in pairs if own != other]
    if not told and config != to_json(spec.config).encode():
        told = list(_settings_apart(spec, config)) or ["config.json is another"]
    own, there = (dict(_sums(object_or_empty(p))) for p in (inputs.cache_record, run.cache_record))
    apart = sorted(name for name in own.keys() | there.keys() if own.get(name) != there.get(name))
    if not told and apart:
        told = [f"the data are others (cache.json: {', '.join(apart[:3])})"]
    if told:
        raise ConfigError(
            f"{run.root}: the set was begun with other settings: {'; '.join(told)}; use the same, "
            f"{ELSE}"
        )


def _settings_apart(spec: SetSpec, config: bytes) -> Iterator[str]:
    with contextlib.suppress(ValueError, TrainbenchError):
        there = spec.benchmark.from_json(config)
        apart = configuration.differences(spec.config, there)
        for name, (other, own) in sorted(apart.items()):
            yield f"{name} {own} here, {other} there"


def _sums(record: Mapping[str, Any], of: str = "") -> Iterator[tuple[str, Any]]:
    """What of a cache's record says what is in it, and not when or how it was made, by its place.

    These are all SHA-256 sums and counts, wherever a benchmark has them.
    """
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _sums(value, f"{of}{name} ")
        elif name in _OF_THE_MAKING:
            continue
        elif of.startswith("counts ") or (isinstance(value, str) and _SUM.fullmatch(value)):
            yield f"{of}{name}", value
