"""What a report is made of: plain records that hold only what the run directory says.

``None`` means that the run directory does not say; every table prints it as "n/a". Units are in
the names. The same records, as JSON, are results.json (results.schema.json).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from trainbench.benchmark import Benchmark, Quality, load
from trainbench.compliance.rules.levels import LEVELS
from trainbench.machine.load import Load, Sample
from trainbench.machine.system import kind
from trainbench.trials.notes import NONE, Notes
from trainbench.trials.spec import Run
from trainbench.trials.status import Status

if TYPE_CHECKING:
    from trainbench.reporting.sections import Sections

SCHEMA_VERSION = 2


class Epoch(Protocol):
    """What the report knows of an epoch, whatever else its benchmark records of it."""

    @property
    def epoch(self) -> float | None:
        """Its number, from 0; of evaluations the epochs trained, with a fraction."""

    @property
    def quality(self) -> float | None:
        """The quality after it."""


@dataclass(frozen=True)
class LoggedEpoch:
    """An epoch of which only the log is left; ``elapsed_s`` counts from ``run_start``."""

    epoch: int | None
    quality: float | None
    elapsed_s: float | None
    unix_s: float | None


@dataclass(frozen=True)
class Phase:
    """One line of phases.jsonl; ``timed`` says whether it was on the clock."""

    name: str | None
    epoch: int | None
    start_unix_s: float | None
    duration_s: float | None
    timed: bool | None


@dataclass(frozen=True)
class CacheDrop:
    """Whether and how the page cache was dropped before ``run_start``.

    ``in_use_kib`` of what is cached afterwards cannot be dropped.
    """

    dropped: bool | None
    method: str | None
    cached_before_kib: int | None
    cached_after_kib: int | None
    in_use_kib: int | None
    location: str | None
    reason: str | None


@dataclass(frozen=True)
class Work:
    """What one sample, pair or image needs at least, in operations and bytes."""

    flops: float | None
    bytes: float | None


@dataclass(frozen=True)
class Limits:
    """limits.json: what the trial's device does at best, and what its work needs of that."""

    device: str | None
    precision: str | None
    gflop_per_s: float | None
    gbyte_per_s: float | None
    training: Work | None
    evaluation: Work | None


@dataclass(frozen=True)
class Rule:
    """A rule under the lowest level that has it, and what it wants."""

    level: str
    rule: str
    wanted: str


@dataclass(frozen=True)
class LogFinding:
    """One breach of one rule. ``excerpt`` holds (line number, line) pairs around it."""

    level: str
    rule: str
    line_number: int | None
    found: str
    wanted: str
    excerpt: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Contradiction:
    """What a file of the run says, and what its sum, a log or another file says of the same."""

    rule: str
    file: str
    found: str
    wanted: str


@dataclass(frozen=True)
class LogCheck:
    """A stitched log checked again: its time, its outcome and the findings of all levels.

    ``converged`` is the log's own evidence, ``best >= target``; ``success`` what it claims.
    ``time_s`` is by the wall clock; without clock.jsonl, ``clocks_agree`` is None. ``benchmark`` is
    what its first line names.
    """

    file: str
    sha256: str
    benchmark: str | None
    time_s: float | None
    monotonic_time_s: float | None
    clocks_agree: bool | None
    run_start_unix_s: float | None
    run_stop_unix_s: float | None
    best: float | None
    target: float | None
    converged: bool
    success: bool | None
    seed: str | None
    degraded: tuple[str, ...]
    findings: tuple[LogFinding, ...]

    def of_level(self, level: str) -> tuple[LogFinding, ...]:
        """The findings that make the log fail a level: its own and those of lower ones."""
        return tuple(f for f in self.findings if LEVELS.index(f.level) <= LEVELS.index(level))


