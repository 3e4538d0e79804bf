"""The verdict on a run: one exit code, one outcome, and the words for both."""

from __future__ import annotations

from dataclasses import dataclass

from trainbench.compliance.rules.levels import LEVELS
from trainbench.reporting.records import Results

UNVERIFIED = "Unverified: result not verified by MLPerf."
_SUFFIX = {"not_compliant": ", not compliant"}


@dataclass(frozen=True)
class Verdict:
    """What the report says first. ``level_findings`` counts findings per level."""

    exit_code: int
    outcome: str
    headline: str
    reached: int
    finished: int
    expected: int
    level_findings: dict[str, int | None]


def verdict(results: Results) -> int:
    """The exit code of a run: 0 ok, 1 failed, 4 target not reached, 5 level-2 findings."""
    return judge(results).exit_code


def judge(results: Results) -> Verdict:
    """The verdict. A trial that failed or never ended outweighs the rules, they the target."""
    trials = results.trials
    finished = [t for t in trials if t.finished]
    reached = [t for t in trials if t.reached]
    expected = max(results.run.runs or 0, len(trials))
    findings = {level: level_findings(results, level) for level in LEVELS}
    exit_code, outcome = _outcome(len(reached), len(finished), expected, findings["2"])
    return Verdict(
        exit_code=exit_code,
        outcome=outcome,
        headline=_headline(len(reached), len(finished), expected) + _SUFFIX.get(outcome, ""),
        reached=len(reached),
        finished=len(finished),
        expected=expected,
        level_findings=findings,
    )


def level_findings(results: Results, level: str) -> int | None:
    """Findings of this level in all logs; ``None`` when a trial that ended has no log."""
    logs = [t.log for t in results.trials if t.log]
    unlogged = any(t.log is None for t in results.trials if t.finished)
    if not logs or unlogged:
        return None
    of_set = len(results.set_findings) if level == LEVELS[-1] else 0
    return of_set + sum(len(log.of_level(level)) for log in logs)


def _outcome(reached: int, finished: int, expected: int, level_2: int | None) -> tuple[int, str]:
    if not expected or finished < expected:
        return 1, "failed"
    if level_2 is None or level_2 > 0:
        return 5, "not_compliant"
    return (0, "ok") if reached else (4, "target_not_reached")


def _headline(reached: int, finished: int, expected: int) -> str:
    if expected == 0:
        return "No trial was started"
    if finished == 0:
        return "No trial finished" if expected > 1 else "The trial did not finish"
    if expected == 1:
        return "Target reached" if reached else "Target not reached"
    unfinished = f", {expected - finished} did not finish" if finished < expected else ""
    return f"Target reached in {reached} of {expected} trials{unfinished}"
