"""The gate: whether what was measured last is worse than a baseline, in time, speed or quality.

One way for runs, reports and results of ``trainbench cnn``. Whole trials or repeats are the samples
where both sides have two or more. Of single ones blocks of steps, or epochs, are, which do not show
how processes differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from scipy import stats

from trainbench.errors import ConfigError
from trainbench.history.measured import Measured, Quantity, differing
from trainbench.history.reading import quantities_of
from trainbench.statistics import Change, Interval, change, geometric_interval, mean_interval

JUDGE, SKIP, REFUSE = "judge", "skip", "refuse"
OTHER_MACHINE = (JUDGE, SKIP, REFUSE)
"""What to do with times of another machine: judge them, say so and judge quality alone, refuse."""
# Of the code itself, which is what a gate is there to compare.
_OWN_CODE = ("git revision", "uncommitted changes", "trainbench")
# Settings without which a quality has another meaning.
_TASK = ("dataset", "data sha256")


@dataclass(frozen=True)
class Judged:
    """One quantity on both sides.

    Attributes:
        samples: what was counted as independent: trials, runs, epochs, blocks of steps.
        change: of the second against the first; ``None`` where it was not tested.
        untested: why not; empty where it was.
        worse: whether it is worse, significantly and by more than the threshold.
    """

    quantity: Quantity
    samples: str
    before: Interval
    after: Interval
    change: Change | None
    worse: bool
    verdict: str
    untested: str = ""

    @property
    def percent(self) -> float:
        """Change of the geometric means, in percent of the baseline."""
        return 100 * (self.after.mean / self.before.mean - 1)


@dataclass(frozen=True)
class Comparison:
    """The second of two measurements against the first, the baseline."""

    names: tuple[str, str]
    baseline: Measured
    other: Measured
    judged: tuple[Judged, ...]
    target: str
    target_missed: bool
    confidence: float
    threshold_percent: float
    settings: tuple[tuple[str, str, str], ...]
    cautions: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether the gate closes."""
        return self.target_missed or any(judged.worse for judged in self.judged)

    @cached_property
    def verdict(self) -> str:
        """The outcome in a few words."""
        bad = [judged.verdict for judged in self.judged if judged.worse]
        if self.worse:
            return ", ".join(dict.fromkeys([*bad, *([self.target] if self.target_missed else [])]))
        told = [judged.verdict for judged in self.judged if judged.change]
        notable = [verdict for verdict in told if verdict != NO_DIFFERENCE]
        return next(iter([*notable, *told]), "nothing that could be tested")


NO_DIFFERENCE = "no significant difference"


def compare(
    baseline: Measured,
    other: Measured,
    *,
    confidence: float = 0.95,
    threshold_percent: float = 0.0,
    other_machine: str = JUDGE,
) -> Comparison:
    """Compare what was measured; ``other_machine`` says what times of another one are worth.

    Raises:
        ConfigError: other benchmarks or tasks, another machine that shall be refused, or nothing
            that was measured.
    """
    _require_comparable(baseline, other, other_machine)
    foreign = baseline.fingerprint != other.fingerprint
    shared = [
        quantity
        for quantity in quantities_of([baseline, other])
        if quantity.key in other.values and max(baseline.values.get(quantity.key, (0.0,))) > 0
    ]
    with_target = not (baseline.targetless and other.targetless)
    # Where a target ends training, the quality in the end is the target and says nothing.
    chosen = [q for q in shared if q.unit or not with_target]
    if foreign and other_machine == SKIP:
        chosen = [quantity for quantity in chosen if not quantity.unit]
    level = (1 - confidence) / max(1, len(chosen))
    gate = _Gate(baseline, other, confidence, level, threshold_percent)
    judged = tuple(map(gate.judge, chosen))
    target, missed = gate.target() if with_target else ("", False)
    if not judged and not target and not (foreign and other_machine == SKIP):
        raise ConfigError(
            f"{other.place}: nothing in common with {baseline.place} that was measured; wanted "
            "runs of which a trial ended"
        )
    return Comparison(
        names=_names(baseline, other),
        baseline=baseline,
        other=other,
        judged=judged,
        target=target,
        target_missed=missed,
        confidence=confidence,
        threshold_percent=threshold_percent,
        settings=tuple(_settings(baseline, other)),
        cautions=tuple(_cautions(baseline, other, judged, skipped=other_machine == SKIP)),
    )


