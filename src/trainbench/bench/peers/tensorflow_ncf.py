"""NCF's forms in TensorFlow: ours, the plain one of the same step, and the model under Keras."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from trainbench.bench.batches import random_candidates
from trainbench.bench.ncf import MID_EPOCH_STEP, plain_evaluation
from trainbench.bench.peers.rounds import Turn, timed
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.evaluation.evaluator import Evaluator
from trainbench.ncf.input.batches import random_batches
from trainbench.ncf.model import Geometry, Weights, initial_weights
from trainbench.ncf.train import build
from trainbench.ncf.weights import keras_model

# Pairs that Keras scores at a time: its users' choice.
PAIRS_AT_ONCE = 32_768


def training(
    *, config: NcfConfig, geometry: tuple[int, int], steps: int, form: str = "fast"
) -> Turn:
    """Turns of ``steps`` steps in one call, in a form of ``ncf.step.FORMS``."""
    data = random_batches(geometry, steps=steps, batch=config.batch_size)
    trainer = build(replace(config, steps_per_call=steps), *geometry, seed=1, form=form)
    trainer.step.count_from(MID_EPOCH_STEP)
    trainer.warm_up()
    return timed(lambda: trainer.train_epoch(data).samples)


def evaluation(
    *, config: NcfConfig, geometry: tuple[int, int], users: int, form: str = "fast"
) -> Turn:
    """Turns that rank every user's last candidate; the plain form scores them alone."""
    # In lanes the step decides how it is evaluated; otherwise the smallest one does.
    trainer = build(config, *geometry, seed=1, form=form if config.lanes else "plain")
    candidates = random_candidates(geometry[1], users=users, negatives=config.eval_negatives)
    if form == "plain":
        return timed(plain_evaluation(trainer, candidates.items))
    evaluator = Evaluator(trainer, candidates)
    return timed(lambda: evaluator.evaluate().pairs)


def compiled_model(config: NcfConfig, geometry: Geometry, weights: Weights) -> Any:
    """The model as Keras trains it: its Adam, binary cross-entropy of logits, its defaults."""
    if config.precision == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = keras_model(geometry, weights)
    model.compile(
        optimizer=keras.optimizers.Adam(
            config.learning_rate, config.beta1, config.beta2, config.epsilon
        ),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


class EpochSeconds(keras.callbacks.Callback):
    """The time of an epoch alone: ``fit`` also makes its input, once for all epochs."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Called by Keras."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Called by Keras."""
        self.seconds = time.perf_counter() - self._started


def keras_training(*, config: NcfConfig, geometry: tuple[int, int], steps: int) -> Turn:
    """Turns of one epoch of ``steps`` steps in ``fit``."""
    shape = Geometry.of(config, *geometry)
    model = compiled_model(config, shape, initial_weights(shape, seed=1))
    data = random_batches(geometry, steps=steps, batch=config.batch_size)
    users, items = data.users.ravel(), data.items.ravel()
    labels = data.labels.ravel().astype(np.float32)[:, None]
    epoch = EpochSeconds()

    def turn() -> tuple[int, float]:
        model.fit(
            [users, items],
            labels,
            batch_size=config.batch_size,
            shuffle=False,
            verbose=0,
            callbacks=[epoch],
        )
        return users.size, epoch.seconds

    return turn


def keras_evaluation(*, config: NcfConfig, geometry: tuple[int, int], users: int) -> Turn:
    """Turns of ``predict`` on every candidate of ``users`` users."""
    shape = Geometry.of(config, *geometry)
    model = compiled_model(config, shape, initial_weights(shape, seed=1))
    candidates = random_candidates(geometry[1], users=users, negatives=config.eval_negatives)
    numbers = np.repeat(np.arange(users, dtype=np.int32), candidates.items.shape[1])
    items = candidates.items.ravel()

    def work() -> int:
        model.predict([numbers, items], batch_size=PAIRS_AT_ONCE, verbose=0)
        return items.size

    return timed(work)
