"""The permutation: complete, uniform, and the same whoever does the work."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import numpy as np
import pytest

from trainbench.ncf.input.stream.sampling import Purpose, stream
from trainbench.ncf.input.stream.shuffle import Shuffle, num_buckets, ordered


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def permuted(
    pool: ThreadPoolExecutor, sizes: list[int], *, seed: int, per_bucket: int
) -> list[int]:
    """0..n-1, cut into parts of ``sizes``, shuffled."""
    begins = np.cumsum([0, *sizes])
    shuffle = Shuffle(
        sizes=sizes,
        make=lambda part: np.arange(begins[part], begins[part + 1], dtype=np.uint64),
        bucket_stream=lambda part: stream(seed, Purpose.BUCKETS, 0, part),
        order_stream=lambda bucket: stream(seed, Purpose.SHUFFLE, 0, bucket),
        per_bucket=per_bucket,
    )
    blocks = shuffle.scattered(pool, ahead=4).blocks(pool, ahead=4)
    return [int(sample) for block in blocks for sample in block]


def test_every_sample_comes_out_once(pool: ThreadPoolExecutor) -> None:
    out = permuted(pool, [100, 1, 0, 399], seed=1, per_bucket=16)
    assert sorted(out) == list(range(500))
    assert out != sorted(out)


@pytest.mark.parametrize("per_bucket", [1, 2])
def test_all_permutations_of_a_tiny_epoch_are_equally_likely(
    pool: ThreadPoolExecutor, per_bucket: int
) -> None:
    tries = 1_200
    orders = (permuted(pool, [3, 1], seed=s, per_bucket=per_bucket) for s in range(tries))
    seen = Counter(map(tuple, orders))
    expected = tries / math.factorial(4)
    counts = [seen[order] for order in permutations(range(4))]
    # 23 degrees of freedom; the limit is exceeded about once in a million tries.
    assert sum((count - expected) ** 2 / expected for count in counts) < 70


def test_every_sample_is_equally_likely_at_every_place(pool: ThreadPoolExecutor) -> None:
    n, tries = 40, 800
    places = np.zeros((n, n))
    for seed in range(tries):
        places[np.arange(n), permuted(pool, [15, 25], seed=seed, per_bucket=4)] += 1
    expected = tries / n
    # (n - 1)^2 = 1521 degrees of freedom, standard deviation 55.
    assert ((places - expected) ** 2 / expected).sum() < 1521 + 5 * 55


def test_workers_do_not_change_the_order(pool: ThreadPoolExecutor) -> None:
    sizes = [1_000] * 20
    with ThreadPoolExecutor(4) as four:
        orders = [permuted(p, sizes, seed=3, per_bucket=500) for p in (pool, four)]
    assert orders[0] == orders[1]


def test_number_of_buckets_is_a_power_of_two_that_keeps_buckets_small() -> None:
    assert [num_buckets(n, 10) for n in (0, 1, 10, 11, 20, 21, 41)] == [1, 1, 1, 2, 2, 4, 8]
    assert num_buckets(10**12, 1) == 1 << 16


def test_results_come_in_order_and_few_are_ahead() -> None:
    started = []

    def work(item: int) -> int:
        started.append(item)
        time.sleep(0.002 * (item % 3))
        return item

    with ThreadPoolExecutor(3) as pool:
        for position, item in enumerate(ordered(pool, work, range(30), ahead=5)):
            assert item == position
            assert len(started) <= position + 5


def test_the_first_failure_is_raised_and_ends_the_work() -> None:
    started = []

    def work(item: int) -> int:
        started.append(item)
        return 1 // (3 - item)

    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        list(ordered(pool, work, range(1_000), ahead=4))
    assert len(started) < 20
