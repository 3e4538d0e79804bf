"""Trains and evaluates on one device and on several, in a process of its own; prints JSON.

TensorFlow's logical devices can be made only before its first use, so the tests of replicas start
this with the numbers of replicas that they want to compare.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from trainbench.ncf.config import NcfConfig, reference
from trainbench.ncf.evaluate import Evaluator
from trainbench.ncf.train import Trainer, build
from trainbench.trials import signals

USERS, ITEMS, BATCH, STEPS = 400, 48, 32, 40
SMALL = replace(
    reference(),
    mf_dim=6,
    mlp_layer_sizes=(12, 8, 4),
    batch_size=BATCH,
    learning_rate=2e-3,
    steps_per_call=16,
    eval_users_per_batch=24,
    devices="cpu",
    xla=False,
)


@dataclass(frozen=True)
class Epoch:
    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    epoch: int = 0


@dataclass(frozen=True)
class Candidates:
    items: np.ndarray


def some_epoch() -> Epoch:
    """Skewed users and items, so that some rows come in every batch and some once or never."""
    rng = np.random.default_rng(0)
    shape = (STEPS, BATCH)
    chosen = (rng.random(shape) ** 2 * USERS).astype(np.int32)
    items = (rng.random(shape) ** 1.5 * ITEMS).astype(np.int32)
    return Epoch(chosen, items, (chosen % 3 == 0).astype(np.uint8))


def some_candidates() -> Candidates:
    """A number of users that neither a batch nor two fit into."""
    return Candidates(np.random.default_rng(1).integers(0, ITEMS, (USERS - 3, 30), np.int32))


def stops(evaluator: Evaluator) -> bool:
    """Whether an evaluation ends before its end when the process was asked to stop."""
    signals._asked = True
    try:
        evaluator.evaluate()
    except KeyboardInterrupt:
        return True
    finally:
        signals._asked = False
    return False


def outcome(trainer: Trainer) -> dict[str, Any]:
    """What training and evaluation came to, with the weights of every copy."""
    losses = [trainer.train_epoch(some_epoch()).mean_loss]
    found = Evaluator(trainer, some_candidates()).evaluate()
    step = trainer.step
    copies = step.local_tensors() if trainer.replicas else [step.tensors()]
    return {
        "device": trainer.device,
        "losses": losses,
        "hits": found.hits,
        "ndcg": found.ndcg,
        "users": found.users,
        "stops": stops(Evaluator(trainer, some_candidates())),
        "copies": [{n: np.asarray(t).tolist() for n, t in copy.items()} for copy in copies],
    }


def main(cases: dict[str, dict[str, Any]]) -> None:
    """Print the outcome of each case, a change of ``SMALL``, by its name."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    found = {}
    for name, changes in cases.items():
        config: NcfConfig = replace(SMALL, **changes)
        found[name] = outcome(build(config, USERS, ITEMS, seed=4))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
