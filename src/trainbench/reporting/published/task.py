"""Is what a run was trained for the task and the target of v0.5? By what its logs say."""

from __future__ import annotations

from typing import Any

from trainbench.reporting.records import Results
from trainbench.reporting.text import plural, shown

# By benchmark: the tag, what it has to say, and what that is called.
TARGETS = {"ncf": 0.635, "resnet": 0.749}
_DATA: dict[str, tuple[tuple[str, int, str], ...]] = {
    "ncf": (
        ("eval_hp_num_users", 138_493, "users evaluated"),
        ("eval_hp_num_neg", 999, "negatives a user"),
    ),
    "resnet": (
        ("preproc_num_train_examples", 1_281_167, "training images"),
        ("eval_size", 50_000, "images evaluated"),
    ),
}


def reasons(results: Results) -> tuple[str, ...]:
    """Why the run cannot stand beside published results; empty where task and target are theirs.

    A benchmark without published results has a reason as well.
    """
    name = results.benchmark.name
    if name not in TARGETS:
        return (f"there are no published results of {name} here",)
    found = [*_target(results, TARGETS[name]), *_data(results, _DATA[name])]
    return tuple(found)


def _target(results: Results, wanted: float) -> list[str]:
    targets = _numbers(results.logged.get("eval_target", ()))
    targets = targets or ({results.target} if results.target is not None else set())
    if not targets:
        return ["no log says the target"]
    others = sorted(targets - {wanted})
    quality = results.quality.name
    return [f"the target is {quality} {other:g}, not {wanted:g}" for other in others]


def _data(results: Results, wanted: tuple[tuple[str, int, str], ...]) -> list[str]:
    """What the logs say of the data; a log that says nothing of them could be of any."""
    said = {tag: _numbers(results.logged.get(tag, ())) for tag, _, _ in wanted}
    if not any(said.values()):
        missing = " or ".join(name for _, _, name in wanted)
        return [f"no log says the data: number of {missing}"]
    return [
        f"{_text(other)} {name}, not {number:,}"
        for tag, number, name in wanted
        for other in sorted(said[tag] - {number})
    ]


def _numbers(values: Any) -> set[float]:
    return {v for v in values if isinstance(v, int | float) and not isinstance(v, bool)}


def _text(number: float) -> str:
    return shown(int(number) if number == int(number) else number)


def sentence(why_not: tuple[str, ...]) -> str:
    """The reasons in one sentence."""
    return f"Not compared: {'; '.join(why_not)}." if why_not else ""


def batch_size(results: Results) -> tuple[int | None, str]:
    """The one batch size of all runs, as their logs have it, and why there is none."""
    logged = sorted(_numbers(results.logged.get("input_batch_size", ())))
    own = results.config.get("batch_size")
    sizes = logged or ([own] if isinstance(own, int) else [])
    if len(sizes) == 1:
        return int(sizes[0]), ""
    if sizes:
        return None, f"{plural(len(sizes), 'batch size')} in one set of runs"
    return None, "no log says the batch size"
