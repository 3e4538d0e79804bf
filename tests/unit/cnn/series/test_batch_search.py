"""The largest batch size that fits: the search as a function, and trials in real processes."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from trainbench import cnn
from trainbench.cnn.series import batch_search


@given(limit=st.integers(0, 70_000), start=st.integers(1, 70_000), multiple=st.integers(1, 64))
def test_the_search_finds_every_limit_exactly_in_logarithmic_time(
    limit: int, start: int, multiple: int
) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= limit

    found = batch_search.largest_fitting(fits, start=start, multiple=multiple, ceiling=1 << 16)
    assert found == min(limit, 1 << 16) // multiple * multiple
    assert len(asked) == len(set(asked))
    assert all(0 < size <= 1 << 16 and size % multiple == 0 for size in asked)
    assert len(asked) <= 2 * math.log2(max(limit, start, 1)) + 3


def test_a_trial_is_the_run_cut_short_and_leaves_nothing_behind() -> None:
    params = cnn.make_params(
        model="resnet20", data_name="cifar10", use_bf16=True, num_epochs=3.0, train_dir="runs",
        eval_during_training_every_n_epochs=1.0, trace_file="trace.json", auto_batch_size=True,
    )  # fmt: skip
    expected = cnn.make_params(
        model="resnet20", data_name="cifar10", use_bf16=True, batch_size=48, num_batches=2,
        num_warmup_batches=1,
    )  # fmt: skip
    assert batch_search.trial_params(params, 48) == expected


def test_a_trial_is_ended_by_the_memory_limit_and_by_nothing_smaller() -> None:
    params = cnn.make_params(model="trivial", device="cpu")
    assert batch_search.trial(params, 1, limit_bytes=4 << 30)
    # Less than TensorFlow itself takes.
    assert not batch_search.trial(params, 1, limit_bytes=64 << 20)


def test_the_limit_is_the_flags_or_most_of_what_is_available() -> None:
    assert batch_search.limit_bytes(cnn.make_params(memory_limit_gib=1.5)) == 3 << 29
    assert 1 << 28 < batch_search.limit_bytes(cnn.make_params()) < 1 << 50
