"""Every path of a data directory and of a run, and nothing else.

The files named here are the contract between the steps (docs/outputs.md): each is written once, by
the step in whose section it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeGuard

from trainbench.files import is_own_file, is_own_folder

_TRIAL = re.compile(r"trial_([0-9]+)")


class _Folder(Protocol):
    @property
    def root(self) -> Path: ...


class _In:
    """A path in the folder of the object that it is an attribute of."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, owner: _Folder, kind: type) -> Path:
        return owner.root / self._name


def _is_file(kind: object) -> TypeGuard[_In]:
    return isinstance(kind, _In)


@dataclass(frozen=True)
class DataDir:
    """The mounted volume: ``/data`` in containers, ``./data`` on the host."""

    root: Path

    lock = _In(".lock")  # held by the step that is running; its text says which
    steps = _In("steps.jsonl")  # a line per step that ended: exit code, duration
    caches = _In("cache")  # all preprocessed caches
    images = _In("images")  # a file per container image: the packages in it
    work = _In("work")  # the running producers' input; empty when nothing runs
    runs = _In("runs")
    lanes = _In("lanes.json")  # which form of NCF's step was measured to be fastest here
    latest = _In("runs/latest")  # a symbolic link to the newest run

    def raw(self, dataset: str) -> Path:
        """Folder of a downloaded or generated dataset."""
        return self.root / "raw" / dataset

    def manifest(self, dataset: str) -> Path:
        """What was downloaded: URL, sizes, checksums."""
        return self.raw(dataset) / "manifest.json"

    def cache(self, key: str) -> Path:
        """Folder of one preprocessed cache."""
        return self.caches / key

    def run(self, run_id: str) -> RunDir:
        """Folder of one run."""
        return RunDir(self.runs / run_id)

    def worker_spec(self, index: int) -> Path:
        """What worker ``index`` of a run on several machines was started with."""
        return self.root / "workers" / f"worker_{index}.json"

    def worker_log(self, index: int) -> Path:
        """What worker ``index`` of a run on several machines printed."""
        return self.root / "workers" / f"worker_{index}.log"


@dataclass(frozen=True)
class RunDir:
    """One run: one or more trials of one configuration, their results and their report."""

    root: Path

    run_file = _In("run.json")  # identity, command, number of trials
    config = _In("config.json")  # the resolved configuration that all trials share
    replay = _In("replay.json")  # of a replay: what it repeats, and whether it came out the same
    manifest = _In("manifest.json")  # the dataset's, copied: a run is reviewed elsewhere, too
    cache_record = _In("cache.json")  # the cache's, copied
    notes = _In("notes.json")  # what the user said of it later; no sum covers it
    findings = _In("results/findings.json")  # what stitch and check found, per trial
    chain = _In("results/sha256sums.txt")  # of the stitched logs and all that they stand on
    report = _In("report")

    @property
    def records(self) -> list[Path]:
        """What was written before the first trial and never changes."""
        return [self.run_file, self.config, self.manifest, self.cache_record]

    def trial(self, index: int) -> TrialDir:
        """Folder of the trial with this index, counted from 0."""
        return TrialDir(self.root / f"trial_{index}")

    def trial_lock(self, index: int) -> Path:
        """Of a set that processes share: held by the one that runs this trial; empty otherwise."""
        return self.root / f"trial_{index}.lock"

    @property
    def trials(self) -> list[TrialDir]:
        """The trial folders that exist, by index."""
        named = (p for p in self.root.glob("trial_*") if _TRIAL.fullmatch(p.name))
        folders = [path for path in named if is_own_folder(path, self.root)]
        return sorted(map(TrialDir, folders), key=lambda trial: trial.index)

    def results(self, system: str, benchmark: str = "ncf") -> Path:
        """Folder of stitched logs in the submission layout, ``results/<system>/ncf``."""
        return self.root / "results" / system / benchmark


@dataclass(frozen=True)
class TrialDir:
    """One training run from caches dropped to target or epoch cap."""

    root: Path

    spec = _In("spec.json")  # what the trial's process was started with
    status = _In("status.json")  # state, exit code, seed, outcome
    stdout = _In("stdout.log")  # everything the trial's process printed
    generator_log = _In("generator.log")  # what the producer process printed
    compliance_preprocess = _In("compliance_preprocess.log")  # copied from the cache
    compliance_raw = _In("compliance_raw.log")  # the trainer's raw lines (NCF_RAW_)
    compliance_generator = _In("compliance_generator.log")  # the producer's raw lines
    clock = _In("clock.jsonl")  # both clocks at each line of the trainer and the producer
    epochs = _In("epochs.jsonl")  # a line per epoch
    phases = _In("phases.jsonl")  # a line per phase, on or off the clock
    machine = _In("machine.jsonl")  # a line per second: what the trial and all else took
    system = _In("system.json")  # the machine, driver, images and packages
    limits = _In("limits.json")  # what its machine does at best, and what a sample needs
    result = _In("result.json")  # what a CNN trial measured, step by step
    cache_drop = _In("cache_drop.json")  # how the page cache was dropped, or why it was not
    progress = _In("progress.json")  # how far it is; gone when it has ended
    model = _In("model")  # folder of the trained weights
    chain = _In("sha256sums.txt")  # of all files above and of the run's records; the last one
    proof = _In("proof.json")  # what prove found

    @property
    def files(self) -> list[Path]:
        """Every file named above, whether or not it is there."""
        return [kind.__get__(self, TrialDir) for kind in vars(TrialDir).values() if _is_file(kind)]

    @property
    def index(self) -> int:
        """Position of the trial in its run, from 0."""
        return int(self.root.name.removeprefix("trial_"))

    @property
    def raw_logs(self) -> list[Path]:
        """The raw compliance logs of all processes of the trial, those that exist."""
        logs = [self.compliance_preprocess, self.compliance_raw, self.compliance_generator]
        return [path for path in logs if is_own_file(path, self.root)]
