"""The sentences of the report: the reader's first questions, answered for page and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from trainbench.compliance.rules.levels import LEVELS
from trainbench.compliance.two_clocks import Times
from trainbench.reporting.published.convergence import convergence
from trainbench.reporting.records import Contradiction, LogCheck, Results, Score, Trial
from trainbench.reporting.sections import Answer
from trainbench.reporting.text import (
    NA,
    fixed,
    long_seconds,
    moment,
    of_target,
    percent,
    plural,
    seconds,
)
from trainbench.reporting.verdict import grouped, judge, level_findings

TIME_TOLERANCE_S = 0.1
LEAST_COVERED = 0.95


@dataclass(frozen=True)
class Summary:
    """All sentences of a report."""

    subtitle: str
    tone: str
    answers: tuple[Answer, ...]
    score: tuple[str, ...]
    compliance: tuple[str, ...]


def summary(results: Results) -> Summary:
    """The sentences for a run."""
    speed = results.sections.speed(results)
    return Summary(
        subtitle=_subtitle(results),
        tone={0: "good", 4: "warn"}.get(judge(results).exit_code, "bad"),
        answers=(
            _target(results),
            _time(results),
            _rules("Level 2 of the v0.5 checker", "2", results),
            _rules("Strict rules", "strict", results),
            *([speed] if speed else ()),
            *_plausible(results),
        ),
        score=statistic_sentences(results),
        compliance=tuple(_compliance(results)),
    )


def _plausible(results: Results) -> Sequence[Answer]:
    """A finding alone: what is plausible is said where the public runs are shown."""
    found = convergence(results)
    if not found.implausible:
        return ()
    detail = f"p = {found.p:.2g} beside public runs of v0.5"
    return (Answer("Epochs to the target", "implausibly few", detail, "warn"),)


def _subtitle(results: Results) -> str:
    run, title = results.run, results.benchmark.title
    if not (run.run_id or results.config):
        return f"{title}, from stitched logs alone"
    parts = [
        results.sections.task(results.config) or title,
        f"preset {run.preset or NA}",
        f"run {run.run_id or NA}",
        moment(run.created_unix_s),
    ]
    return ", ".join(parts)


def _target(results: Results) -> Answer:
    verdict = judge(results)
    detail = f"best {results.quality.name} {of_target(results.best, results.target)}"
    if results.trials and all(t.targetless for t in results.trials):
        return Answer("Target reached", "no target", detail, "warn")
    detail += f", target {fixed(results.target, 3)}"
    unfinished = verdict.expected - verdict.finished
    if unfinished:
        detail += f"; {plural(unfinished, 'trial')} did not finish"
    word = f"{verdict.reached} of {verdict.expected} trials" if verdict.expected > 1 else ""
    word = word or ("yes" if verdict.reached else "no")
    all_reached = verdict.reached == verdict.expected > 0
    tone = "good" if all_reached else ("warn" if verdict.reached else "bad")
    return Answer("Target reached", word, detail, tone)


def _time(results: Results) -> Answer:
    times = sorted(t.time_s for t in results.trials if t.time_s is not None)
    if not times:
        return Answer("Time to train", NA, "no trial reached the target")
    reached = [t for t in results.trials if t.time_s is not None]
    source = _clock(reached)
    if len(times) == 1:
        return Answer("Time to train", long_seconds(times[0]), source)
    spread = f"median of {len(times)}; {seconds(times[0])} to {seconds(times[-1])}; {source}"
    return Answer("Time to train", long_seconds(median(times)), spread)


def _clock(reached: Sequence[Trial]) -> str:
    """Where the times to train are from."""
    logs = [t.log for t in reached if t.log]
    if len(logs) < len(reached):
        return "by status.json, no log"
    # The worst that is said of any log: disagreement, then no monotonic times.
    worst = min(logs, key=lambda log: {False: 0, None: 1, True: 2}[log.clocks_agree])
    return f"from run_start to run_stop {_times(worst).sentence}"


def _times(log: LogCheck) -> Times:
    return Times(log.time_s, log.monotonic_time_s, log.clocks_agree)


def _rules(question: str, level: str, results: Results) -> Answer:
    broken = "bad" if level == "2" else "warn"
    if level_findings(results, level) is None:
        return Answer(question, "not checked", "a trial has no stitched log", broken)
    groups = [g for g in grouped(results) if LEVELS.index(g.finding.level) <= LEVELS.index(level)]
    if not groups:
        return Answer(question, "passed", tone="good")
    meant = sum(bool(g.settings) for g in groups)
    share = "all" if meant == len(groups) else f"{meant} of them"
    detail = f"{share} by the preset's own settings" if meant else ""
    return Answer(question, f"{plural(len(groups), 'rule')} broken", detail, broken)


def statistic_sentences(results: Results) -> tuple[str, ...]:
    """What the logs of all trials together come to, and what is missing for the rules."""
    sentences = [f"{name} was cut off and started anew." for name in results.set_aside]
    score = results.score
    if score is None:
        return tuple(sentences)
    sentences += [f"{note[0].upper()}{note[1:]}." for note in score.notes]
    if score.mean_s is not None:
        sentences.append(_statistic(score))
    return tuple(sentences)


def _statistic(score: Score) -> str:
    kept = len(score.counted) - len(score.dropped)
    if score.official:
        text = f"v0.5 statistic: {seconds(score.mean_s)}, the mean of {plural(kept, 'run')}, first "
        text += f"by {score.order}, without the fastest and the slowest ({_list(score.dropped)})"
    else:
        text = f"Mean of {'the only' if kept == 1 else f'all {kept}'} converged run"
        text += f"{'' if kept == 1 else 's'}: {seconds(score.mean_s)}"
    if score.standard_deviation_s is not None:
        text += f", standard deviation {seconds(score.standard_deviation_s)}"
    if score.interval_s is not None:
        low, high = score.interval_s
        text += f", 95 % bootstrap interval {seconds(low)} to {seconds(high)}"
    return f"{text}; {score.converged} of {plural(score.runs, 'log')} converged."


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _compliance(results: Results) -> list[str]:
    sums = f"{results.chain[0].upper()}{results.chain[1:]}."
    sentences = [f"{c.file}: {c.found}, wanted {c.wanted} ({c.rule})." for c in shown(results)]
    sentences += [
        f"Trial {t.index}: {seconds(t.log.time_s)} {_times(t.log).sentence}."
        for t in results.trials
        if t.log and t.log.clocks_agree is False
    ]
    sentences += [text for trial in results.trials for text in _uncovered(trial)]
    if sentences or not results.trials:
        return [*sentences, sums]
    if all(trial.status.state is None for trial in results.trials):
        alone = "Only logs were found: there is no record of a trial to compare them with."
        return [alone, sums]
    name = results.quality.name
    return [f"Time, {name} and phases in the logs agree with what the trials recorded.", sums]


MOST_SHOWN = 20


def shown(results: Results) -> Sequence[Contradiction]:
    """The contradictions that the page lists; results.json and junit.xml have all."""
    found = results.contradictions
    if len(found) <= MOST_SHOWN:
        return found
    rest = f"{len(found) - MOST_SHOWN} more, in results.json"
    return (*found[:MOST_SHOWN], Contradiction("records/more", "run", rest, "none"))


def _uncovered(trial: Trial) -> list[str]:
    """Where there is no log, or no phase accounts for time on the clock, as in a pause."""
    if trial.log is None:
        return [f"Trial {trial.index}: no stitched log; run the stitch step."]
    share, total = trial.covered(trial.phases), trial.time_on_clock_s or 0.0
    if share is None or LEAST_COVERED <= share <= 1 + 1e-3:
        return []
    if abs(1 - share) * total <= TIME_TOLERANCE_S:
        return []
    text = f"the phases on the clock add up to {percent(share)} of the time"
    return [f"Trial {trial.index}: {text} from run_start to run_stop."]
