"""Every form in TensorFlow does its turn, on a small model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainbench.bench.peers import tensorflow_cnn, tensorflow_ncf
from trainbench.bench.peers.rounds import Turn
from trainbench.ncf import config as configs

TINY = replace(
    configs.reference(),
    mf_dim=4,
    mlp_layer_sizes=(8, 8, 4),
    batch_size=16,
    eval_negatives=12,
    eval_users_per_batch=64,
    xla=False,
    lanes=None,
    devices="cpu",
)
TRAINED = {"config": TINY, "geometry": (90, 70), "steps": 2}
EVALUATED = {"config": TINY, "geometry": (90, 70), "users": 64}
FLAGS = {"model": "trivial", "data_name": "cifar10", "batch_size": 2}


def of_cnn() -> Turn:
    return tensorflow_cnn.ours(flags=FLAGS, steps=2)


@pytest.mark.parametrize(
    ("turn", "amount"),
    [
        (lambda: tensorflow_ncf.training(**TRAINED), 32),
        (lambda: tensorflow_ncf.training(**TRAINED, form="plain"), 32),
        (lambda: tensorflow_ncf.keras_training(**TRAINED), 32),
        (lambda: tensorflow_ncf.evaluation(**EVALUATED), 64 * 13),
        (lambda: tensorflow_ncf.evaluation(**EVALUATED, form="plain"), 64 * 13),
        (lambda: tensorflow_ncf.keras_evaluation(**EVALUATED), 64 * 13),
        (of_cnn, 4),
    ],
    ids=["ours", "plain", "fit", "ours, evaluation", "plain, evaluation", "predict", "cnn"],
)
def test_a_turn_says_how_much_it_did(turn: object, amount: int) -> None:
    done, seconds = turn()()  # type: ignore[operator]
    assert done == amount
    assert seconds > 0
