"""Evaluation of weights that an earlier run has left."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from trainbench.movielens.cache import find_cache, open_cache
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.evaluation.evaluator import Evaluation, Evaluator
from trainbench.ncf.input.producer import start_producer
from trainbench.ncf.train import build
from trainbench.trials.paths import DataDir


def evaluate_saved(
    config: NcfConfig, data: DataDir, weights: Path, *, negatives: int, seed: int
) -> Evaluation:
    """HR@10 and NDCG@10 of ``weights`` (a .npz or .keras file) on the held-out items of ``config``.

    Args:
        negatives: per user; 999 is MLPerf's protocol, 99 the one of the NeuMF paper.
        seed: of the candidates; the one of the trial draws the trial's own candidates.

    Raises:
        DataIntegrityError: a parameter is missing or has another shape; a damaged cache.
        MachineError: no cache, or a GPU asked for and absent.
    """
    cache = open_cache(find_cache(config.split_spec, data), verify=True)
    config = replace(config, eval_negatives=negatives, generator="inline")
    trainer = build(config, cache.num_users, cache.num_items, seed=seed)
    trainer.load(weights)
    with tempfile.TemporaryDirectory() as logs:
        producer = start_producer(
            cache,
            config,
            seed=seed,
            work_dir=data.work,
            log_file=Path(logs) / "generator.log",
            compliance_file=Path(logs) / "compliance.log",
        )
        with producer:
            producer.release()
            return Evaluator(trainer, producer.eval_candidates()).evaluate()
