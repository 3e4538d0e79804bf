"""What a report is made of: plain records that hold only what the run directory says.

``None`` means that the run directory does not say; every table prints it as "n/a". Units are in
the names. The same records, as JSON, are results.json (results.schema.json).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainbench.compliance.rules.levels import LEVELS
from trainbench.compliance.score import WANTED
from trainbench.compliance.tags import ncf as tags

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Run:
    """Identity of a run, from run.json."""

    run_id: str | None
    created_unix_s: float | None
    preset: str | None
    runs: int | None
    seed: int | None
    command: tuple[str, ...] | None
    trainbench_version: str | None
    system_name: str | None


@dataclass(frozen=True)
class Epoch:
    """One line of epochs.jsonl; ``elapsed_s`` counts from ``run_start``."""

    epoch: int | None
    mean_loss: float | None
    hit_rate: float | None
    ndcg: float | None
    hits: int | None
    users: int | None
    samples: int | None
    train_s: float | None
    eval_s: float | None
    input_wait_s: float | None
    samples_per_s: float | None
    eval_pairs_per_s: float | None
    epoch_sha256: str | None
    first_batch_sha256: str | None
    elapsed_s: float | None


@dataclass(frozen=True)
class Phase:
    """One line of phases.jsonl; ``timed`` says whether it was on the clock."""

    name: str | None
    epoch: int | None
    start_unix_s: float | None
    duration_s: float | None
    timed: bool | None


@dataclass(frozen=True)
class Degradation:
    """One way in which a run departs from the full benchmark, in words."""

    code: str | None
    text: str | None


@dataclass(frozen=True)
class Status:
    """How a trial ended, from status.json."""

    state: str | None
    exit_code: int | None
    message: str | None
    seed: int | None
    time_to_train_s: float | None
    best_hit_rate: float | None
    target_hit_rate: float | None
    epochs: int | None
    num_users: int | None
    num_items: int | None
    num_parameters: int | None
    initial_hit_rate: float | None
    device: str | None
    precision: str | None
    degraded: tuple[Degradation, ...] | None


@dataclass(frozen=True)
class CacheDrop:
    """Whether and how the page cache was dropped before ``run_start``."""

    dropped: bool | None
    method: str | None
    cached_before_kib: int | None
    cached_after_kib: int | None
    reason: str | None


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
class LogCheck:
    """A stitched log checked again: its time, its outcome and the findings of all levels.

    ``converged`` is the log's own evidence, HR@10 >= target; ``success`` what ``run_stop`` claims.
    """

    file: str
    sha256: str
    time_s: float | None
    run_start_unix_s: float | None
    run_stop_unix_s: float | None
    best_hit_rate: float | None
    target_hit_rate: float | None
    converged: bool
    success: bool | None
    seed: int | None
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
    """One trial with everything its folder says."""

    index: int
    status: Status
    epochs: tuple[Epoch, ...]
    phases: tuple[Phase, ...]
    cache_drop: CacheDrop
    system: Mapping[str, Any]
    log: LogCheck | None

    @property
    def finished(self) -> bool:
        """Whether it ended, with or without the target; without status.json the log decides."""
        if self.status.state is None:
            return self.log is not None and self.log.time_s is not None
        return self.status.state in ("converged", "not_converged")

    @property
    def reached(self) -> bool:
        """Whether it finished at the target: by its log, and by status.json without a log."""
        claimed = self.status.state == "converged"
        return self.finished and (self.log.converged if self.log else claimed)

    @property
    def time_s(self) -> float | None:
        """Time to train: ``run_stop - run_start`` of the log; of status.json without a log."""
        return self.time_on_clock_s if self.reached else None

    @property
    def seed(self) -> int | None:
        """The seed that the trial drew."""
        own = self.status.seed
        return self.log.seed if own is None and self.log else own

    @property
    def best_hit_rate(self) -> float | None:
        """The highest HR@10 of any epoch."""
        rates = [e.hit_rate for e in self.epochs if e.hit_rate is not None]
        return max(rates, default=self.status.best_hit_rate)

    @property
    def time_on_clock_s(self) -> float | None:
        """``run_stop - run_start``, whether or not the target was reached."""
        from_log = self.log.time_s if self.log else None
        return self.status.time_to_train_s if from_log is None else from_log

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

    ``set_findings`` are on all logs together; ``set_aside`` names trials that were cut off and
    started anew.
    """

    run: Run
    config: Mapping[str, Any]
    differences: tuple[Difference, ...] | None
    dataset: Mapping[str, Any]
    cache: Mapping[str, Any]
    trials: tuple[Trial, ...]
    rules: tuple[Rule, ...]
    set_findings: tuple[LogFinding, ...]
    score: Score | None
    set_aside: tuple[str, ...]
    missing: tuple[str, ...]
    benchmark: str = tags.BENCHMARK

    @property
    def target(self) -> float | None:
        """The HR@10, or the top-1 accuracy, that stops training."""
        value = self.config.get("target_hit_rate", self.config.get("target_top_1"))
        logged = [t.log.target_hit_rate for t in self.trials if t.log and t.log.target_hit_rate]
        return value if isinstance(value, float) else next(iter(logged), None)

    @property
    def best_hit_rate(self) -> float | None:
        """The highest HR@10 of any trial."""
        rates = [t.best_hit_rate for t in self.trials if t.best_hit_rate is not None]
        return max(rates, default=None)

    @property
    def degraded(self) -> tuple[str, ...]:
        """What makes the result less than the benchmark's own, in words, each once."""
        texts = [d.text or d.code for t in self.trials for d in t.status.degraded or ()]
        runs = max(self.run.runs or 0, len(self.trials))
        wanted = WANTED[self.benchmark].runs
        if runs < wanted:
            texts.append(f"{runs} of the {wanted} runs that the rules ask for")
        return tuple(dict.fromkeys(text for text in texts if text))