@dataclass(frozen=True)
class _Gate:
    baseline: Measured
    other: Measured
    confidence: float
    level: float
    threshold_percent: float

    def judge(self, quantity: Quantity) -> Judged:
        """One quantity, tested where both sides have samples."""
        kind, before, after = self._samples(quantity)
        if min(*before, *after) <= 0:
            return self._with_zero(quantity, kind, before, after)
        spans = [geometric_interval(each, confidence=self.confidence) for each in (before, after)]
        found = Judged(quantity, kind, spans[0], spans[1], None, False, "")
        if min(len(before), len(after)) < 2:
            return self._by_ratio(found)
        tested = change(
            before,
            after,
            confidence=self.confidence,
            threshold_percent=self.threshold_percent,
            smaller_is_better=quantity.smaller_is_better,
        )
        worse = tested.p_slowdown < self.level
        return replace(
            found, change=tested, worse=worse, verdict=self._verdict(quantity, tested, worse)
        )

    def _samples(self, quantity: Quantity) -> tuple[str, Sequence[float], Sequence[float]]:
        sides = self.baseline, self.other
        before, after = (side.values[quantity.key] for side in sides)
        whole = "runs" if self.other.kind == "cnn" else "trials"
        if min(len(before), len(after)) >= 2:
            return whole, before, after
        parts = [side.blocks.get(quantity.key, ()) for side in sides]
        if all(len(part) >= 2 for part in parts):
            name = "blocks of steps" if self.other.kind == "cnn" else "epochs"
            return name, parts[0], parts[1]
        if quantity.key == "images_per_s" and self.other.kind == "cnn":
            short = sides[0] if len(parts[0]) < 2 else sides[1]
            raise ConfigError(
                f"{short.place}: {short.steps} steps, at least 4 are needed; run longer "
                "(--num_batches) or --repeat"
            )
        return whole, before, after

    def _with_zero(
        self, quantity: Quantity, kind: str, before: Sequence[float], after: Sequence[float]
    ) -> Judged:
        """A quality of 0, as of a network that fell apart, by the ratio of the means alone."""
        spans = [mean_interval(each, confidence=self.confidence) for each in (before, after)]
        found = Judged(quantity, kind, spans[0], spans[1], None, False, "")
        worse = quantity.worse(found.percent) > self.threshold_percent
        return replace(
            found,
            worse=worse,
            verdict=_word(quantity, worse=True) if worse else "not judged",
            untested="a value of 0 has no logarithm, so there is no test",
        )

    def _by_ratio(self, found: Judged) -> Judged:
        """Single values have no spread: their ratio alone, against a threshold that was given."""
        word = _word(found.quantity, worse=True)
        untested = "one value on a side has no spread, so there is no test; measure with --runs 3"
        if not self.threshold_percent:
            return replace(found, verdict="not judged", untested=untested)
        worse = found.quantity.worse(found.percent) > self.threshold_percent
        verdict = word if worse else f"not {word} by more than {self.threshold_percent:g} %"
        return replace(found, worse=worse, verdict=verdict, untested=untested)

    def _verdict(self, quantity: Quantity, found: Change, worse: bool) -> str:
        if worse:
            return _word(quantity, worse=True)
        if found.p_value >= self.level:
            return NO_DIFFERENCE
        if quantity.worse(found.percent) < 0:
            return _word(quantity, worse=False)
        word = _word(quantity, worse=True)
        return f"{word}, but not significantly by more than {self.threshold_percent:g} %"

    def target(self) -> tuple[str, bool]:
        """How many trials reached their target, in words, and whether that is worse."""
        one, two = self.baseline, self.other
        before, after = f"{one.reached} of {one.trials}", f"{two.reached} of {two.trials}"
        if not one.reached:
            return f"target reached by {after} trials, of the baseline by {before}", False
        table = [[one.reached, one.trials - one.reached], [two.reached, two.trials - two.reached]]
        fewer = float(stats.fisher_exact(table, alternative="greater").pvalue)
        missed = two.reached == 0 or fewer < 1 - self.confidence
        words = "target missed: reached" if missed else "target reached"
        return f"{words} by {after} trials, of the baseline by {before}", missed