@dataclass(frozen=True)
class Score:
    """The statistic of all logs: the v0.5 one if ``official``, else that of the converged runs."""

    official: bool
    order: str
    runs: int
    converged: int
    counted: tuple[int, ...]
    dropped: tuple[int, ...]
    mean_s: float | None
    standard_deviation_s: float | None
    median_s: float | None
    shortest_s: float | None
    longest_s: float | None
    interval_s: tuple[float, float] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One trial with everything its folder says.

    ``load`` is on the time that the clock ran. ``measured`` is what only its benchmark measures, if
    anything: a dataclass.
    """

    index: int
    status: Status
    epochs: tuple[Epoch, ...]
    phases: tuple[Phase, ...]
    cache_drop: CacheDrop
    system: Mapping[str, Any]
    log: LogCheck | None
    load: Load | None = None
    limits: Limits | None = None
    measured: Any = None

    @property
    def finished(self) -> bool:
        """Whether it ended, with or without the target; without status.json the log decides."""
        if self.status.state is None:
            return self.log is not None and self.log.time_s is not None
        return self.status.state in ("converged", "not_converged", "completed")

    @property
    def reached(self) -> bool:
        """Whether it finished at the target: by its log, and by status.json without a log."""
        claimed = self.status.state == "converged"
        return self.finished and (self.log.converged if self.log else claimed)

    @property
    def targetless(self) -> bool:
        """Whether it finished all its epochs and had no target, by status.json and by its log."""
        return self.status.state == "completed" and (self.log is None or self.log.target is None)

    @property
    def time_s(self) -> float | None:
        """Time to train: ``run_stop - run_start`` of the log; of status.json without a log."""
        return self.time_on_clock_s if self.reached else None

    @property
    def seed(self) -> str | None:
        """The seed that the trial drew."""
        own = self.status.seed
        return self.log.seed if own is None and self.log else own

    @property
    def best(self) -> float | None:
        """The highest quality of any epoch."""
        found = [e.quality for e in self.epochs if e.quality is not None]
        return max(found, default=self.status.best)

    @property
    def time_on_clock_s(self) -> float | None:
        """``run_stop - run_start``, whether or not the target was reached."""
        from_log = self.log.time_s if self.log else None
        return self.status.time_to_train_s if from_log is None else from_log

    def covered(self, phases: Iterable[Phase]) -> float | None:
        """The share of the time on the clock that those of ``phases`` on it took.

        What is left of a phase after ``run_stop`` was not on the clock.
        """
        zero, total = self.zero_s, self.time_on_clock_s
        timed = [(p.start_unix_s, p.duration_s) for p in phases if p.timed]
        spans = [(at, for_s) for at, for_s in timed if at is not None and for_s is not None]
        if zero is None or not total or not spans:
            return None
        return sum(min(for_s, max(0.0, zero + total - at)) for at, for_s in spans) / total

    def elapsed_s(self, epoch: Any) -> float | None:
        """Seconds from ``run_start`` to the quality of one of its epochs, as far as it says."""
        own, unix_s, zero = (
            getattr(epoch, "elapsed_s", None),
            getattr(epoch, "unix_s", None),
            self.zero_s,
        )
        if own is not None or unix_s is None or zero is None:
            return own
        return float(unix_s) - zero

    @property
    def placed_phases(self) -> tuple[Phase, ...]:
        """Those of which is known when they were."""
        return tuple(
            p for p in self.phases if p.start_unix_s is not None and p.duration_s is not None
        )

    @property
    def zero_s(self) -> float | None:
        """Unix time of ``run_start``; of the first phase on the clock without a log."""
        if self.log and self.log.run_start_unix_s is not None:
            return self.log.run_start_unix_s
        starts = [p.start_unix_s for p in self.phases if p.timed and p.start_unix_s is not None]
        return min(starts, default=None)


@dataclass(frozen=True)
class Difference:
    """A configuration field in which the run departs from the reference."""

    key: str
    reference: str
    this: str


@dataclass(frozen=True)
class Results:
    """A run as its directory tells it.

    ``set_findings`` are on all logs together; ``contradictions`` are between the files of the run,
    and ``chain`` says which were compared with their sums; ``set_aside`` names trials that were cut
    off and started anew; ``logged`` has what the logs say of the hyperparameters, by tag;
    ``samples`` are the typical trial's looks at the machine, for the page alone; ``notes`` is what
    the user says of the run.
    """

    run: Run
    config: Mapping[str, Any]
    differences: tuple[Difference, ...] | None
    dataset: Mapping[str, Any]
    cache: Mapping[str, Any]
    trials: tuple[Trial, ...]
    rules: tuple[Rule, ...]
    logged: Mapping[str, tuple[Any, ...]]
    set_findings: tuple[LogFinding, ...]
    contradictions: tuple[Contradiction, ...]
    chain: str
    score: Score | None
    set_aside: tuple[str, ...]
    missing: tuple[str, ...]
    benchmark: Benchmark
    samples: tuple[Sample, ...] = ()
    notes: Notes = NONE

    @property
    def quality(self) -> Quality:
        """What its benchmark is trained for."""
        return self.benchmark.quality

    @property
    def sections(self) -> Sections:
        """What its benchmark adds to the report."""
        found: Sections = load(self.benchmark.report)
        return found

    @property
    def target(self) -> float | None:
        """The quality that stops training."""
        value = self.config.get(self.quality.target)
        logged = [t.log.target for t in self.trials if t.log and t.log.target]
        return value if isinstance(value, float) else next(iter(logged), None)

    @property
    def best(self) -> float | None:
        """The highest quality of any trial."""
        return max((t.best for t in self.trials if t.best is not None), default=None)

    @property
    def degraded(self) -> tuple[str, ...]:
        """What makes the result less than the benchmark's own, in words, each once."""
        texts = [d.text or d.code for t in self.trials for d in t.status.degraded or ()]
        told = {d.code for t in self.trials for d in t.status.degraded or ()}
        logged = (code for t in self.trials if t.log for code in t.log.degraded)
        texts += [f"{code} (the log alone says so)" for code in logged if code not in told]
        if any(t.log and t.log.clocks_agree is False for t in self.trials):
            texts.append("the wall clock, by which the log is written, was not right in the run")
        texts += _machines_apart(self.trials)
        runs = max(self.run.runs or 0, len(self.trials))
        asked = self.benchmark.run_rule.runs
        if runs < asked:
            texts.append(f"{runs} of the {asked} runs that the rules ask for")
        return tuple(dict.fromkeys(text for text in texts if text))


