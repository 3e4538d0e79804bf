"""Everything that arrived as one record: logs, sets side by side, what is twice, what is unread.

``collect`` is a pure function of the files that it is given: their names below the given paths,
and their bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from trainbench.errors import DataIntegrityError
from trainbench.reporting.arrivals.facts import Fact
from trainbench.reporting.arrivals.logs import V05, ArrivedLog, as_log
from trainbench.reporting.arrivals.sets import LogSet, sets_of
from trainbench.reporting.arrivals.unpack import IRREGULAR, Arrived, arrived
from trainbench.reporting.compare import Several
from trainbench.reporting.published.beside import Beside, beside
from trainbench.reporting.published.convergence import Convergence, convergence, epoch_of_target
from trainbench.reporting.records import LogFinding, Score
from trainbench.reporting.text import plural


@dataclass(frozen=True)
class Unread:
    """A file that was not read to its end, or is no log though it is called one.

    ``ignored`` is true of links and whatever is no file: they are named, and that is all.
    """

    file: str
    reason: str
    ignored: bool


@dataclass(frozen=True)
class Duplicate:
    """A log that has the same content as an earlier one; it is in no set."""

    file: str
    same_as: str


@dataclass(frozen=True)
class LogRecord:
    """One log as results.json has it."""

    file: str
    set: str
    benchmark: str
    round: str
    sha256: str
    damage: str
    run_start_unix_s: float | None
    time_s: float | None
    best: float | None
    target: float | None
    converged: bool
    success: bool | None
    evaluations: int
    epoch_of_target: int | None
    seed: str | None
    levels: Mapping[str, str]
    strict_findings: int | None
    findings: tuple[LogFinding, ...]
    facts: Mapping[str, Fact]


@dataclass(frozen=True)
class SetRecord:
    """One set as results.json has it."""

    name: str
    benchmark: str
    round: str
    logs: tuple[str, ...]
    converged: int
    score: Score | None
    logged: Mapping[str, tuple[Any, ...]]
    set_findings: tuple[LogFinding, ...]
    published: Beside
    convergence: Convergence


@dataclass(frozen=True)
class Row:
    """What each set says of one thing: numbers in ``unit``, empty for a count or a text."""

    name: str
    label: str
    unit: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class SideBySide:
    """The sets of one benchmark: each row has a value for each of ``sets``."""

    benchmark: str
    sets: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Review:
    """What arrived. ``others`` are files that are no logs and that nobody takes for one."""

    sets: tuple[LogSet, ...]
    duplicates: tuple[Duplicate, ...]
    unread: tuple[Unread, ...]
    others: tuple[str, ...]

    @property
    def logs(self) -> tuple[ArrivedLog, ...]:
        """The logs of all sets."""
        return tuple(log for found in self.sets for log in found.logs)

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """The benchmarks of all sets, each once."""
        return tuple(dict.fromkeys(found.benchmark for found in self.sets))

    def of(self, benchmark: str) -> tuple[LogSet, ...]:
        """The sets of a benchmark."""
        return tuple(found for found in self.sets if found.benchmark == benchmark)


def collect(paths: Sequence[Path], without: Path | None = None) -> Review:
    """What is in ``paths``: folders, logs and archives; but not the folder ``without``.

    Raises:
        DataIntegrityError: there is no log, and no file that should have been one.
    """
    logs: list[ArrivedLog] = []
    duplicates: list[Duplicate] = []
    unread: list[Unread] = []
    others: list[str] = []
    first: dict[str, str] = {}
    for item in arrived(paths, without):
        log = as_log(item)
        if isinstance(log, str):
            _set_aside(item, log, unread, others)
        elif log.content_sha256 in first:
            duplicates.append(Duplicate(log.file, first[log.content_sha256]))
        else:
            first[log.content_sha256] = log.file
            logs.append(log)
            if log.damage:
                unread.append(Unread(log.file, log.damage, False))
    if not logs and not any(not item.ignored for item in unread):
        names = ", ".join(map(str, paths))
        raise DataIntegrityError(
            f"{names}: no log of MLPerf Training in {plural(len(others), 'file')}; pass result "
            "logs, plain or compressed, or the folders, zip or tar archives that they are in"
        )
    return Review(sets_of(logs), tuple(duplicates), tuple(unread), tuple(others))


def _set_aside(item: Arrived, reason: str, unread: list[Unread], others: list[str]) -> None:
    if reason:
        unread.append(Unread(item.name, reason, reason in IRREGULAR))
    else:
        others.append(item.name)


@dataclass(frozen=True)
class Verdict:
    """What a review says first; the first that applies decides.

    ``exit_code``: 3 a log is damaged or cannot be read, 5 one breaks level 2, 4 a set has no run
    that reached its target, 0 otherwise.
    """

    exit_code: int
    outcome: str
    headline: str
    logs: int
    sets: int
    converged: int
    compliant: int
    judged: int
    unread: int
    duplicates: int


def judge(review: Review) -> Verdict:
    """The verdict on all logs."""
    logs = review.logs
    judged = [log for log in logs if log.levels]
    compliant = sum(not log.check.of_level("2") for log in judged)
    unread = sum(not item.ignored for item in review.unread)
    missed = [s for s in review.sets if not any(t.reached for t in s.results.trials)]
    code, outcome, headline = 0, "ok", f"{plural(len(logs), 'log')} read, {_compliant(review)}"
    if unread:
        code, outcome = 3, "unread"
        headline = f"{plural(len(logs), 'log')} read, {unread} damaged or not readable"
    elif compliant < len(judged):
        code, outcome = 5, "not_compliant"
        headline = f"{len(judged) - compliant} of {plural(len(judged), 'log')} not compliant"
    elif missed:
        code, outcome = 4, "target_not_reached"
        headline = f"No run reached the target in {plural(len(missed), 'set')} of runs"
    return Verdict(
        exit_code=code,
        outcome=outcome,
        headline=headline,
        logs=len(logs),
        sets=len(review.sets),
        converged=sum(log.check.converged for log in logs),
        compliant=compliant,
        judged=len(judged),
        unread=unread,
        duplicates=len(review.duplicates),
    )


def _compliant(review: Review) -> str:
    """What is said of logs none of which breaks a rule; of later rounds none is judged."""
    later = sum(not log.levels for log in review.logs)
    if not later:
        return "all compliant"
    judged = len(review.logs) - later
    of_v05 = f"all {judged} of {V05} compliant" if judged else "none judged"
    return f"{of_v05}; rules of later rounds are not checked here"


def log_record(found: LogSet, log: ArrivedLog, index: int) -> LogRecord:
    """A log for results.json."""
    check, trial = log.check, found.results.trials[index]
    return LogRecord(
        file=log.file,
        set=found.name,
        benchmark=found.benchmark,
        round=log.round,
        sha256=log.content_sha256,
        damage=log.damage,
        run_start_unix_s=check.run_start_unix_s,
        time_s=check.time_s,
        best=check.best,
        target=check.target,
        converged=check.converged,
        success=check.success,
        evaluations=len(log.epochs),
        epoch_of_target=epoch_of_target(trial),
        seed=check.seed or (log.facts["seed"].value if "seed" in log.facts else None),
        levels=log.levels,
        strict_findings=log.strict,
        findings=check.findings,
        facts=log.facts,
    )


def set_record(found: LogSet) -> SetRecord:
    """A set for results.json."""
    results = found.results
    return SetRecord(
        name=found.name,
        benchmark=found.benchmark,
        round=found.round,
        logs=tuple(log.file for log in found.logs),
        converged=sum(log.check.converged for log in found.logs),
        score=results.score,
        logged=results.logged,
        set_findings=results.set_findings,
        published=beside(results),
        convergence=convergence(results),
    )


_Value = Callable[[LogSet], Any]
_FACTS = (
    ("batch_size", "Batch size, as logged", ""),
    ("learning_rate", "Learning rate, highest", ""),
    ("optimizer", "Optimizer", ""),
    ("beta1", "beta1", ""),
    ("beta2", "beta2", ""),
    ("epsilon", "epsilon", ""),
    ("momentum", "Momentum", ""),
    ("precision", "Precision", ""),
    ("cache_drop", "Caches dropped", ""),
)
# Tags whose values are facts already.
_SHOWN_TAGS = frozenset(
    {
        *("input_batch_size", "opt_learning_rate", "opt_name", "opt_hp_Adam_beta1", "precision"),
        *("opt_hp_Adam_beta2", "opt_hp_Adam_epsilon", "opt_momentum", "eval_target"),
    }
)


def side_by_side(review: Review, benchmark: str) -> SideBySide:
    """The sets of a benchmark: what came out, then how they were set.

    A value is ``None`` where no log says it, and a list where the logs of a set say several.
    """
    sets = review.of(benchmark)
    quality = sets[0].results.quality
    measured: list[tuple[str, str, str, _Value]] = [
        ("logs", "Logs", "", lambda s: len(s.logs)),
        ("converged", "Reached the target", "", lambda s: sum(x.check.converged for x in s.logs)),
        ("statistic_s", "v0.5 statistic", "s", _statistic_s),
        ("time_to_train_s", "Time to train, median", "s", lambda s: _median(_times(s))),
        ("target", f"Target {quality.name}", quality.name, lambda s: _several(_targets(s))),
        ("best", f"Best {quality.name}", quality.name, lambda s: s.results.best),
        ("epoch_of_target", "Epoch of the target, median", "", _epoch),
        ("train_epoch_s", "Training of an epoch, median", "s", _of_fact("train_epoch_s")),
        ("evaluation_s", "An evaluation, median", "s", _of_fact("evaluation_s")),
        ("level_2", "Logs that pass level 2", "", _passed),
        ("seeds", "Different seeds", "", lambda s: len(_said(s, "seed")) or None),
    ]
    measured += [(name, label, unit, _settings_of(name)) for name, label, unit in _FACTS]
    measured += [(tag, tag, "", _tag_of(tag)) for tag in _tags(sets)]
    rows = (
        Row(name, label, unit, tuple(value(found) for found in sets))
        for name, label, unit, value in measured
    )
    told = tuple(row for row in rows if any(value is not None for value in row.values))
    return SideBySide(benchmark, tuple(found.name for found in sets), told)


def _tags(sets: Sequence[LogSet]) -> list[str]:
    """Every hyperparameter that a log has and no fact is made of."""
    return sorted({tag for found in sets for tag in found.results.logged} - _SHOWN_TAGS)


def _statistic_s(found: LogSet) -> float | None:
    score = found.results.score
    return score.mean_s if score and score.official else None


def _times(found: LogSet) -> list[float]:
    return [t.time_s for t in found.results.trials if t.time_s is not None]


def _targets(found: LogSet) -> list[Any]:
    return list(dict.fromkeys(log.check.target for log in found.logs if log.check.target))


def _epoch(found: LogSet) -> float | None:
    return _median([e for t in found.results.trials if (e := epoch_of_target(t)) is not None])


def _passed(found: LogSet) -> int | None:
    judged = [log for log in found.logs if log.levels]
    return sum(not log.check.of_level("2") for log in judged) if judged else None


def _said(found: LogSet, name: str) -> list[Any]:
    """The different values of a fact in the logs of a set."""
    values = [log.facts[name].value for log in found.logs if name in log.facts]
    return list(dict.fromkeys(values))


def _of_fact(name: str) -> _Value:
    return lambda found: _median([v for v in _said(found, name) if v is not None])


def _settings_of(name: str) -> _Value:
    return lambda found: _several(_said(found, name))


def _tag_of(tag: str) -> _Value:
    return lambda found: _several(found.results.logged.get(tag, ()))


def _several(values: Sequence[Any]) -> Any:
    """The value where there is one; all of them where there are several."""
    if not values:
        return None
    return values[0] if len(values) == 1 else Several(values)


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
