"""Why the data of a run may be less than the benchmark's."""

from __future__ import annotations

from typing import Any

import pytest

from trainbench.ncf.benchmark import NCF
from trainbench.ncf.config import with_settings
from trainbench.ncf.degradations import data_degradations, degradations
from trainbench.ncf.loop import evaluates
from trainbench.trials.status import applying


def record(train: int = 100_000, *, tied: int = 0, generated: bool = False) -> dict[str, Any]:
    """The parts of a cache.json that count."""
    return {"counts": {"train": train}, "tied_users": tied, "manifest": {"generated": generated}}


@pytest.mark.parametrize(
    ("tie_break", "cache", "marked"),
    [
        ("stable", record(tied=94), True),
        ("reference", record(tied=94), False),
        ("stable", record(tied=0), False),
        ("stable", record(tied=94, generated=True), False),
    ],
)
def test_a_split_other_than_the_references_is_marked_where_ratings_are_tied(
    tie_break: str, cache: dict[str, Any], marked: bool
) -> None:
    config = with_settings(NCF.preset("reference"), [f"tie_break={tie_break}"])
    found = dict(applying(data_degradations(config, cache)))
    assert ("other_split" in found) == marked
    if marked:
        assert "94 users" in found["other_split"]


@pytest.mark.parametrize(("train", "marked"), [(13_107, True), (13_108, False)])
def test_a_batch_larger_than_the_data_is_marked(train: int, marked: bool) -> None:
    found = applying(data_degradations(NCF.preset("mlperf"), record(train)))
    assert [code for code, _ in found] == ["large_batch"] * marked


@pytest.mark.parametrize(("between", "marked"), [(1, False), (2, True)])
def test_a_run_that_skips_evaluations_is_marked(between: int, marked: bool) -> None:
    config = with_settings(NCF.preset("reference"), [f"epochs_between_evals={between}"])
    found = dict(applying(degradations(config, {}, {})))
    assert ("epochs_between_evals" in found) == marked


@pytest.mark.parametrize("elsewhere", [True, None])
def test_input_that_another_machine_made_is_marked(elsewhere: bool | None) -> None:
    found = applying(degradations(NCF.preset("reference"), {"generator_elsewhere": elsewhere}, {}))
    assert ("other_machine" in dict(found)) == bool(elsewhere)


def test_the_last_epoch_is_always_evaluated() -> None:
    config = with_settings(NCF.preset("reference"), ["epochs_between_evals=3", "max_epochs=7"])
    assert [e for e in range(7) if evaluates(config, e)] == [2, 5, 6]


def test_a_run_without_a_target_is_marked() -> None:
    config = with_settings(NCF.preset("reference"), ["target_hit_rate=none"])
    found = dict(applying(degradations(config, {}, {})))
    assert "no_target" in found
    assert found["other_task"].endswith("but ml-20m without a target")