def _machines_apart(trials: Iterable[Trial]) -> list[str]:
    """In what the machines of the trials differ that decides their times or last digits."""
    kinds = {
        t.index: {**kind(t.system), "memory": t.system.get("memory_bytes")}
        for t in trials
        if t.system
    }
    texts = []
    for name in next(iter(kinds.values()), {}):
        values: dict[str, list[int]] = {}
        for index, found in kinds.items():
            values.setdefault(_in_words(found.get(name)), []).append(index)
        if len(values) > 1:
            each = "; ".join(f"{value} in {_some(those)}" for value, those in values.items())
            texts.append(f"{name}: {each}")
    return [f"the trials ran on machines that differ: {', and '.join(texts)}"] if texts else []


def _in_words(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_in_words, value)) or "none"
    if isinstance(value, Mapping):
        return str(value.get("name") or "another")
    return "none" if value is None else str(value)


def _some(indices: list[int]) -> str:
    first = ", ".join(map(str, indices[:4]))
    return f"trial {first}" + (f" and {len(indices) - 4} more" if len(indices) > 4 else "")


def typical(trials: Iterable[Trial]) -> Trial | None:
    """The trial that a drawing of one shows: that of the median time to train.

    The first one with phases where none reached the target.
    """
    placed = [trial for trial in trials if trial.placed_phases]
    timed = sorted((t.time_s, t.index, t) for t in placed if t.time_s is not None)
    if timed:
        return timed[(len(timed) - 1) // 2][2]
    return placed[0] if placed else None
