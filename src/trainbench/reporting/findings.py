"""Findings as a reader wants them: each breach once, with its trials, its line and its reason."""

from __future__ import annotations

from dataclasses import dataclass

from trainbench.compliance.rules.levels import LEVELS
from trainbench.reporting.records import LogFinding, Results
from trainbench.reporting.text import plural

# Which settings make a log break a rule on purpose: a preset smaller than the benchmark says so.
BEHIND = {
    "strict/value/eval_target": ("target_hit_rate",),
    "strict/value/eval_hp_num_users": ("dataset",),
    "strict/value/eval_size": ("dataset", "eval_negatives"),
    "strict/value/input_size": ("dataset", "train_negatives"),
    "strict/value/preproc_hp_num_eval": ("dataset", "eval_negatives"),
    "strict/value/eval_hp_num_neg": ("eval_negatives",),
    "strict/value/input_hp_num_neg": ("train_negatives",),
    "strict/value/model_hp_mf_dim": ("mf_dim",),
    "strict/value/model_hp_mlp_layer_sizes": ("mlp_layer_sizes",),
    "strict/value/preproc_hp_min_ratings": ("min_ratings",),
    "strict/order/caches": ("drop_caches",),
    "strict/resnet/value/eval_target": ("target_top_1",),
    "strict/resnet/value/eval_size": ("dataset",),
    "strict/resnet/value/preproc_num_train_examples": ("dataset",),
    "strict/resnet/value/preproc_num_eval_examples": ("dataset",),
    "level2/at-least-one/run_clear_caches": ("drop_caches",),
}


ALL_TRIALS = -1


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
        found.setdefault(finding.rule, []).append((ALL_TRIALS, finding))
    ordered = sorted(found.values(), key=lambda same: LEVELS.index(same[0][1].level))
    return [
        Group(
            anchor=f"finding-{number}",
            finding=same[0][1],
            others=len({finding.found for _, finding in same}) - 1,
            trials=tuple(dict.fromkeys(index for index, _ in same if index != ALL_TRIALS)),
            settings=_settings(results, same[0][1].rule),
        )
        for number, same in enumerate(ordered)
    ]


def _settings(results: Results, rule: str) -> tuple[str, ...]:
    changed = {difference.key for difference in results.differences or ()}
    return tuple(key for key in BEHIND.get(rule, ()) if key in changed)


def trials_of(group: Group) -> str:
    """``0, 1, 2``; a number of trials where they are many."""
    if not group.trials:
        return "all"
    many = len(group.trials) > 6
    return plural(len(group.trials), "trial") if many else ", ".join(map(str, group.trials))


def found_by(group: Group) -> str:
    """What was found first, and how much else."""
    return (
        f"{group.finding.found} (and {plural(group.others, 'other')})"
        if group.others
        else (group.finding.found)
    )
