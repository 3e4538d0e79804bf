"""One step of ``bench scale`` that has no command of its own, in a process of its own.

It prints, as JSON, what its costs are beside those that the process shows from outside.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from trainbench.bench.data import producer_in
from trainbench.machine.system import held_bytes
from trainbench.movielens.cache import RatingsCache, find_cache, open_cache
from trainbench.ncf.config import NcfConfig, from_json
from trainbench.ncf.input.batches import MemoryBatches
from trainbench.ncf.input.epochs import EpochMaker
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.producer import Producer
from trainbench.ncf.input.stream.pieces import open_piece
from trainbench.trials.paths import DataDir

if TYPE_CHECKING:
    from trainbench.ncf.train import Trainer

MADE = "made"
"""Name of the folder, in the data directory, of candidates and epochs."""

MOST_PIECES = 4
"""Pieces of an epoch that are made. Of a large one these are the first, with the plan of all."""


def candidates(config: NcfConfig, cache: RatingsCache, folder: Path) -> Mapping[str, Any]:
    """Draw and write the candidates of every user."""
    with _maker(config, cache, folder) as (maker, out):
        maker.write_eval(out)
    return {}


def epoch(config: NcfConfig, cache: RatingsCache, folder: Path) -> Mapping[str, Any]:
    """Make an epoch, or its first ``MOST_PIECES`` pieces."""
    samples = 0
    with _maker(config, cache, folder) as (maker, out):
        for piece in range(min(maker.pieces.count, MOST_PIECES)):
            # Over the one before, as a trainer that keeps up leaves one at a time.
            maker.write_piece(0, piece, out)
            samples += open_piece(out, wait_s=0.0).labels.size
    return {"samples": samples}


@contextmanager
def _maker(
    config: NcfConfig, cache: RatingsCache, folder: Path
) -> Iterator[tuple[EpochMaker, Path]]:
    options = GenerationOptions.of(
        config, cache_folder=cache.folder, compliance_file=folder, seed=1
    )
    out = folder / MADE
    out.mkdir()
    maker = EpochMaker(cache, options)
    try:
        yield maker, out
    finally:
        maker.close()


def train(config: NcfConfig, cache: RatingsCache, folder: Path, steps: int) -> Mapping[str, Any]:
    """Train ``steps`` steps on what a producer makes meanwhile, and rank some held-out items."""
    # Only here: the other steps need no TensorFlow, and their memory would be its.
    from trainbench.ncf.evaluation.evaluator import Evaluator
    from trainbench.ncf.train import build

    per_epoch = max(1, cache.num_train * (1 + config.train_negatives) // config.batch_size)
    # More than are trained, so that the producer is still there when it is looked at.
    spare = 4 * config.epochs_per_cycle
    config = replace(config, max_epochs=-(-steps // per_epoch) + spare)
    with producer_in(folder, cache, config) as producer:
        trainer = build(config, cache.num_users, cache.num_items, seed=1)
        producer.release()
        trainer.warm_up()
        evaluator = Evaluator(trainer, producer.eval_candidates())
        costs, waits_s = _trained(trainer, producer, steps)
        users = evaluator.sample()
        evaluated = evaluator.evaluate(chosen=users)
        # Of a child's usage, what it held before it was the producer would be a part.
        made_by = [held_bytes(child.pid) for child in psutil.Process().children()]
    return {
        **costs,
        "peak_bytes": held_bytes(os.getpid()),
        "training": {
            "pieces": len(waits_s),
            "first_wait_s": waits_s[0],
            "later_wait_s": sum(waits_s[1:]),
            "producer_peak_bytes": max(made_by, default=0),
            "evaluated_users": len(users),
            "eval_s": evaluated.seconds,
        },
    }


def _trained(
    trainer: Trainer, producer: Producer, steps: int
) -> tuple[dict[str, float], list[float]]:
    """Time, CPU time and samples of the steps alone, and how long each piece was waited for."""
    costs = {"seconds": 0.0, "cpu_s": 0.0, "samples": 0}
    waits_s: list[float] = []
    while steps:
        before = time.perf_counter()
        piece = producer.next_piece()
        waits_s.append(time.perf_counter() - before)
        users, items, labels = (array[:steps] for array in piece.arrays)
        cpu_before = time.process_time()
        done = trainer.train_epoch(MemoryBatches(users, items, labels, epoch=piece.epoch))
        costs["cpu_s"] += time.process_time() - cpu_before
        costs["seconds"] += done.seconds
        costs["samples"] += done.samples
        steps -= len(users)
    return costs, waits_s


def main(step: str, folder: Path, train_steps: int, config: NcfConfig) -> None:
    """Run ``step`` on the cache in the data directory ``folder`` and print what it found."""
    cache = open_cache(find_cache(config.split_spec, DataDir(folder)), verify=False)
    if step == "train":
        found = train(config, cache, folder, train_steps)
    else:
        found = {"candidates": candidates, "epoch": epoch}[step](config, cache, folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), from_json(sys.argv[4]))
