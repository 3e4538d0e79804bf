"""Learning rates (rates of the models themselves are in the models' tests)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainbench import cnn
from trainbench.cnn.flags.params import ParamError
from trainbench.cnn.train import schedules
from trainbench.cnn.train.schedules import Horizon, Rate, scaled_base_rate

IMAGENET = 1_281_167


def schedule(batch: int = 256, *, total_steps: int = 1000, **values: object) -> Rate:
    horizon = Horizon(IMAGENET / batch, total_steps)
    return schedules.rate(cnn.make_params(**values), horizon, model_rate=lambda step: 0.25)


def same(found: float, wanted: float) -> bool:
    return np.float32(found) == np.float32(wanted)


def test_a_constant_rate_stays() -> None:
    rate = schedule(init_learning_rate=1)
    assert rate(0) == rate(10**7) == 1


def test_warm_up_is_linear_from_nothing() -> None:
    rate = schedule(init_learning_rate=1, num_learning_rate_warmup_epochs=5)
    assert [rate(0), rate(12511), rate(25022)] == [0, 0.5, 1]


def test_a_piece_begins_with_its_epoch() -> None:
    rate = schedule(32, piecewise_learning_rate_schedule="1;3;.1;5;.01")
    found = [rate(step) for step in (120108, 120109, 200181, 200182)]
    assert all(map(same, found, (1, 0.1, 0.1, 0.01)))


def test_warm_up_goes_with_a_piecewise_schedule() -> None:
    rate = schedule(
        32, piecewise_learning_rate_schedule="2;3;.1", num_learning_rate_warmup_epochs=1
    )
    steps = int(IMAGENET / 32)
    assert [rate(0), rate(steps // 2), rate(steps)] == pytest.approx([0, 1, 2], abs=1e-4)
    assert same(rate(120109), 0.1)


def test_without_flags_the_model_decides_and_nothing_warms_up() -> None:
    assert schedule(num_learning_rate_warmup_epochs=5)(0) == 0.25


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"piecewise_learning_rate_schedule": "1;2"},
         "--piecewise_learning_rate_schedule must have an odd number of components"),
        ({"piecewise_learning_rate_schedule": "x"}, "Invalid learning rate: x"),
        ({"piecewise_learning_rate_schedule": "1;2.5;.1"}, "Invalid epoch: 2.5"),
        ({"piecewise_learning_rate_schedule": "1", "init_learning_rate": 0.0},
         "No other learning rate-related flags can be specified if "
         "--piecewise_learning_rate_schedule is specified"),
        ({"piecewise_learning_rate_schedule": "1", "minimum_learning_rate": 0.1},
         "No other learning rate-related flags can be specified if "
         "--piecewise_learning_rate_schedule is specified"),
    ],
)  # fmt: skip
def test_a_malformed_schedule_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ParamError) as caught:
        schedule(**values)
    assert str(caught.value) == message


def test_exponential_decay_goes_down_in_stairs_to_a_floor() -> None:
    rate = schedule(
        init_learning_rate=1,
        num_epochs_per_decay=2,
        learning_rate_decay_factor=0.5,
        minimum_learning_rate=0.2,
    )
    steps = int(IMAGENET / 256 * 2)
    assert [rate(0), rate(steps - 1), rate(steps)] == [1, 1, 0.5]
    assert same(rate(2 * steps), 0.25)
    assert same(rate(3 * steps), 0.2)


@pytest.mark.parametrize(
    ("gpus", "update", "batch", "base", "expected"),
    [
        (1, "parameter_server", 128, None, 0.064),
        (8, "replicated", 2048, None, 0.128),
        (2, "parameter_server", 512, None, 0.256),
        (2, "replicated", 13, None, 0.0032500000000000003),
        (1, "parameter_server", 256, 0.05, 0.05),
    ],
)
def test_resnets_rate_scales_with_the_batch(
    gpus: int, update: str, batch: int, base: float | None, expected: float
) -> None:
    params = cnn.make_params(num_gpus=gpus, variable_update=update, resnet_base_lr=base)
    assert scaled_base_rate(params, batch) == expected


def test_polynomial_and_cosine_end_where_they_should() -> None:
    flags = {"init_learning_rate": 2, "end_learning_rate": 0.5, "learning_rate_decay_epochs": 10}
    steps = int(IMAGENET / 256 * 10)
    square = schedule(learning_rate_decay="polynomial", **flags)
    assert [square(0), square(steps), square(2 * steps)] == [2, 0.5, 0.5]
    assert square(steps // 2) == pytest.approx(0.5 + 1.5 / 4, abs=1e-4)
    wave = schedule(learning_rate_decay="cosine", **flags)
    assert [wave(0), wave(steps), wave(2 * steps)] == [2, 0.5, 0.5]
    assert wave(steps // 2) == pytest.approx(1.25, abs=1e-4)


def test_a_fall_without_epochs_lasts_until_the_end_of_the_run() -> None:
    rate = schedule(init_learning_rate=1, learning_rate_decay="polynomial", polynomial_power=1)
    assert [rate(0), rate(500), rate(1000)] == [1, 0.5, 0]


@given(
    st.integers(1, 4096),
    st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_every_piece_of_any_schedule_begins_with_its_epoch(batch: int, epochs: list) -> None:
    text = "0.5" + "".join(f";{epoch};{0.5 / 2 ** (i + 1)}" for i, epoch in enumerate(epochs))
    rate = schedule(batch, piecewise_learning_rate_schedule=text)
    for index, epoch in enumerate(epochs):
        first = int(epoch * (IMAGENET / batch))
        assert [rate(first - 1), rate(first)] == [0.5 / 2**index, 0.5 / 2 ** (index + 1)]


@given(
    batch=st.integers(1, 4096),
    every=st.floats(0.25, 40),
    warmup=st.integers(0, 5),
    step=st.integers(0, 10**6),
)
def test_stairs_and_warm_up_hold_for_any_batch(
    batch: int, every: float, warmup: int, step: int
) -> None:
    rate = schedule(
        batch, init_learning_rate=2, num_epochs_per_decay=every, learning_rate_decay_factor=0.5,
        minimum_learning_rate=0.1, num_learning_rate_warmup_epochs=warmup,
    )  # fmt: skip
    per_epoch = IMAGENET / batch
    if step < int(per_epoch * warmup):
        expected = 2 * step / int(per_epoch * warmup)
    else:
        expected = max(2 * 0.5 ** (step // int(per_epoch * every)), 0.1)
    assert same(rate(step), expected)


def test_stairs_shorter_than_a_step_fall_at_every_step() -> None:
    rate = schedule(4096, init_learning_rate=1, num_epochs_per_decay=1e-6,
                    learning_rate_decay_factor=0.5)  # fmt: skip
    assert [rate(0), rate(1), rate(2)] == [1, 0.5, 0.25]


@given(st.integers(0, 10**6), st.integers(1, 4096))
def test_no_schedule_is_ever_negative_or_above_its_start(step: int, batch: int) -> None:
    for decay in ("cosine", "polynomial"):
        rate = schedule(
            batch, init_learning_rate=1, learning_rate_decay=decay, learning_rate_decay_epochs=3
        )
        assert 0 <= rate(step) <= 1
