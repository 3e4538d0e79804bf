"""One machine's part in a trial of several: worker 1 and above, and what it shares with the chief.

Every worker makes the same input from the same seed, takes the same steps and finds the same hit
rate, so each knows by itself when the trial ends. Only the chief, worker 0, writes results.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainbench import __version__, configuration
from trainbench.distribution.cluster import Cluster
from trainbench.distribution.join import together
from trainbench.distribution.liveness import JOIN_TIMEOUT_S, Liveness
from trainbench.machine import page_cache
from trainbench.movielens.cache import RatingsCache, find_cache, open_cache
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.devices import check_devices, join_workers
from trainbench.ncf.evaluate import Evaluator
from trainbench.ncf.input.producer import Producer, start_producer
from trainbench.ncf.replicas import Replicas
from trainbench.ncf.train import StepProgress, build
from trainbench.progress import heartbeat, log_line
from trainbench.trials.paths import DataDir


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs for its part in one trial."""

    config: NcfConfig
    cluster: Cluster
    seed: int
    data: DataDir
    log_file: Path
    drop_cache_location: str = page_cache.DROP_CACHES
    join_timeout_s: float = JOIN_TIMEOUT_S


def run_worker(spec: WorkerSpec) -> None:
    """Work for the chief until the trial ends; nothing is written but ``spec.log_file``.

    Raises:
        MachineError: another worker is gone, or the workers differ in what they train on.
    """
    check_devices(spec.config, spec.cluster)
    watch = Liveness(spec.cluster, timeout_s=spec.join_timeout_s, option="--join-timeout-s")
    replicas = join_workers(spec.config, watch)
    cache = open_cache(find_cache(spec.config.split_spec, spec.data), verify=False)
    with tempfile.TemporaryDirectory() as scratch, together(watch, replicas.meet):
        producer = start_producer(
            cache,
            spec.config,
            seed=spec.seed,
            work_dir=spec.data.work,
            log_file=spec.log_file,
            compliance_file=Path(scratch) / "compliance.log",
        )
        with producer:
            drop = caches_dropped(spec.config, spec.drop_cache_location, replicas)
            log_line(drop.sentence())
            replicas.require_agreement(*same_run(spec.config, spec.seed, cache))
            producer.release()
            _work(spec, replicas, cache, producer)


def _work(spec: WorkerSpec, replicas: Replicas, cache: RatingsCache, producer: Producer) -> None:
    settings, size = spec.config, (cache.num_users, cache.num_items)
    trainer = build(settings, *size, seed=spec.seed, replicas=replicas)
    with heartbeat("compiling the training step"):
        trainer.warm_up()
    evaluator = Evaluator(trainer, producer.eval_candidates())
    if settings.initial_eval:
        evaluator.evaluate()
    for epoch in range(settings.max_epochs):
        with heartbeat("waiting for input"):
            batches = producer.next_epoch()
        replicas.require_agreement(*same_input(batches))
        trained = trainer.train_epoch(batches, on_progress=StepProgress(epoch, producer))
        found = evaluator.evaluate(on_progress=lambda done, total: producer.check())
        log_line(f"epoch {epoch + 1}  hr@10 {found.hit_rate:.4f}  loss {trained.mean_loss:.4f}")
        if found.hit_rate >= settings.target_hit_rate:
            return


def same_run(settings: NcfConfig, seed: int, cache: RatingsCache) -> tuple[str, bytes]:
    """What workers of one trial must agree on before it, with its hash."""
    parts = [
        configuration.to_json(settings),
        str(seed),
        cache.record["test_set_sha256"],
        __version__,
    ]
    return "settings, seed or data", hashlib.sha256("\n".join(parts).encode()).digest()


def same_input(batches: Any) -> tuple[str, bytes]:
    """What workers of one trial must agree on before an epoch, with its hash."""
    return f"the input of epoch {batches.epoch}", bytes.fromhex(batches.epoch_sha256)


def caches_dropped(
    settings: NcfConfig, location: str, replicas: Replicas | None
) -> page_cache.CacheDrop:
    """Drop the page cache here; with ``replicas``, return when every worker has tried.

    ``dropped`` says whether it was dropped on all machines.
    """
    drop = page_cache.drop_if(settings.drop_caches, location)
    if replicas is None:
        return drop
    everywhere = replicas.gathered(np.array([drop.dropped], np.int32))[:, 0]
    missing = [str(index) for index, dropped in enumerate(everywhere) if not dropped]
    if drop.dropped and missing:
        drop = replace(drop, dropped=False, reason=f"not on worker {', '.join(missing)}")
    return drop
