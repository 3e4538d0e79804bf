"""The time to train of a run beside the published ones, where task and target are the same."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from trainbench.reporting.published import task
from trainbench.reporting.published.tables import SOURCE, PublishedResult, results
from trainbench.reporting.records import Results
from trainbench.reporting.text import plural, seconds


@dataclass(frozen=True)
class Beside:
    """Published results of the benchmark, and this run's time; ``why_not`` says what forbids it.

    ``own_s`` is the statistic that ``own_is`` names, in seconds; ``None`` where no run converged.
    ``rows`` is empty where nothing may be compared.
    """

    why_not: tuple[str, ...]
    own_s: float | None
    own_is: str
    rows: tuple[PublishedResult, ...]
    source: str = SOURCE


def beside(run: Results) -> Beside:
    """The published results of the run's benchmark, fastest first."""
    own_s, own_is = own_time(run)
    why_not = task.reasons(run)
    if not why_not and own_s is None:
        why_not = ("no run reached the target",)
    if not why_not and own_s is not None and own_s <= 0:
        why_not = (f"the time to train is {own_s:g} s, which cannot be",)
    rows = [] if why_not else [r for r in results() if r.benchmark == run.benchmark.name]
    return Beside(why_not, own_s, own_is, tuple(sorted(rows, key=lambda row: row.score_s)))


def own_time(run: Results) -> tuple[float | None, str]:
    """The time to train of a run in seconds, and which statistic it is."""
    if run.score and run.score.official:
        return run.score.mean_s, "the v0.5 statistic"
    times = [t.time_s for t in run.trials if t.time_s is not None]
    if not times:
        return None, "no run converged"
    return fmean(times), "the one run" if len(
        times
    ) == 1 else f"mean of {plural(len(times), 'run')}"


def sentences(found: Beside) -> tuple[str, ...]:
    """What the page says of the comparison."""
    if not found.rows or found.own_s is None:
        return (task.sentence(found.why_not),)
    own = found.own_s
    faster = sum(row.score_s < own for row in found.rows)
    place = f"This is {seconds(own)} ({found.own_is}); {faster} of {len(found.rows)} published "
    place += "results are faster."
    nearest = min(found.rows, key=lambda row: abs(row.score_s - own))
    times = max(own, nearest.score_s) / min(own, nearest.score_s)
    word = "slower" if own > nearest.score_s else "faster"
    near = f"The nearest is {nearest.system} with {seconds(nearest.score_s)}: this is {times:.3g} "
    near += f"times {word}."
    source = f"Published times are the v0.5 statistic, computed from the logs in {found.source}."
    return place, near, source
