"""How many epochs a run needs, beside the public runs of v0.5: a check of its plausibility.

In the spirit of the reference convergence points of later rounds: a run that needs far fewer epochs
than the public ones trained something else, or is one of many that were chosen. Who trains slowly
is never suspect. The test:

- Compared are runs of one benchmark, batch size, data and target. The value of a run is the epoch
  whose evaluation reached the target. A run that did not is censored: it counts as one epoch after
  the earliest end of any run that did not, on both sides, and so do later epochs.
- The null hypothesis is that own and public runs of one system are exchangeable: independent and
  of one distribution. ``p`` is the exact permutation p-value of the mean over all runs. A set is
  called implausible if it is at most ``LEVEL`` for every public system.
- How often a run converges depends on hyperparameters that the rules leave free. So those that
  converged have to be fast among each other as well: ``p_converged``, the same test given how many
  converged on either side, has to be at most ``CONVERGED_LEVEL`` for every system.
- Where the public runs were evaluated less often than the own ones, the own ones are taken as
  reached at the end of such an interval, and one epoch later where logs may count from 0 or from 1.

By construction at most one honest set in a hundred is called implausible. It is a finding to be
looked at: it changes no exit code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from trainbench.reporting.published import task
from trainbench.reporting.published.permutation import p_faster, smallest_p
from trainbench.reporting.published.tables import PublishedRun, runs, system_of
from trainbench.reporting.records import Epoch, Results, Trial
from trainbench.reporting.text import plural

LEVEL, CONVERGED_LEVEL = 0.01, 0.05
# Logs of NCF number epochs from 0 (level 1 asks for it), those of ResNet do not have to.
_NUMBERING = {"resnet": 1}


@dataclass(frozen=True)
class SystemTest:
    """The public runs of one system, and how probable it is that own ones are as fast by chance.

    ``fastest`` and ``slowest`` are epochs of those that converged. ``p`` is over all runs, and
    ``smallest_p`` what it is if every own run is faster than all of these.
    """

    folder: str
    system: str
    runs: int
    converged: int
    fastest: int | None
    median: float | None
    slowest: int | None
    p: float
    p_converged: float
    smallest_p: float


@dataclass(frozen=True)
class Convergence:
    """The check of a set of runs; ``why_not`` says what makes it impossible.

    ``epochs`` has the epoch of the target of each own run, ``None`` where it did not converge;
    ``allowance`` is what was added to them. ``p`` and ``p_converged`` are the largest of any
    system.
    """

    why_not: tuple[str, ...]
    batch_size: int | None
    epochs: tuple[int | None, ...]
    allowance: int
    systems: tuple[SystemTest, ...]
    p: float | None
    p_converged: float | None
    implausible: bool
    level: float = LEVEL
    converged_level: float = CONVERGED_LEVEL


def convergence(results: Results) -> Convergence:
    """The check of all runs of ``results`` that have an evaluation."""
    tried = [t for t in results.trials if t.finished and _evaluated(t)]
    size, why_no_size = task.batch_size(results)
    epochs = tuple(map(epoch_of_target, tried))
    why_not = [*task.reasons(results), *filter(None, [why_no_size])]
    public = _public(results.benchmark.name, size)
    if not why_not and not tried:
        why_not = ["no run has an evaluation"]
    if not why_not and not public:
        why_not = [_no_such_batch(results.benchmark.name, size)]
    if why_not:
        return Convergence(tuple(why_not), size, epochs, 0, (), None, None, False)
    interval = max(map(_public_interval, public))
    allowance = max(interval - min(map(_interval, tried)), 0)
    allowance += _NUMBERING.get(results.benchmark.name, 0)
    ends = [_last(t) for t, epoch in zip(tried, epochs, strict=True) if epoch is None]
    systems = tuple(
        _tested(folder, [r for r in public if r.folder == folder], epochs, ends, allowance)
        for folder in dict.fromkeys(run.folder for run in public)
    )
    p = max(system.p for system in systems)
    p_converged = max(system.p_converged for system in systems)
    implausible = p <= LEVEL and p_converged <= CONVERGED_LEVEL
    return Convergence((), size, epochs, allowance, systems, p, p_converged, implausible)


def _public(benchmark: str, batch_size: int | None) -> list[PublishedRun]:
    return [r for r in runs() if (r.benchmark, r.batch_size) == (benchmark, batch_size)]


def _no_such_batch(benchmark: str, batch_size: int | None) -> str:
    sizes = sorted({run.batch_size for run in runs() if run.benchmark == benchmark})
    known = ", ".join(f"{size:,}" for size in sizes)
    return f"no public run has the batch size {batch_size:,} (there are {known})"


def _evaluated(trial: Trial) -> list[Epoch]:
    return [e for e in trial.epochs if e.quality is not None and e.epoch is not None]


def epoch_of_target(trial: Trial) -> int | None:
    """The first epoch, as the log numbers it, at whose end the quality was at the target."""
    target = (trial.log.target if trial.log else None) or trial.status.target
    if target is None:
        return None
    reached = (e.epoch for e in _evaluated(trial) if (e.quality or 0.0) >= target)
    first = next(reached, None)
    return None if first is None else math.ceil(first)


def _last(trial: Trial) -> int:
    return math.floor(max(e.epoch or 0.0 for e in _evaluated(trial)))


def _interval(trial: Trial) -> int:
    """Epochs from one evaluation to the next; 1 where there is only one evaluation."""
    at = [e.epoch or 0.0 for e in _evaluated(trial)]
    return max(round(median(b - a for a, b in pairwise(at))), 1) if at[1:] else 1


def _public_interval(run: PublishedRun) -> int:
    last = run.epoch_of_target
    return 1 if last is None or run.evaluations < 2 else round(last / (run.evaluations - 1))


def _tested(
    folder: str,
    public: Sequence[PublishedRun],
    own: Sequence[int | None],
    own_ends: Sequence[int],
    allowance: int,
) -> SystemTest:
    theirs = [run.epoch_of_target for run in public]
    found = [epoch for epoch in theirs if epoch is not None]
    # A run that did not converge was evaluated after each epoch, from 0.
    ends = [run.evaluations - 1 for run in public if run.epoch_of_target is None]
    later = [None if epoch is None else epoch + allowance for epoch in own]
    cap = min([*ends, *own_ends, *([] if ends or own_ends else [_largest(later, theirs)])])
    mine, others = _censored(later, cap), _censored(theirs, cap)
    return SystemTest(
        folder=folder,
        system=system_of(folder),
        runs=len(public),
        converged=len(found),
        fastest=min(found, default=None),
        median=median(found) if found else None,
        slowest=max(found, default=None),
        p=p_faster(mine, others),
        p_converged=_of_converged(mine, others, cap),
        smallest_p=smallest_p(len(own), len(public)),
    )


def _largest(*sets: Sequence[int | None]) -> int:
    return max((v for values in sets for v in values if v is not None), default=0)


def _censored(epochs: Sequence[int | None], cap: int) -> list[int]:
    return [cap + 1 if epoch is None else min(epoch, cap + 1) for epoch in epochs]


def _of_converged(mine: Sequence[int], others: Sequence[int], cap: int) -> float:
    own, theirs = ([v for v in values if v <= cap] for values in (mine, others))
    return p_faster(own, theirs) if own and theirs else 1.0


def sentences(found: Convergence) -> tuple[str, ...]:
    """What the page says of the check."""
    if found.p is None:
        return (task.sentence(found.why_not),)
    number, public = len(found.epochs), sum(system.runs for system in found.systems)
    what = f"Of {plural(number, 'run')} {_reached(found.epochs)}; {public} public runs have the "
    what += f"batch size {found.batch_size:,}."
    verdict = f"Not implausibly fast: p = {found.p:.2g}, wanted above {found.level:g}."
    if found.implausible:
        verdict = f"Implausibly fast: p = {found.p:.2g}, at most {found.level:g}. Other data, a "
        verdict += "leak of the test set or a choice of the best runs would look so."
    elif found.p <= found.level:
        verdict = f"More runs converge than public ones (p = {found.p:.2g}), which better "
        verdict += "hyperparameters explain; those that do are not implausibly fast "
        verdict += f"(p = {found.p_converged:.2g}, wanted above {found.converged_level:g})."
    least = max(system.smallest_p for system in found.systems)
    power = f"The smallest p that {plural(number, 'run')} can have here is {least:.2g}"
    power += "." if least <= found.level else ", so that no speed would be found."
    return what, verdict, f"{power} {TEST}"


TEST = (
    "p is that of the exact one-sided permutation test of the mean epoch against the runs of each "
    "system, of which the largest counts; runs that did not converge are censored. It assumes that "
    "all runs that were started are here."
)


def _reached(epochs: Sequence[int | None]) -> str:
    converged = sorted(epoch for epoch in epochs if epoch is not None)
    if not converged:
        return "none reached the target"
    low, high = converged[0], converged[-1]
    at = f"epoch {low}" if low == high else f"epochs {low} to {high}"
    return f"{len(converged)} reached the target, in {at}"
