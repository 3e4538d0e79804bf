"""The cost of the input: negatives, evaluation candidates, epochs, for 1 M to 100 M ratings.

The ratings are drawn with ml-20m's shape (its items, its ratings per user, a long tail of busy
users) and grow by users. Each size is measured in a process of its own, so that its peak memory is
its own. Figures are medians; the machine should be idle, and where it is not, the core seconds of
an epoch and the negatives per core second still say what the work costs.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trainbench.machine.allocator import keep_freed_memory
from trainbench.machine.system import held_bytes
from trainbench.movielens.cache import RatingsCache, open_cache, write_cache
from trainbench.ncf.config import NcfConfig, reference
from trainbench.ncf.input.epochs import EpochMaker
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.producer import Producer, start_producer
from trainbench.ncf.input.stream.pieces import BYTES_PER_SAMPLE
from trainbench.ncf.input.stream.sampling import Sampler, chunk_bounds
from trainbench.progress import heartbeat, log_line

# ml-20m: users, items, training pairs (of the published dataset with one rating held out).
USERS, ITEMS, PAIRS = 138_493, 26_744, 19_861_770
SIZES = (1_000_000, 5_000_000, PAIRS, 100_000_000)
# The pace at which a trainer is simulated, in samples/s, and on how many ratings.
PACE = 600_000
WAITS_SIZE = 1_000_000
_FEWEST, _MOST = 19, 9_000
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Cost:
    """The costs at one size; seconds are medians of whole passes, core seconds of all threads."""

    pairs: int
    users: int
    negatives_per_s: float
    eval_s: float
    epoch_s: float
    epoch_core_s: float
    samples: int
    peak_gib: float

    def row(self) -> str:
        """One line of the table; the last column is the time as a share of training at PACE."""
        return (
            f"{self.pairs / 1e6:9.2f} M  {self.users:9,}  {self.negatives_per_s / 1e6:9.1f} M/s  "
            f"{self.eval_s:8.2f} s  {self.samples / 1e6:8.2f} M  {self.epoch_s:8.2f} s  "
            f"{self.epoch_core_s:8.2f} s  {self.epoch_core_s / self.samples * 1e9:7.1f} ns  "
            f"{self.peak_gib:6.2f} GiB  "
            f"{self.samples * BYTES_PER_SAMPLE / 1e9:6.2f} GB  "
            f"{100 * self.epoch_s * PACE / self.samples:8.1f} %"
        )


HEADER = (
    "    ratings      users    negatives  eval cand.    samples   one epoch  core time  "
    "a sample  peak memory    on disk  of training"
)


def run(
    sizes: Sequence[int] = SIZES,
    *,
    workers: int = 2,
    repeats: int = 3,
    waits_size: int = WAITS_SIZE,
    folder: Path | None = None,
) -> list[Cost]:
    """Measure every size and print the table to stdout; files go to a temporary ``folder``.

    ``negatives`` is per second of one core. ``one epoch`` is negatives, shuffle,
    writing and hashing by ``workers`` threads.
    """
    print(f"input producer, {workers} workers, median of {repeats}\n{HEADER}")
    costs = []
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-data-") as name:
        for size in sizes:
            with heartbeat(f"measuring {size / 1e6:.0f} M ratings"):
                own = Path(name) / str(size)
                costs.append(cost_of(size, workers=workers, repeats=repeats, folder=own))
            print(costs[-1].row(), flush=True)
        _print_waits(_in_process(_write_ratings, Path(name) / "waits", waits_size), workers)
    print(
        "wanted at 19.86 M ratings on two cores: negatives >= 20 M/s per core, eval candidates "
        "< 10 s, one epoch < 15 s, peak memory < 3 GiB"
    )
    return costs


def cost_of(pairs: int, *, workers: int, repeats: int, folder: Path) -> Cost:
    """The costs of ``pairs`` ratings, which are written into ``folder``."""
    cache = _in_process(_write_ratings, folder, pairs)
    return _in_process(_measured, cache, workers, repeats)


def _in_process(work: Callable[..., _Out], *arguments: object) -> _Out:
    with get_context("spawn").Pool(1) as pool:  # ends its process whatever happens here
        return pool.apply(work, arguments)


def _write_ratings(folder: Path, pairs: int) -> Path:
    arrays = ratings(pairs)
    write_cache(folder, arrays, {})
    return folder


def ratings(pairs: int, *, seed: int = 0) -> dict[str, npt.NDArray[np.int64]]:
    """The arrays of a cache with ``pairs`` training pairs in ml-20m's shape, all distinct.

    A user's items are an arithmetic progression modulo the number of items, with a stride that
    has no factor in common with it: distinct without any search.
    """
    rng = np.random.default_rng(seed)
    users = max(1, round(pairs * USERS / PAIRS))
    counts = _activity(rng, users, pairs)
    starts = np.zeros(users + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    strides = np.flatnonzero(np.gcd(np.arange(ITEMS), ITEMS) == 1)
    first, stride = rng.integers(0, ITEMS, users), rng.choice(strides, users)
    numbers = np.repeat(np.arange(users), counts)
    place = np.arange(pairs) - starts[numbers]
    return {
        "users": numbers,
        "items": (first[numbers] + place * stride[numbers]) % ITEMS,
        "row_starts": starts,
        "test_items": (first + counts * stride) % ITEMS,
        "user_ids": np.arange(users),
        "item_ids": np.arange(ITEMS),
    }


def _activity(rng: np.random.Generator, users: int, pairs: int) -> npt.NDArray[np.int64]:
    weights = rng.lognormal(0.0, 1.0, users)
    wanted = (weights / weights.sum() * pairs).astype(np.int64)
    counts: npt.NDArray[np.int64] = np.clip(wanted, _FEWEST, _MOST)
    while missing := int(pairs - counts.sum()):
        chosen = rng.integers(0, users, abs(missing))
        np.add.at(counts, chosen, np.sign(missing))
        counts = np.clip(counts, _FEWEST, _MOST)
    return counts


def _measured(folder: Path, workers: int, repeats: int) -> Cost:
    cache = open_cache(folder, verify=False)
    config = dataclasses.replace(reference(), generator_workers=workers)
    options = GenerationOptions.of(config, cache_folder=folder, compliance_file=folder, seed=1)
    maker = EpochMaker(cache, options)
    out = folder / "out"
    out.mkdir()
    keep_freed_memory()
    before = time.process_time()
    epoch_s = [_seconds(partial(maker.write_piece, epoch, 0, out)) for epoch in range(repeats)]
    core_s = (time.process_time() - before) / repeats
    peak = held_bytes(os.getpid()) / 2**30
    cost = Cost(
        pairs=cache.num_train,
        users=cache.num_users,
        negatives_per_s=statistics.median(_negatives_per_s(cache) for _ in range(repeats)),
        eval_s=statistics.median(_seconds(partial(maker.write_eval, out)) for _ in range(repeats)),
        epoch_s=statistics.median(epoch_s),
        epoch_core_s=core_s,
        samples=cache.num_train * (1 + config.train_negatives),
        peak_gib=peak,
    )
    maker.close()
    shutil.rmtree(out)
    return cost


def _negatives_per_s(cache: RatingsCache, *, most_chunks: int = 400) -> float:
    bounds = chunk_bounds(cache.row_starts, cache.num_items)
    sampler = Sampler(cache, 1, bounds)
    step = -(-(len(bounds) - 1) // most_chunks)
    chunks, drawn = range(0, len(bounds) - 1, step), 0
    started = time.thread_time()
    for chunk in chunks:
        drawn += len(sampler.train_negatives(0, chunk, 4))
    return drawn / (time.thread_time() - started)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def producer_in(folder: Path, cache: RatingsCache, config: NcfConfig) -> Producer:
    """A producer of its own process that works in ``folder``; a context manager."""
    return start_producer(
        cache,
        config,
        seed=1,
        work_dir=folder / "work",
        log_file=folder / "generator.log",
        compliance_file=folder / "compliance.log",
    )


def _print_waits(folder: Path, workers: int, *, epochs: int = 3) -> None:
    """Consume a producer's epochs at PACE and print how long each was waited for."""
    cache = open_cache(folder, verify=False)
    config = dataclasses.replace(reference(), generator_workers=workers, max_epochs=epochs)
    log_line(f"consuming {epochs} epochs of {cache.num_train:,} ratings at {PACE:,} samples/s")
    waits = []
    with producer_in(folder, cache, config) as producer:
        producer.release()
        for _ in range(epochs):
            data = producer.next_piece()
            waits.append(data.wait_s)
            time.sleep(data.record.num_samples / PACE)
    of_training = 100 * sum(waits[1:]) / ((epochs - 1) * data.record.num_samples / PACE)
    listed = ", ".join(f"{wait:.3f} s" for wait in waits)
    print(
        f"input_wait_s at {PACE:,} samples/s and {cache.num_train / 1e6:.2f} M ratings: {listed}; "
        f"after the first epoch {of_training:.2f} % of training (wanted: < 2 %)"
    )
