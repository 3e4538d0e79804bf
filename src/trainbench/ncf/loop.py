"""The course of one trial, the same for chief and workers: what each does beside is an observer's.

Every worker makes the same input from the same seed, takes the same steps and finds the same hit
rate, so each knows by itself when the trial ends. Where several machines meet, and in which order,
stands here alone.

The order is the rule's (docs/rules.md): the producer is alive, the page cache is dropped, the clock
starts, the producer may touch data, and everything that depends on the data or the model follows.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trainbench import __version__
from trainbench.configuration import to_json
from trainbench.machine import page_cache
from trainbench.machine.page_cache import CacheDrop
from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.evaluation.evaluator import Evaluation, Evaluator, require_missable
from trainbench.ncf.evaluation.rivals import Rivals
from trainbench.ncf.input.producer import EvalCandidates, Producer
from trainbench.ncf.input.stream.pieces import EpochData
from trainbench.ncf.input.stream.slices import SLICES
from trainbench.ncf.replicas import Replicas
from trainbench.ncf.sharded.agreement import data_sha256, whole_record
from trainbench.ncf.train import EpochTrain, StepProgress, Trainer, build
from trainbench.progress import heartbeat, log_line


class Observer:
    """What a worker does beside training: it says how far it is. The chief's records the trial."""

    def phase(
        self, name: str, *, epoch: int | None = None, beside_s: float | None = None
    ) -> AbstractContextManager[Any]:
        """The context of a phase, whose work ran ``beside_s`` beside the phases before it."""
        return contextlib.nullcontext()

    def caches_dropped(self, drop: CacheDrop) -> None:
        """The page cache was dropped, or was not, on all machines."""
        log_line(drop.sentence())

    def starts(self) -> None:
        """The clock starts: from here on, all work counts."""

    def builds(self) -> None:
        """The model is about to be built."""

    def built(self, trainer: Trainer) -> None:
        """The model is built; its step is compiled, or will be before the first one."""

    def candidates_arrived(self, candidates: EvalCandidates, rivals: Rivals) -> None:
        """What every user's held-out item is ranked among is there."""

    def untrained(self, evaluation: Evaluation) -> None:
        """The model was evaluated before training, maybe on some users only."""

    def trains(self) -> None:
        """The first epoch is about to begin."""

    def epoch_begins(self, epoch: int) -> None:
        """An epoch begins with waiting for its input."""

    def input_arrived(self, batches: EpochData) -> None:
        """The input of an epoch is here, or a piece of it."""

    def progressed(self, done: int, total: int, rate_per_s: float) -> None:
        """``done`` of ``total`` samples of the epoch are trained on."""

    def evaluates(self, epoch: int) -> None:
        """An epoch is about to be evaluated; with epochs_between_evals, not every one is."""

    def evaluated(self, epoch: int, evaluation: Evaluation) -> None:
        """An epoch was evaluated."""

    def epoch_done(
        self, batches: EpochData, trained: EpochTrain, evaluation: Evaluation | None
    ) -> None:
        """An epoch is over, and evaluated or not."""
        found = f"hr@10 {evaluation.hit_rate:.4f}" if evaluation else "not evaluated"
        log_line(f"epoch {batches.epoch + 1}  {found}  loss {trained.mean_loss:.4f}")


