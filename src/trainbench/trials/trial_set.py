"""A set of trials, whatever they train: its run folder, and each trial in a process of its own.

A trial that misses its target, or fails, is a result like any other. An
interrupted set is continued by the next call with the same configuration; finished trials are
never touched, and a trial that was cut off starts again beside its remains.
"""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainbench import __version__
from trainbench.benchmark import Inputs, Quality, load
from trainbench.configuration import to_json
from trainbench.errors import (
    ConfigError,
    DataIntegrityError,
    MachineError,
    TargetNotReachedError,
    TrainbenchError,
)
from trainbench.files import (
    fill,
    named,
    object_or_empty,
    read_file,
    read_object,
    write_atomically,
    write_json,
)
from trainbench.machine import cache_service, page_cache, privileges, system
from trainbench.machine.load import load_of, read_samples, timed
from trainbench.machine.page_cache import DROP_CACHES
from trainbench.machine.sampler import sampled
from trainbench.progress import duration, log_line
from trainbench.trials import chain, child, exports, live, lock, signals
from trainbench.trials.clock import timed_span
from trainbench.trials.paths import DataDir, RunDir, TrialDir
from trainbench.trials.spec import Run, SetSpec, TrialSpec
from trainbench.trials.status import Status, read_status

# completed: a trial without a target has trained all its epochs.
FINISHED = ("converged", "not_converged", "completed", "failed")
# Exit codes of a trial after which the next one would also fail: configuration, data, machine.
HOPELESS = {kind.exit_code: kind for kind in (ConfigError, DataIntegrityError, MachineError)}
# What TensorFlow says of itself before its log level counts; stdout.log keeps it.
_START_UP_NOTE = re.compile(r"[IWE]\d{4} 00:00:|WARNING: All log messages before absl::")
SHARED = "shared"
"""In run.json of a set whose trials are run one by one, by processes that share it."""
# Docker kills ten seconds after it asks; the trial must be gone before.
_GRACE_S = 8


def trial_seed(seed: int | None, index: int) -> int:
    """The seed of one trial: from the system's entropy, or derived when ``seed`` is given.

    The rules want the system's entropy for official runs (training_rules.adoc@6e02163, "Random
    numbers"); a derived seed replays a set.
    """
    if seed is None:
        return secrets.randbits(62)
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 2)


def run_set(spec: SetSpec) -> RunDir:
    """Run the trials that are missing and return the run's folder.

    Raises:
        ConfigError, DataIntegrityError, MachineError: no usable data, or a trial failed for a
            reason that would fail the next one as well.
    """
    exports.require_possible(spec.runs)
    inputs: Inputs = load(spec.benchmark.inputs)(spec.config, spec.data)
    run = None if spec.fresh else _interrupted_run(spec)
    spec = replace(spec, choice=choice_of(spec, run))
    run = run or _new_run(spec, inputs)
    started = time.monotonic()
    for index in range(spec.runs):
        status = _finished(spec, run, index)
        _say_progress(spec, run, index + 1, time.monotonic() - started)
        raise_if_hopeless(index, status)
    return run


def choice_of(spec: SetSpec, run: RunDir | None) -> Mapping[str, Any]:
    """What is decided for all trials: of the trial to repeat, of the run to continue, or now."""
    if spec.choice is not None or not spec.benchmark.choose:
        return spec.choice or {}
    if run is not None:
        recorded = read_object(run.run_file).get("choice")
        return recorded if isinstance(recorded, dict) else {}
    found: Mapping[str, Any] = load(spec.benchmark.choose)(spec)
    return found


def raise_if_hopeless(index: int, status: Status) -> None:
    """Raise where a trial failed for a reason that would fail the next one as well."""
    if status.state == "failed" and status.exit_code in HOPELESS:
        kind = HOPELESS[status.exit_code]
        raise kind(f"trial {index} failed: {status.message}")


def require_target(run: RunDir, quality: Quality) -> None:
    """Raise unless one trial of ``run`` reached its target, or had none and trained all epochs.

    Raises:
        TrainbenchError: every trial failed. TargetNotReachedError: none reached the target.
    """
    statuses = [read_status(trial.status, quality) for trial in run.trials]
    if any(status.state in ("converged", "completed") for status in statuses):
        return
    if all(status.state == "failed" for status in statuses):
        raise TrainbenchError(f"{run.root}: every trial failed: {statuses[-1].message}")
    highest = max(status.best or 0.0 for status in statuses)
    raise TargetNotReachedError(
        f"{run.root}: best {quality.name} {highest:.4f} is below the target {statuses[0].target}"
    )