def _word(quantity: Quantity, *, worse: bool) -> str:
    if quantity.unit:
        return "slower" if worse else "faster"
    return f"{quantity.label[0].lower()}{quantity.label[1:]} {'lower' if worse else 'higher'}"


def _require_comparable(baseline: Measured, other: Measured, other_machine: str) -> None:
    here = f"{other.place}: {other.title}"
    if baseline.benchmark != other.benchmark:
        raise ConfigError(
            f"{here}, but the baseline {baseline.place} is of {baseline.benchmark}; only results "
            "of one benchmark are compared"
        )
    targets = [key for key in (*baseline.task, *other.task) if key.startswith("target_")]
    for key in dict.fromkeys((*_TASK, *targets)):
        one, two = baseline.task.get(key), other.task.get(key)
        if one != two and None not in (one, two):
            raise ConfigError(
                f"{here}: {key} is {two}, of the baseline {baseline.place} {one}; only results of "
                "one task are compared: measure the baseline again"
            )
    if other_machine == REFUSE and baseline.fingerprint != other.fingerprint:
        raise ConfigError(
            f"{here}: measured on another machine ({other.fingerprint}) than the baseline "
            f"{baseline.place} ({baseline.fingerprint}); measure the baseline on this one"
        )
    if not baseline.ended:
        raise ConfigError(
            f"{baseline.place}: no baseline: {baseline.left_out}; name a run of which a trial ended"
        )


def _names(baseline: Measured, other: Measured) -> tuple[str, str]:
    if baseline.name != other.name:
        return baseline.name, other.name
    return str(baseline.place), str(other.place)


def _settings(baseline: Measured, other: Measured) -> Iterator[tuple[str, str, str]]:
    """What differs: in what was asked for, in the machine, in the software."""
    yield from differing(baseline.task, other.task)
    for name, one, two in differing(baseline.machine, other.machine):
        yield f"machine {name}", one, two
    for name, one, two in differing(baseline.software, other.software):
        yield f"software {name}", one, two
    yield from differing({"degraded": baseline.degraded}, {"degraded": other.degraded})


def _cautions(
    baseline: Measured, other: Measured, judged: Sequence[Judged], *, skipped: bool
) -> Iterator[str]:
    kinds = {one.samples for one in judged if one.change}
    single = kinds & {"blocks of steps", "epochs"}
    if single:
        what = "steps" if "blocks of steps" in single else "epochs"
        yield (
            f"at least one side has a single run: {what} of one run resemble one another and do "
            f"not show how processes differ; measure both with "
            f"{'--repeat=5' if other.kind == 'cnn' else '--runs 5'}"
        )
    elif any(min(one.before.samples, one.after.samples) < 4 for one in judged):
        word = "runs" if other.kind == "cnn" else "trials"
        yield f"fewer than 4 {word} on one side: only large differences can be detected"
    for side in (baseline, other):
        if side.ended < side.trials:
            yield f"{side.place}: {side.trials - side.ended} of {side.trials} trials did not end"
        elif side.left_out:
            yield f"{side.place}: {side.left_out}"
    if differing(baseline.task, other.task):
        yield "the two did not do the same work; see the settings"
    if baseline.fingerprint != other.fingerprint:
        more = "; times and speeds are not judged" if skipped else "; see the settings"
        yield f"the two did not run on the same machine{more}"
    software = differing(baseline.software, other.software)
    if any(name not in _OWN_CODE for name, _, _ in software):
        yield "the two did not run on the same system; see the settings"
