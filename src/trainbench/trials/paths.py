"""Every path of a data directory and of a run, and nothing else.

The files named here are the contract between the steps (docs/outputs.md): each is written once, by
the step in whose section it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataDir:
    """The mounted volume: ``/data`` in containers, ``./data`` on the host."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held by the step that is running; its text says which."""
        return self.root / ".lock"

    @property
    def steps(self) -> Path:
        """steps.jsonl: one line per step that ended, with its exit code and duration."""
        return self.root / "steps.jsonl"

    def raw(self, dataset: str) -> Path:
        """Folder of a downloaded or generated dataset."""
        return self.root / "raw" / dataset

    def manifest(self, dataset: str) -> Path:
        """What was downloaded: URL, sizes, checksums."""
        return self.raw(dataset) / "manifest.json"

    @property
    def caches(self) -> Path:
        """Folder of all preprocessed caches."""
        return self.root / "cache"

    def cache(self, key: str) -> Path:
        """Folder of one preprocessed cache."""
        return self.caches / key

    @property
    def work(self) -> Path:
        """Folder of the running producers' input; empty when nothing runs."""
        return self.root / "work"

    @property
    def runs(self) -> Path:
        """Folder of all runs."""
        return self.root / "runs"

    @property
    def latest(self) -> Path:
        """Symbolic link to the newest run."""
        return self.runs / "latest"

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

    @property
    def run_file(self) -> Path:
        """run.json: identity, command, number of trials."""
        return self.root / "run.json"

    @property
    def config(self) -> Path:
        """config.json: the resolved configuration that all trials share."""
        return self.root / "config.json"

    @property
    def manifest(self) -> Path:
        """Copy of the dataset's manifest.json, so that the run can be reviewed elsewhere."""
        return self.root / "manifest.json"

    @property
    def cache_record(self) -> Path:
        """Copy of the cache's cache.json."""
        return self.root / "cache.json"

    def trial(self, index: int) -> TrialDir:
        """Folder of the trial with this index, counted from 0."""
        return TrialDir(self.root / f"trial_{index}")

    @property
    def trials(self) -> list[TrialDir]:
        """The trial folders that exist, by index."""
        found = [p for p in self.root.glob("trial_*") if p.name[6:].isdigit() and p.is_dir()]
        return [TrialDir(p) for p in sorted(found, key=lambda p: int(p.name[6:]))]

    def results(self, system: str, benchmark: str = "ncf") -> Path:
        """Folder of stitched logs in the submission layout, ``results/<system>/ncf``."""
        return self.root / "results" / system / benchmark

    @property
    def findings(self) -> Path:
        """findings.json: what stitch and check found, per trial."""
        return self.root / "results" / "findings.json"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.root / "report"


@dataclass(frozen=True)
class TrialDir:
    """One training run from caches dropped to target or epoch cap."""

    root: Path

    @property
    def index(self) -> int:
        """Position of the trial in its run, from 0."""
        return int(self.root.name.removeprefix("trial_"))

    @property
    def spec(self) -> Path:
        """spec.json: what the trial's process was started with."""
        return self.root / "spec.json"

    @property
    def stdout(self) -> Path:
        """Everything the trial's process printed."""
        return self.root / "stdout.log"

    @property
    def compliance_raw(self) -> Path:
        """The trainer's raw compliance lines (prefix ``NCF_RAW_``)."""
        return self.root / "compliance_raw.log"

    @property
    def compliance_generator(self) -> Path:
        """The producer's raw compliance lines."""
        return self.root / "compliance_generator.log"

    @property
    def compliance_preprocess(self) -> Path:
        """The preprocessing's raw compliance lines, copied from the cache."""
        return self.root / "compliance_preprocess.log"

    @property
    def raw_logs(self) -> list[Path]:
        """The raw compliance logs of all processes of the trial, those that exist."""
        logs = [self.compliance_preprocess, self.compliance_raw, self.compliance_generator]
        return [p for p in logs if p.exists()]

    @property
    def generator_log(self) -> Path:
        """What the producer process printed."""
        return self.root / "generator.log"

    @property
    def epochs(self) -> Path:
        """epochs.jsonl: one line per epoch."""
        return self.root / "epochs.jsonl"

    @property
    def phases(self) -> Path:
        """phases.jsonl: one line per phase, on or off the clock."""
        return self.root / "phases.jsonl"

    @property
    def system(self) -> Path:
        """system.json: the machine, driver, images and packages."""
        return self.root / "system.json"

    @property
    def result(self) -> Path:
        """result.json: what a CNN trial measured, step by step."""
        return self.root / "result.json"

    @property
    def cache_drop(self) -> Path:
        """cache_drop.json: how the page cache was dropped, with the proof, or why it was not."""
        return self.root / "cache_drop.json"

    @property
    def status(self) -> Path:
        """status.json: state, exit code, seed, outcome."""
        return self.root / "status.json"

    @property
    def model(self) -> Path:
        """Folder of the trained weights."""
        return self.root / "model"
