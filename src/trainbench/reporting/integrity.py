"""Whether what a run left behind fits together: files and their sums, logs and records.

The sums find what was changed after a step had ended (``trials/chain``). Beside them every stitched
log is compared with the raw logs that it was made of and with what the trial recorded of itself,
which needs no sums. What is absent is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainbench.benchmark import Quality
from trainbench.compliance import two_clocks
from trainbench.compliance.stitch import UNLIKE_RAW, unlike_raw
from trainbench.files import read_object
from trainbench.reporting.evidence import Evidence
from trainbench.reporting.records import Contradiction, LogCheck, LoggedEpoch, Trial
from trainbench.reporting.sections import Sections
from trainbench.trials import chain
from trainbench.trials.paths import RunDir, TrialDir
from trainbench.trials.status import Status

RULES = (
    *chain.RULES,
    (UNLIKE_RAW, "a stitched log that is what the raw logs give"),
    ("records/status", "a status.json that can be read"),
    ("records/seed", "one seed in log and status.json"),
    ("records/target", "one target in log and status.json"),
    ("records/outcome", "a state that is the outcome of the log"),
    ("records/time", "one time to train in log and status.json"),
    ("records/best", "the best quality of the log in status.json"),
    ("records/epochs", "as many epochs in the records as in the log"),
    ("records/quality", "the quality of the log after every epoch"),
    ("records/elapsed", "the time since run_start of the log after every epoch"),
    ("records/degraded", "every degradation of the log in status.json"),
    ("records/own", "records of a trial that do not contradict each other"),
)
"""Every rule, and what it wants."""

LATE_S = 0.5
"""A process that others keep from running may be so late to read its clock after a line."""
CLOSE = 1e-6


def contradictions(
    run: RunDir, trials: Sequence[Trial], logs: Evidence, sections: Sections, quality: Quality
) -> tuple[tuple[Contradiction, ...], str]:
    """What does not fit together, and what the sums say, in words."""
    sums = chain.of_run(run)
    found = [Contradiction(b.rule, b.file, b.found, b.wanted) for b in sums.breaks]
    for trial in trials:
        folder = run.trial(trial.index)
        if trial.log:
            found += _raw(run, folder, trial.log)
        if folder.root.is_dir():
            logged = logs.epochs.get(trial.index, ())
            found += _status(folder, trial, len(logged), quality)
            found += _epochs(folder, trial, logged)
            found += _own(folder, sections.contradictions(trial))
    return tuple(found), sums.sentence


def _raw(run: RunDir, folder: TrialDir, log: LogCheck) -> Iterator[Contradiction]:
    finding = unlike_raw(folder, run.root / log.file)
    if finding:
        place = f"{log.file} line {finding.line_number}" if finding.line_number else log.file
        yield Contradiction(finding.rule, place, finding.found, finding.wanted)


def _status(
    folder: TrialDir, trial: Trial, evaluations: int, quality: Quality
) -> Iterator[Contradiction]:
    """status.json beside the log."""
    file, log = f"{folder.root.name}/{folder.status.name}", trial.log
    damage = _damage(folder)
    if damage:
        yield Contradiction("records/status", file, damage, "what the trial wrote")
    elif log is not None and folder.status.exists():
        differences = [*_asked(trial, log), *_degraded(trial, log)]
        if trial.finished:
            count = getattr(trial.status, f"{quality.every}s", None)
            differences += _outcome(trial.status, log)
            skipped = sum(epoch.quality is None for epoch in trial.epochs)
            if count != evaluations + skipped:
                differences += _unequal("epochs", count, evaluations)
        for rule, found, wanted in differences:
            yield Contradiction(f"records/{rule}", file, found, f"{wanted} (log)")


_Difference = tuple[str, str, str]


def _asked(trial: Trial, log: LogCheck) -> Iterator[_Difference]:
    yield from _unequal("seed", trial.status.seed, log.seed)
    if _apart(trial.status.target, log.target):
        yield "target", str(trial.status.target), str(log.target)


def _degraded(trial: Trial, log: LogCheck) -> Iterator[_Difference]:
    told = [d.code for d in trial.status.degraded or () if d.code]
    if set(log.degraded) - set(told):
        yield "degraded", ", ".join(told) or "none", ", ".join(log.degraded)


def _outcome(status: Status, log: LogCheck) -> Iterator[_Difference]:
    wanted = "converged" if log.converged else "not_converged"
    if status.state != "completed" or log.target is not None:
        yield from _unequal("outcome", status.state, wanted)
    own = status.time_to_train_s
    if own is not None and log.time_s is not None and _late(own, log.time_s):
        yield "time", f"{own:.3f} s", f"{log.time_s:.3f} s"
    if _apart(status.best, log.best):
        yield "best", str(status.best), str(log.best)


def _unequal(rule: str, found: Any, wanted: Any) -> Iterator[_Difference]:
    if None not in (found, wanted) and found != wanted:
        yield rule, str(found), str(wanted)


def _epochs(
    folder: TrialDir, trial: Trial, logged: Sequence[LoggedEpoch]
) -> Iterator[Contradiction]:
    """Every epoch that the trial recorded beside the log's."""
    path = folder.epochs if folder.epochs.exists() else folder.result
    if trial.log is None or not trial.finished or not path.exists():
        return
    file = f"{folder.root.name}/{path.name}"
    # With epochs_between_evals there are others, on which the log has nothing to compare.
    evaluated = [epoch for epoch in trial.epochs if epoch.quality is not None]
    trained = getattr(trial.status, "epochs", None)
    too_many = len(trial.epochs) > len(evaluated) and len(trial.epochs) != trained
    if len(evaluated) != len(logged) or too_many:
        wanted = f"{len(logged)} (log)"
        yield Contradiction("records/epochs", file, str(len(trial.epochs)), wanted)
        return
    for number, (epoch, line) in enumerate(zip(evaluated, logged, strict=True)):
        if _apart(epoch.quality, line.quality):
            found, wanted = f"{epoch.quality} after epoch {number}", f"{line.quality} (log)"
            yield Contradiction("records/quality", file, found, wanted)
        own, at = getattr(epoch, "elapsed_s", None), line.elapsed_s
        if own is not None and at is not None and _late(own, at):
            found, wanted = f"{own:.3f} s after epoch {number}", f"{at:.3f} s (log)"
            yield Contradiction("records/elapsed", file, found, wanted)


def _own(folder: TrialDir, texts: Sequence[str]) -> Iterator[Contradiction]:
    for text in texts:
        yield Contradiction("records/own", folder.root.name, text, "records that agree")


def _damage(folder: TrialDir) -> str:
    """Why status.json cannot be believed; empty where it can, or is not there."""
    if not folder.status.exists():
        return ""
    try:
        content: Mapping[str, Any] = read_object(folder.status)
    except ValueError as error:
        return str(error)
    degraded = content.get("degraded")
    if not isinstance(degraded, list) or not all(map(_is_degradation, degraded)):
        return "degraded that is no list of codes with texts"
    return ""


def _is_degradation(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("code"), str)


def _apart(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) > CLOSE


def _late(own_s: float, log_s: float) -> bool:
    return abs(own_s - log_s) > LATE_S + two_clocks.SLEW * abs(log_s)
