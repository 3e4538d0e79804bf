"""What a set of trials was asked for, and what one trial of it needs: plain records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainbench.benchmark import DEFAULT, Benchmark, find, load, registered
from trainbench.configuration import record
from trainbench.display.secrets import without_credentials
from trainbench.errors import ConfigError
from trainbench.files import damage_told, object_or_empty, read_object
from trainbench.machine.images import images
from trainbench.machine.page_cache import DROP_CACHES
from trainbench.trials.paths import DataDir, RunDir, TrialDir


@dataclass(frozen=True)
class Original:
    """The trial that another one repeats with its seed, as run.json of a replay has it."""

    run_id: str
    trial: int
    seed: str

    def __str__(self) -> str:
        return f"trial {self.trial} of run {self.run_id}"


@dataclass(frozen=True)
class SetSpec:
    """What ``train`` was asked for.

    Attributes:
        seed: of the set; ``None`` takes each trial's from the system's entropy.
        options: of this benchmark's own (``Benchmark.options``), by name.
        pipeline: whether the other steps run before and after it in this process.
        trial, into: the one trial of ``runs`` to run, in the set of this name that other processes
            share (``trials.shared_set``); without them all are run here.
        fresh: begin a new run also where the latest one was cut off.
        replays: the trial to repeat; the set is one trial with the seed of that one.
        choice: what was decided for all trials (``Benchmark.choose``), once it is.
        note, tags: what the user says of the run (``trials.notes``).

    Raises:
        ConfigError: ``runs`` below 1, or ``seed`` below 0.
    """

    benchmark: Benchmark
    config: Any
    data: DataDir
    runs: int = 1
    seed: int | None = None
    command: Sequence[str] = ()
    drop_cache_location: str = DROP_CACHES
    git: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    pipeline: bool = False
    trial: int | None = None
    into: str = ""
    fresh: bool = False
    replays: Original | None = None
    choice: Mapping[str, Any] | None = None
    note: str = ""
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # It is recorded, shown and handed on; a mirror's address may hold a password.
        object.__setattr__(self, "command", tuple(map(without_credentials, self.command)))
        if self.runs < 1:
            raise ConfigError(f"runs={self.runs}: wanted 1 or more")
        if self.trial is not None and not 0 <= self.trial < self.runs:
            raise ConfigError(
                f"--trial {self.trial} --of {self.runs}: wanted a trial from 0 to {self.runs - 1}"
            )
        if self.seed is not None and self.seed < 0:
            raise ConfigError(f"seed={self.seed}: wanted 0 or more")

    def checked(self) -> SetSpec:
        """This set as its benchmark runs it; a ``ConfigError`` says why it cannot."""
        if not self.benchmark.check_set:
            return self
        found: SetSpec = load(self.benchmark.check_set)(self)
        return found


@dataclass(frozen=True)
class TrialSpec:
    """One trial, beside the run's config.json: the arguments in trial_<i>/spec.json.

    There the seed is text: a whole number of 62 bits is not exact in every reader of JSON.
    """

    benchmark: str
    data: str
    run: str
    index: int
    seed: int
    drop_cache_location: str = DROP_CACHES
    git: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    images: Sequence[Mapping[str, Any]] = ()
    replays: Original | None = None
    choice: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: SetSpec, run: RunDir, *, index: int, seed: int) -> TrialSpec:
        """The trial ``index`` of the set ``spec``."""
        return cls(
            benchmark=spec.benchmark.name,
            data=str(spec.data.root),
            run=str(run.root),
            index=index,
            seed=seed,
            drop_cache_location=spec.drop_cache_location,
            git=spec.git,
            options=spec.options,
            images=images(spec.data.images),
            replays=spec.replays,
            choice=spec.choice or {},
        )

    @classmethod
    def from_json(cls, arguments: Mapping[str, Any]) -> TrialSpec:
        """The spec that ``to_json`` made of it; a ``ValueError`` says what is wrong."""
        return record(cls, {**arguments, "seed": int(arguments["seed"])})

    def to_json(self) -> dict[str, Any]:
        """The arguments in spec.json."""
        return {**asdict(self), "seed": str(self.seed)}

    @property
    def data_dir(self) -> DataDir:
        """The data directory."""
        return DataDir(Path(self.data))

    @property
    def run_dir(self) -> RunDir:
        """The folder of the set."""
        return RunDir(Path(self.run))

    @property
    def trial_dir(self) -> TrialDir:
        """The folder of this trial."""
        return self.run_dir.trial(self.index)


def recorded_seed(trial: TrialDir) -> int:
    """The seed of a trial by its status.json, where it is text or, of earlier versions, a number.

    Raises:
        DataIntegrityError: there is none.
    """
    with damage_told(trial.status, "the status of a trial", "name a trial that has ended"):
        return int(str(read_object(trial.status)["seed"]))


@dataclass(frozen=True)
class Run:
    """Identity of a run, from run.json."""

    run_id: str | None
    created_unix_s: float | None
    preset: str | None
    runs: int | None
    seed: str | None
    command: tuple[str, ...] | None
    trainbench_version: str | None
    system_name: str | None


def benchmark_of(run: RunDir) -> Benchmark:
    """The benchmark that ``run`` is of.

    run.json names it. Where it does not, or is not there, the folder of stitched logs does, or the
    spec of a trial; runs of before it was recorded are the default benchmark's.

    Raises:
        ConfigError: it is of a benchmark that is not installed here.
    """
    named = object_or_empty(run.run_file).get("benchmark")
    if isinstance(named, str):
        return find(named)
    stitched = [path.name for path in sorted(run.root.glob("results/*/*")) if path.is_dir()]
    started = [object_or_empty(trial.spec).get("arguments") for trial in run.trials]
    specs = [str(spec.get("benchmark")) for spec in started if isinstance(spec, dict)]
    return find(next((name for name in (*stitched, *specs) if name in registered()), DEFAULT))
