"""The verdict on a run: exit code, outcome and headline; the findings of its logs by rule."""

from __future__ import annotations

from dataclasses import dataclass

from trainbench.compliance.rules.levels import LEVELS
from trainbench.reporting.records import LogFinding, Results
from trainbench.reporting.text import plural

_SUFFIX = {
    "not_compliant": ", not compliant",
    "contradicted": ", contradicted by the run's own records",
}

# The setting behind a breach that any benchmark may have (``Sections.behind``).
BEHIND = {"level2/at-least-one/run_clear_caches": ("drop_caches",)}
# The strict rules that decide about a result: without a right clock there is no time to train.
CLOCK_RULES = "strict/clock/"
_ALL_TRIALS = -1


@dataclass(frozen=True)
class Verdict:
    """What the report says first.

    ``exit_code``: 0 ok, 1 failed, 4 target not reached, 5 level-2 findings, or records that
    contradict each other. ``level_findings`` counts findings per level.
    """

    exit_code: int
    outcome: str
    headline: str
    reached: int
    finished: int
    expected: int
    level_findings: dict[str, int | None]


def judge(results: Results) -> Verdict:
    """The verdict: a failed trial outweighs a broken rule, and that one a missed target."""
    trials = results.trials
    finished = [t for t in trials if t.finished]
    reached = [t for t in trials if t.reached]
    expected = max(results.run.runs or 0, len(trials))
    findings = {level: level_findings(results, level) for level in LEVELS}
    targetless = expected > 0 and sum(t.targetless for t in trials) == expected
    exit_code, outcome = _outcome(len(reached), len(finished), expected, findings["2"])
    if targetless and outcome == "target_not_reached":
        exit_code, outcome = 0, "completed"
    if exit_code in (0, 4) and contradicted(results):
        exit_code, outcome = 5, "contradicted"
    headline = _headline(len(reached), len(finished), expected)
    headline = "Trained without a target" if targetless else headline
    return Verdict(
        exit_code=exit_code,
        outcome=outcome,
        headline=headline + _SUFFIX.get(outcome, ""),
        reached=len(reached),
        finished=len(finished),
        expected=expected,
        level_findings=findings,
    )


def contradicted(results: Results) -> bool:
    """Whether what the run left behind does not fit together, so that no result holds."""
    stepped = any(t.log and t.log.clocks_agree is False for t in results.trials)
    return stepped or bool(results.contradictions)


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


@dataclass(frozen=True)
class Group:
    """The breaches of one rule in the logs of one or more trials.

    ``finding`` is the first of them and ``others`` the number of those that found something else;
    ``trials`` is empty when it is on all logs together; ``settings`` explain it, if any do.
    """

    anchor: str
    finding: LogFinding
    others: int
    trials: tuple[int, ...]
    settings: tuple[str, ...]


def grouped(results: Results) -> list[Group]:
    """The findings of all logs by rule, those of the lowest level first."""
    found: dict[str, list[tuple[int, LogFinding]]] = {}
    for trial in results.trials:
        for finding in trial.log.findings if trial.log else ():
            found.setdefault(finding.rule, []).append((trial.index, finding))
    for finding in results.set_findings:
        found.setdefault(finding.rule, []).append((_ALL_TRIALS, finding))
    ordered = sorted(found.values(), key=lambda same: LEVELS.index(same[0][1].level))
    return [
        Group(
            anchor=f"finding-{number}",
            finding=same[0][1],
            others=len({finding.found for _, finding in same}) - 1,
            trials=tuple(dict.fromkeys(index for index, _ in same if index != _ALL_TRIALS)),
            settings=_settings(results, same[0][1].rule),
        )
        for number, same in enumerate(ordered)
    ]


def _settings(results: Results, rule: str) -> tuple[str, ...]:
    changed = {difference.key for difference in results.differences or ()}
    behind = {**BEHIND, **results.sections.behind}
    return tuple(key for key in behind.get(rule, ()) if key in changed)


def trials_of(group: Group) -> str:
    """``0, 1, 2``; a number of trials where they are many."""
    if not group.trials:
        return "all"
    many = len(group.trials) > 6
    return plural(len(group.trials), "trial") if many else ", ".join(map(str, group.trials))


def found_by(group: Group) -> str:
    """What was found first, and the number of the others."""
    found = group.finding.found
    return f"{found} (and {plural(group.others, 'other')})" if group.others else found
