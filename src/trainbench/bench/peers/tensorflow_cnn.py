"""The CNN's forms in TensorFlow: ours, and ``keras.applications`` as its users run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from trainbench.bench.cnn import counted_step, stock_model, stock_step
from trainbench.bench.peers.rounds import Turn, timed


def ours(*, flags: Mapping[str, Any], steps: int) -> Turn:
    """Turns of ``steps`` steps of ``trainbench cnn`` with ``flags``."""
    step = counted_step(dict(flags))[0]

    def work() -> int:
        for _ in range(steps):
            step()
        return steps * int(flags["batch_size"])

    return timed(work)


def stock(*, batch: int, steps: int, training: bool, bf16: bool) -> Turn:
    """Turns of ``steps`` steps of the stock network in a loop of ``tf.function``."""
    _policy(bf16)
    step = stock_step(batch, training=training)

    def work() -> int:
        for _ in range(steps):
            step()
        return steps * batch

    return timed(work)


def keras_loop(*, batch: int, steps: int, training: bool, bf16: bool) -> Turn:
    """Turns of ``fit`` or ``predict`` of the stock network over ``steps`` batches."""
    _policy(bf16)
    model = stock_model()
    # Without XLA, as ours; Keras would choose XLA by itself.
    model.compile(
        optimizer=keras.optimizers.SGD(0.001, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        jit_compile=False,
    )
    images = np.random.default_rng(0).standard_normal((steps * batch, 224, 224, 3), np.float32)
    labels = np.arange(len(images)) % 1000

    def work() -> int:
        if training:
            model.fit(images, labels, batch_size=batch, shuffle=False, verbose=0)
        else:
            model.predict(images, batch_size=batch, verbose=0)
        return len(images)

    return timed(work)


def _policy(bf16: bool) -> None:
    if bf16:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
