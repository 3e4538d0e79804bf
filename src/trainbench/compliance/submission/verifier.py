"""What the v0.5 submission tool prints as the result of a benchmark's logs.

Read in mlcommons/training@3de58fb0, compliance/verify_submission. It looks at as many logs as the
rules ask for, by number from 0, and wants all of them at the level of their division. A run that
did not converge has an infinite time, which goes into the mean like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainbench.benchmark import RunRule
from trainbench.compliance.tags import ncf as tags

INFINITE_TIME_S = 9_999_999_999.99
MINIGO = "minigo"
DIVISIONS = {2: "closed", 1: "open"}


@dataclass(frozen=True)
class Printed:
    """The seconds that the tool prints in a division, or why it prints none in any.

    ``infinite`` is the number of runs in that mean that did not converge.
    """

    time_s: float | None
    reason: str = ""
    division: str = ""
    infinite: int = 0


@dataclass(frozen=True)
class Judged:
    """A log as the tool looks at it: ``time_s`` is None where the run did not converge."""

    index: int
    level: int
    time_s: float | None


def printed(benchmark: str, rule: RunRule, logs: Sequence[Judged]) -> Printed:
    """What the tool prints for ``logs``, which come in the order that decides what is first."""
    if benchmark == MINIGO:
        return Printed(None, "its checker has no list of minigo and ends with an error")
    looked_at = [log for log in logs if log.index < rule.runs]
    missing = sorted(set(range(rule.runs)) - {log.index for log in looked_at})
    if missing:
        return Printed(None, f"result_{missing[0]}.txt is not there")
    division = DIVISIONS.get(looked_at[0].level)
    other = next((log for log in looked_at if log.level != looked_at[0].level), None)
    if division is None or other:
        log = looked_at[0] if division is None else other or looked_at[0]
        return Printed(None, f"result_{log.index}.txt passes level {log.level}, which {_odd(log)}")
    times = [INFINITE_TIME_S if log.time_s is None else log.time_s for log in looked_at]
    if benchmark == tags.BENCHMARK:
        times = [time for time in times if time != INFINITE_TIME_S][: rule.counted]
        if len(times) < rule.counted:
            return Printed(None, f"fewer than {rule.counted} runs converged", division)
    kept = sorted(times)[1:-1]
    return Printed(sum(kept) / len(kept), "", division, kept.count(INFINITE_TIME_S))


def _odd(log: Judged) -> str:
    return "no division takes" if log.level not in DIVISIONS else "is not that of the others"