@dataclass(frozen=True)
class Course:
    """A trial that is ready to start: its producer is alive and has touched no data."""

    config: NcfConfig
    seed: int
    cache: RatingsCache
    producer: Producer
    replicas: Replicas | None
    observer: Observer
    drop_cache_location: str
    profile: str | None = None
    _first_batch: dict[int, str] = field(default_factory=dict)

    def run(self) -> tuple[Trainer, bool]:
        """Train to the target or the last epoch; the trained model, and whether it got there.

        Raises:
            ConfigError: the target is reached without training.
        """
        target = self.config.target_hit_rate
        self._start()
        trainer, evaluator = self._ready()
        self.observer.trains()
        for epoch in range(self.config.max_epochs):
            found = self._epoch(epoch, trainer, evaluator)
            if target is not None and found and found.hit_rate >= target:
                return trainer, True
        return trainer, False

    def _start(self) -> None:
        with self.observer.phase("drop_caches"):
            drop = caches_dropped(self.config, self.drop_cache_location, self.replicas)
            self.observer.caches_dropped(drop)
        # What was imported stays: collections of garbage, which tracing sets off, need not search
        # its half a million objects again and again.
        gc.freeze()
        self.observer.starts()
        if self.replicas:
            # All wait here, so that no producer reads before the chief's clock has started.
            for what, value in same_run(self.config, self.seed, self.cache):
                self.replicas.require_agreement(what, value)
        self.producer.release()

    def _ready(self) -> tuple[Trainer, Evaluator]:
        """The trainer, its step compiled, and the evaluator, which has looked at the model."""
        observer, size = self.observer, (self.cache.num_users, self.cache.num_items)
        with observer.phase("build_model"):
            observer.builds()
            trainer = build(self.config, *size, seed=self.seed, replicas=self.replicas)
        if trainer.replicas:
            # Their collectives have to meet in one order, so nothing runs beside.
            if trainer.compiles_ahead:
                with observer.phase("compile"), heartbeat("compiling the training step"):
                    trainer.warm_up()
            observer.built(trainer)
            return trainer, self._build_evaluator(trainer)
        with ThreadPoolExecutor(1) as beside:
            started, compiled = time.perf_counter(), beside.submit(trainer.warm_up)
            observer.built(trainer)
            evaluator = self._build_evaluator(trainer)
            beside_s = time.perf_counter() - started
            with (
                observer.phase("wait_compile", beside_s=beside_s),
                heartbeat("compiling the training step"),
            ):
                compiled.result()
        return trainer, evaluator

    def _build_evaluator(self, trainer: Trainer) -> Evaluator:
        phase = self.observer.phase
        with phase("wait_eval_candidates"), heartbeat("waiting for eval candidates"):
            candidates = self.producer.eval_candidates()
        with phase("build_evaluator"):
            evaluator = Evaluator(trainer, candidates)
        self.observer.candidates_arrived(candidates, evaluator.rivals)
        config, untrained = self.config, None
        if config.initial_eval or config.target_hit_rate is not None:
            with phase("initial_eval"), heartbeat("evaluating the untrained model"):
                chosen = None if config.initial_eval else evaluator.sample()
                found = evaluator.evaluate(chosen=chosen)
            self.observer.untrained(found)
            untrained = found.hit_rate
        require_missable(config.target_hit_rate, evaluator.rivals.guessed_hit_rate, untrained)
        return evaluator

    def _epoch(self, epoch: int, trainer: Trainer, evaluator: Evaluator) -> Evaluation | None:
        observer = self.observer
        observer.epoch_begins(epoch)
        parts: list[EpochTrain] = []
        batches = self._next_piece(epoch)
        steps = StepProgress(epoch, self.producer, batches.record, observer.progressed)
        while True:
            profile = self.profile if epoch == 0 and not parts else None
            with observer.phase("train_epoch", epoch=epoch):
                progress = steps.of_piece(batches.record)
                parts.append(trainer.train_epoch(batches, on_progress=progress, profile=profile))
            if batches.is_last:
                break
            batches = self._next_piece(epoch)
        trained = EpochTrain.joined(parts)
        found = self._evaluation(epoch, evaluator) if evaluates(self.config, epoch) else None
        observer.epoch_done(batches, trained, found)
        return found

    def _next_piece(self, epoch: int) -> EpochData:
        with self.observer.phase("wait_input", epoch=epoch), heartbeat("waiting for input"):
            batches = self.producer.next_piece()
        if self.replicas and len(batches.slices) < SLICES:
            batches = whole_record(batches, self.replicas, self._first_batch.get(epoch, ""))
            self._first_batch[epoch] = batches.record.first_batch_sha256
        elif self.replicas:
            self.replicas.require_agreement(*same_input(batches))
        self.observer.input_arrived(batches)
        return batches

    def _evaluation(self, epoch: int, evaluator: Evaluator) -> Evaluation:
        self.observer.evaluates(epoch)
        with self.observer.phase("eval", epoch=epoch), heartbeat("evaluating"):
            found = evaluator.evaluate(on_progress=lambda done, total: self.producer.check())
        self.observer.evaluated(epoch, found)
        return found


def evaluates(config: NcfConfig, epoch: int) -> bool:
    """Whether an epoch, counted from 0, is evaluated; the last one always is."""
    number = epoch + 1
    return number % config.epochs_between_evals == 0 or number == config.max_epochs


def agreed_seed(seed: int | None, replicas: Replicas) -> int:
    """This worker's ``seed``, or the chief's where it has none; every worker calls it."""
    # A sum of float32 is exact for 16 bits, and a seed has up to 64.
    parts = [(seed or 0) >> shift & 0xFFFF for shift in (0, 16, 32, 48)]
    chief = replicas.wire.gathered(np.array(parts, np.int32))[0]
    told = sum(int(part) << shift for part, shift in zip(chief, (0, 16, 32, 48), strict=True))
    return told if seed is None else seed


def same_run(config: NcfConfig, seed: int, cache: RatingsCache) -> tuple[tuple[str, bytes], ...]:
    """What workers of one trial must agree on before it, each with its hash."""
    data = data_sha256(cache) if config.tables == "sharded" else cache.record["test_set_sha256"]
    parts = {
        "settings or version": to_json(config) + __version__,
        "--seed": str(seed),
        "data": data,
    }
    return tuple((what, hashlib.sha256(of.encode()).digest()) for what, of in parts.items())


def same_input(batches: EpochData) -> tuple[str, bytes]:
    """What workers of one trial must agree on before an epoch, with its hash."""
    return f"the input of epoch {batches.epoch}", bytes.fromhex(batches.record.epoch_sha256)


def caches_dropped(config: NcfConfig, location: str, replicas: Replicas | None) -> CacheDrop:
    """Drop the page cache here; with ``replicas``, return when every worker has tried.

    ``dropped`` says whether it was dropped on all machines.
    """
    drop = page_cache.drop_if(config.drop_caches, location)
    if replicas is None:
        return drop
    everywhere = replicas.wire.gathered(np.array([drop.dropped], np.int32))[:, 0]
    missing = [str(index) for index, dropped in enumerate(everywhere) if not dropped]
    if drop.dropped and missing:
        drop = replace(drop, dropped=False, reason=f"not on worker {', '.join(missing)}")
    return drop