def follow(
    command: list[str],
    log_file: Path,
    *,
    drop_cache_location: str = DROP_CACHES,
    machine: Path | None = None,
    write: Callable[[str], object] | None = None,
) -> int:
    """Run ``command``, add what it prints to ``log_file`` and here, and end it if we are ended.

    ``write`` takes the lines in place of standard error.

    The process has no privileges that this one could give up; it may ask to drop the page cache.
    It has this one's locks as well, which hold until it ends, should this one be killed before.
    A line a second on what it takes of the machine goes to ``machine``.
    """
    started: list[subprocess.Popen[str]] = []
    with cache_service.answering(lambda: asdict(page_cache.drop_here(drop_cache_location))) as ask:
        ask["pass_fds"] = (*ask["pass_fds"], *lock.held())
        try:
            with privileges.unprivileged() as user, signals.kept_from_children():
                # A session of its own: the terminal's Ctrl-C reaches us alone, and we pass it on
                # once, also the one that comes while we start it.
                started += [_start(command, **user, **ask)]
            return _follow(started[0], log_file, machine, write or sys.stderr.write)
        except BaseException:
            for child in started:
                _end(child)
            raise


def _start(command: list[str], **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        **more,
    )


def _follow(
    child: subprocess.Popen[str],
    log_file: Path,
    machine: Path | None,
    write: Callable[[str], object],
) -> int:
    assert child.stdout is not None
    with open(log_file, "a", encoding="utf-8") as copy, sampled(child.pid, machine):
        for line in child.stdout:
            with named(log_file):
                copy.write(line)
                copy.flush()
            if not _START_UP_NOTE.match(line):
                write(line)
    return child.wait()


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code == -9:
        return "signal 9 (often the kernel, out of memory: try a smaller batch_size)"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _new_run(spec: SetSpec, inputs: Inputs) -> RunDir:
    """A new run folder with what every run records, the latest from now on."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    run = spec.data.run(f"{stamp}-{spec.benchmark.label(spec.config)}-{secrets.token_hex(2)}")
    run.root.mkdir(parents=True)
    write_records(spec, run, inputs)
    if not spec.replays:
        point_latest_at(spec.data, run)
    log_line(f"new run {run.root.name}: {spec.runs} trial(s)")
    return run


def write_records(spec: SetSpec, run: RunDir, inputs: Inputs, **more: Any) -> None:
    """Write what every run records before its first trial into its folder; ``more`` to run.json."""
    write_atomically(run.config, to_json(spec.config))
    shutil.copyfile(inputs.cache_record, run.cache_record)
    shutil.copyfile(inputs.manifest, run.manifest)
    record = {
        "schema": 1,
        "benchmark": spec.benchmark.name,
        "run_id": run.root.name,
        "created_unix_s": int(time.time()),
        "preset": spec.config.preset,
        "runs": spec.runs,
        "seed": _text(spec.seed),
        "command": list(spec.command),
        "trainbench_version": __version__,
        "system_name": system.slug(system.record(git={})),
        "chain": True,
        **({"replays": spec.replays} if spec.replays else {}),
        **({"choice": spec.choice} if spec.choice else {}),
        **({"note": spec.note} if spec.note else {}),
        **({"tags": list(spec.tags)} if spec.tags else {}),
        **more,
    }
    write_json(run.run_file, record, sort_keys=False)


def _interrupted_run(spec: SetSpec) -> RunDir | None:
    """The latest run, if it was asked for the same and has trials missing."""
    run = RunDir(spec.data.latest)
    if not run.run_file.exists() or not run.config.exists():
        return None
    try:
        record = read_object(run.run_file)
        asked, config = fill(Run, record), read_file(run.config)
    except ValueError as error:
        log_line(f"{run.root}: {error}; this run is not continued")
        return None
    # Of a set that processes share each trial is somebody's.
    same = (
        asked.run_id
        and not record.get(SHARED)
        and (asked.runs, asked.seed) == (spec.runs, _text(spec.seed))
    )
    if not same or config != to_json(spec.config).encode():
        return None
    missing = sum(not has_ended(spec, run, index) for index in range(spec.runs))
    if not missing:
        return None
    log_line(f"continuing run {asked.run_id}: {missing} of {spec.runs} trial(s) missing")
    return spec.data.run(run.root.resolve().name)


def _status(spec: SetSpec, run: RunDir, index: int) -> Status:
    return read_status(run.trial(index).status, spec.benchmark.quality)


def has_ended(spec: SetSpec, run: RunDir, index: int) -> bool:
    """Whether nothing of a trial is missing: without its sums, the last file, it was cut off."""
    sealed = run.trial(index).chain.is_file() or not chain.promised(run)
    return sealed and _status(spec, run, index).state in FINISHED


def _finished(spec: SetSpec, run: RunDir, index: int) -> Status:
    """The status of a trial that has ended, now or before."""
    trial, status = run.trial(index), _status(spec, run, index)
    if has_ended(spec, run, index):
        return status
    without_sums = f"no {trial.chain.name}" if status.state in FINISHED else ""
    seed = int(spec.replays.seed) if spec.replays else trial_seed(spec.seed, index)
    return run_trial(spec, run, index, seed, because=without_sums)


def run_trial(spec: SetSpec, run: RunDir, index: int, seed: int, *, because: str = "") -> Status:
    """Run one trial beside the remains of an earlier one, and return how it ended.

    ``because`` says why those do not count, where their status does not.
    """
    trial = run.trial(index)
    _set_aside(trial, because or _status(spec, run, index).state or "no status")
    log_line(f"trial {index + 1} of {spec.runs}, seed {seed}")
    trial.root.mkdir()
    one = TrialSpec.of(spec, run, index=index, seed=seed)
    command = child.command(trial.spec, "trainbench.trials.child:trial", one.to_json())
    try:
        _run_in_process(trial, command, seed, spec.drop_cache_location)
    finally:
        exports.export_raw_log(trial)
    if chain.promised(run):
        chain.seal_trial(run, trial)
    return _status(spec, run, index)


def _text(seed: int | None) -> str | None:
    return None if seed is None else str(seed)


def point_latest_at(data: DataDir, run: RunDir) -> None:
    """Make ``run`` the latest one, whatever it was before."""
    link = data.runs / f".latest.{run.root.name}"
    link.symlink_to(run.root.name)
    link.replace(data.latest)


def _set_aside(trial: TrialDir, state: str) -> None:
    if not trial.root.exists():
        return
    prefix = f"{trial.root.name}.aborted-"
    ends = (path.name.removeprefix(prefix) for path in trial.root.parent.glob(f"{prefix}*"))
    # Above the highest and not how many there are, since somebody may have deleted one.
    number = 1 + max((int(end) for end in ends if re.fullmatch("[0-9]{1,9}", end)), default=-1)
    trial.root.rename(trial.root.with_name(f"{prefix}{number}"))
    how = "had failed" if state == "failed" else f"was cut off ({state})"
    log_line(f"{trial.root.name} {how}; starting it again")


def _run_in_process(trial: TrialDir, command: list[str], seed: int, location: str) -> None:
    try:
        with live.shown(trial, sys.stderr) as line:
            code = follow(
                command,
                trial.stdout,
                drop_cache_location=location,
                machine=trial.machine,
                write=line.above if line else None,
            )
    except BaseException:
        _mark_interrupted(trial)
        raise
    finally:
        trial.progress.unlink(missing_ok=True)
    status = object_or_empty(trial.status)
    if str(status.get("state")) in FINISHED:
        _note_load(trial, status)
        return
    error = TrainbenchError(f"the trial's process ended with {ending(code)}; see {trial.stdout}")
    status = {"seed": str(seed), **status, "state": "failed"}
    status |= {"exit_code": error.exit_code, "message": str(error)}
    write_json(trial.status, status, sort_keys=False)


def _note_load(trial: TrialDir, status: Mapping[str, Any]) -> None:
    """Mark the result if others took too much of the machine while the clock ran."""
    span = timed_span(trial.phases)
    load = load_of(timed(read_samples(trial.machine), *span)) if span else None
    if load is None or not load.busy:
        return
    text = f"the machine was busy: {load.sentence()}"
    log_line(text)
    degraded = [*(status.get("degraded") or ()), {"code": "busy_machine", "text": text}]
    write_json(trial.status, {**status, "degraded": degraded}, sort_keys=False)


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _mark_interrupted(trial: TrialDir) -> None:
    status = object_or_empty(trial.status)
    if status.get("state") == "running":
        status |= {"state": "interrupted", "exit_code": 130, "message": "interrupted"}
        write_json(trial.status, status, sort_keys=False)


def _say_progress(spec: SetSpec, run: RunDir, done: int, seconds: float) -> None:
    if spec.runs == 1:
        return
    states = [_status(spec, run, index).state for index in range(done)]
    left = spec.runs - done
    log_line(
        f"{done} of {spec.runs} trials done, {states.count('converged')} converged, {left} left, "
        f"ETA {duration(seconds / done * left)}"
    )
