"""Batches, epochs, warm-up and the evaluation schedule."""

from __future__ import annotations

import numpy as np
import pytest

from trainbench import cnn
from trainbench.cnn import plan
from trainbench.cnn.flags.params import ParamError, Params

IMAGENET = 1_281_167


@pytest.mark.parametrize(
    ("values", "batch", "examples", "expected"),
    [
        ({}, 10, 100, (100, 10.0)),
        ({"num_batches": 21}, 25, 50, (21, 10.5)),
        ({"num_epochs": 3}, 2, 3, (5, 10 / 3)),
        ({"num_epochs": 4}, 2, 3, (6, 4.0)),
        ({"num_epochs": 0.5}, 10, 100, (5, 0.5)),
        ({"num_epochs": 64}, 2048, IMAGENET, (40037, 40037 * 2048 / IMAGENET)),
        ({"num_epochs": 1}, 1, 1, (1, 1.0)),
        ({"num_epochs": 0.01}, 10, 100, (1, 0.1)),
    ],
)
def test_a_length_in_epochs_is_rounded_up_to_steps(
    values: dict, batch: int, examples: int, expected: tuple
) -> None:
    found = plan.length(cnn.make_params(**values), batch, examples)
    assert (found.num_batches, found.num_epochs) == expected


def test_both_lengths_at_once_are_refused() -> None:
    both = cnn.make_params(num_batches=1, num_epochs=1)
    with pytest.raises(ValueError, match="At most one of --num_batches and --num_epochs may be"):
        plan.length(both, 10, 100)


def test_an_evaluation_has_its_own_batch_and_length() -> None:
    params = cnn.make_params(
        batch_size=1, eval_batch_size=2, num_batches=30, num_eval_epochs=100 / 50000
    )
    training = plan.length(params, 1, IMAGENET)
    assert (training.num_batches, training.num_epochs) == (30, 30 / IMAGENET)
    assert plan.eval_length(params, 2, 50000).num_batches == 50


def test_an_evaluation_without_a_length_takes_the_flags_of_training() -> None:
    assert plan.eval_length(cnn.make_params(num_epochs=2), 10, 100).num_batches == 20
    assert plan.eval_length(cnn.make_params(), 10, 100).num_batches == 100


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({}, 10),
        ({"autotune_threshold": 3}, 45),
        ({"autotune_threshold": 1}, 10),
        ({"autotune_threshold": 2}, 20),
        ({"autotune_threshold": 3, "num_warmup_batches": 0}, 0),
        ({"num_warmup_batches": 7}, 7),
    ],
)
def test_warm_up_is_ten_steps_or_what_autotuning_takes(values: dict, steps: int) -> None:
    assert plan.warmup_steps(cnn.make_params(**values)) == steps


@pytest.mark.parametrize(
    ("steps", "group", "stages", "expected"),
    [(10, 1, 0, 10), (10, 1, 1, 10), (10, 2, 1, 10), (11, 2, 1, 12), (10, 2, 0, 11), (0, 4, 1, 0)],
)
def test_warm_up_is_rounded_up_to_a_group_of_batches(
    steps: int, group: int, stages: int, expected: int
) -> None:
    assert plan.rounded_warmup(steps, group, stages) == expected
    assert (expected + stages - 1) % group == 0


def test_epochs_become_the_steps_that_complete_them() -> None:
    batch = 4
    params = _evaluating(every_n_epochs=2 * batch / IMAGENET)
    assert plan.eval_steps(params, batch, IMAGENET, 7 * batch / IMAGENET) == {2, 4, 6}


def test_specified_steps_are_taken_as_they_are() -> None:
    params = _evaluating(at_specified_steps=["2", "3", "5", "7", "1000"])
    assert plan.eval_steps(params, 4, IMAGENET, 1.0) == {2, 3, 5, 7, 1000}


def test_the_published_imagenet_schedule() -> None:
    epochs = [*range(1, 62, 4), 62, 63]
    found = plan.eval_steps(_evaluating(at_specified_epochs=epochs), 2048, IMAGENET, 64.0)
    assert sorted(found) == [
        626, 3128, 5631, 8133, 10635, 13137, 15640, 18142, 20644,
        23147, 25649, 28151, 30653, 33156, 35658, 38160, 38786, 39411,
    ]  # fmt: skip
    gaps = np.diff([0, *sorted(found)[:4]]) * 2048
    assert gaps.tolist() == [1282048, 5124096, 5126144, 5124096]


@pytest.mark.parametrize(
    ("flag", "plural"), [("at_specified_steps", "integers"), ("at_specified_epochs", "floats")]
)
def test_a_list_must_be_of_numbers(flag: str, plural: str) -> None:
    name = f"eval_during_training_{flag}"
    message = f"Param {name} value of ['1', 'x'] cannot be converted to a list of {plural}."
    with pytest.raises(ParamError) as caught:
        plan.eval_steps(_evaluating(**{flag: "1,x"}), 4, 100, 1.0)
    assert str(caught.value) == message


def _evaluating(**values: object) -> Params:
    return cnn.make_params(**{f"eval_during_training_{k}": v for k, v in values.items()})
