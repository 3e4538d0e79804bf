"""The model of many workers: exact where a sum is known, and bounded where it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainbench.bench.extrapolation import (
    ETHERNET_10G,
    Measured,
    Network,
    distinct,
    speed_up,
    step,
)

MEASURED = Measured(
    samples_per_s=150_000, batch=65_536, items=26_744, row_bytes=768, dense_bytes=699_652
)
FREE = Network("no wire", float("inf"), 0.0)


def test_one_worker_sends_nothing_and_is_as_fast_as_it_was_measured() -> None:
    alone = step(MEASURED, 1, ETHERNET_10G)
    assert alone.sent_bytes == alone.exchange_s == alone.reduce_s == 0
    assert MEASURED.batch / alone.seconds == pytest.approx(150_000)


@pytest.mark.parametrize("workers", [2, 8, 64, 512])
def test_without_a_wire_and_undivided_work_the_work_is_divided(workers: int) -> None:
    assert speed_up(MEASURED, workers, FREE) == pytest.approx(workers)
    assert speed_up(MEASURED, workers, ETHERNET_10G) < workers


def test_what_is_not_divided_bounds_the_speed_up_as_amdahl_says() -> None:
    measured = replace(MEASURED, label_s=1 / 150_000 / 9)  # a tenth of one worker's step
    assert speed_up(measured, 10**9, FREE) == pytest.approx(10, rel=1e-6)
    assert step(measured, 512, FREE).limit() == "label draws"


def test_two_workers_exchange_half_of_their_distinct_rows_and_all_gradients_twice() -> None:
    rows = distinct(32_768, 26_744)
    sent = step(MEASURED, 2, ETHERNET_10G).sent_bytes
    assert sent == pytest.approx(rows / 2 * (4 + 2 * 768) + 699_652)


def test_traffic_follows_the_distinct_rows_and_not_the_samples() -> None:
    assert distinct(1, 100) == pytest.approx(1)
    assert distinct(10**9, 100) == pytest.approx(100)
    assert distinct(1_000, 10**9) == pytest.approx(1_000, rel=1e-3)


def test_many_workers_of_a_small_batch_wait_for_messages() -> None:
    small = replace(MEASURED, batch=2_048)
    assert speed_up(small, 512, ETHERNET_10G) < speed_up(small, 8, ETHERNET_10G)
