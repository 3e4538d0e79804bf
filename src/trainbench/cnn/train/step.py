"""The step contract: loss and gradients of each device, combined, checked, clipped, applied.

device i   loss, gradients = network(images_i, labels_i)      compiled by XLA on request
all        gradients of each copy = mean | sum | own
copy j     unscale, check, clip by value, optimizer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainbench.cnn.flags.params import Params
from trainbench.cnn.input.batches import Batch
from trainbench.cnn.train.network import Copy, Network, finite_rows, in_top_k
from trainbench.cnn.train.optimizers import Optimizer
from trainbench.cnn.train.precision import LossScale, all_finite
from trainbench.cnn.train.strategies import Strategy
from trainbench.distribution.collectives import Collectives


@dataclass
class Step:
    """The functions of a run, which an ``Executor`` runs, and the variables they change."""

    params: Params
    network: Network
    strategy: Strategy
    copies: list[Copy]
    optimizers: list[Optimizer]
    loss_scale: LossScale | None

    @classmethod
    def of(
        cls,
        params: Params,
        network: Network,
        devices: Sequence[str],
        workers: Collectives | None = None,
        *,
        place: Callable[[Copy], Copy] | None = None,
    ) -> Step:
        """A step for ``network`` on ``devices``, with ``workers``; nothing is traced yet.

        ``place`` moves the variables of a copy to where they are kept, if not on the devices.
        """
        strategy = Strategy.of(params, devices, workers)
        copies = network.copies(strategy.copy_devices, half=params.use_fp16 and params.fp16_vars)
        copies = [place(copy) for copy in copies] if place is not None else copies
        training = not (params.eval or params.forward_only)
        optimizers = []
        for copy in copies if training else []:
            with tf.device(copy.device):
                optimizers.append(Optimizer(params, copy.trainable, l2=network.regularised))
        with tf.device(copies[0].trainable[0].device):
            scale = LossScale.of(params, network.fp16_loss_scale)
        return cls(params, network, strategy, copies, optimizers, scale)

    def __post_init__(self) -> None:
        self._tower = self._loss_and_gradients
        if self.params.xla_compile:
            self._tower = tf.function(self._loss_and_gradients, jit_compile=True, autograph=False)

    def broadcast(self) -> None:
        """Give every copy the values of the first, optimizer's state included."""
        first = self.copies[0]
        for copy in self.copies[1:]:
            _assign(copy.trainable + copy.state, first.trainable + first.state)
        for optimizer in self.optimizers[1:]:
            _assign(list(optimizer.state().values()), list(self.optimizers[0].state().values()))

    def training_state(self) -> dict[str, Any]:
        """What training needs to continue: the first optimizer's state and the loss scale."""
        state = {}
        for optimizer in self.optimizers[:1]:
            state.update({f"optimizer/{name}": v for name, v in optimizer.state().items()})
        if self.loss_scale is not None and self.optimizers:
            state["loss_scale"] = self.loss_scale.value
            state["loss_scale_normal_steps"] = self.loss_scale.good_steps
        return state

    def train(self, batches: Sequence[Batch], learning_rate: Any) -> dict[str, Any]:
        """Train on one batch for each device; the mean loss, and accuracies if asked for."""
        return self.train_with_gradients(batches, learning_rate)[0]

    def train_with_gradients(
        self, batches: Sequence[Batch], learning_rate: Any
    ) -> tuple[dict[str, Any], list[Any]]:
        """The same, with the gradients that the first copy applied, for summaries."""
        scale = None if self.loss_scale is None else tf.identity(self.loss_scale.value)
        results, gradients = [], []
        for tower, (images, labels) in enumerate(batches):
            with tf.device(self.strategy.devices[tower]):
                result, slopes = self._run_tower(tower, images, labels, scale)
            results.append(result)
            gradients.append(slopes)
        for turn in self.strategy.turns(self.strategy.combine(gradients)):
            applied = self._apply(turn, learning_rate, scale)
        report = self._report(results, batches)
        workers = self.strategy.workers
        return (report if workers is None else workers.mean(report)), applied

    def infer(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """Accuracies of one batch for each device, with moving statistics.

        ``not_finite`` is the share of images with a logit that is not finite.
        """
        results = []
        for tower, (images, labels) in enumerate(batches):
            with tf.device(self.strategy.devices[tower]):
                logits = self._logits(tower, images)
                missing = tf.logical_not(finite_rows(logits))
                results.append({**_accuracies(labels, logits), "not_finite": _count(missing)})
        return self._report(results, batches)

    def score(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """The same image by image, in the order of ``batches``; each value is of all images.

        ``top_1`` and ``top_5`` say whether it is right, ``finite`` whether its logits are;
        ``label`` and ``answer``, the class of the largest logit, are int32.
        """
        results = []
        for tower, (images, labels) in enumerate(batches):
            with tf.device(self.strategy.devices[tower]):
                logits = self._logits(tower, images)
                results.append(
                    {
                        **_right(labels, logits),
                        "finite": finite_rows(logits),
                        "label": labels,
                        "answer": tf.argmax(logits, axis=1, output_type=tf.int32),
                    }
                )
        return {name: tf.concat([each[name] for each in results], 0) for name in results[0]}

    def _logits(self, tower: int, images: Any) -> Any:
        copy = self.copies[self.strategy.copy_of(tower)]
        return self.network.call(copy, images, training=False, tower=tower).logits

    def _run_tower(
        self, tower: int, images: Any, labels: Any, scale: Any
    ) -> tuple[dict[str, Any], list[Any]]:
        index = self.strategy.copy_of(tower)
        result, gradients, state = self._tower(tower, images, labels, scale)
        if index == tower:
            # A copy that several devices read learns the statistics of the first of them: they
            # are almost the same on all, and one update costs less.
            for kept, value in zip(self.copies[index].state, state, strict=True):
                kept.assign(value)
        return result, gradients

    def _loss_and_gradients(
        self, tower: int, images: Any, labels: Any, scale: Any
    ) -> tuple[dict[str, Any], list[Any], list[Any]]:
        copy = self.copies[self.strategy.copy_of(tower)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(copy.trainable)
            outputs = self.network.call(copy, images, training=True, tower=tower)
            base = self.network.loss(labels, outputs)
            total = base + self._l2_term(tower, copy)
            scaled = total if scale is None else total * scale
        gradients = tape.gradient(scaled, copy.trainable, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        reported = base if self.params.loss_type_to_report == "base_loss" else total
        result = {"loss": tf.cast(reported, tf.float32)}
        if self.params.print_training_accuracy:
            result.update(_accuracies(labels, outputs.logits))
        return result, gradients, outputs.state

    def _l2_term(self, tower: int, copy: Copy) -> Any:
        """The L2 term: on the last device alone, times the number of devices."""
        decay = self.params.weight_decay
        own_decay = self.optimizers[0].rule.decays_itself
        if not decay or own_decay or tower != len(self.strategy.devices) - 1:
            return 0.0
        l2 = self.network.l2(copy, at_once=self.params.single_l2_loss_op)
        return len(self.strategy.devices) * decay * l2

    def _apply(self, combined: list[list[Any]], learning_rate: Any, scale: Any) -> list[Any]:
        if scale is not None:
            combined = [[g * tf.cast(1 / scale, g.dtype) for g in grads] for grads in combined]
        clip = self.params.gradient_clip
        clipped = combined
        if clip is not None:
            clipped = [[tf.clip_by_value(g, -clip, clip) for g in grads] for grads in combined]

        def apply() -> Any:
            for copy, optimizer, grads in zip(self.copies, self.optimizers, clipped, strict=True):
                with tf.device(copy.device):
                    optimizer.apply(grads, learning_rate)
            return tf.constant(True)

        if self.loss_scale is None or self.loss_scale.every is None:
            apply()
        else:
            # Only the first copy is checked, so that copies with one sum decide alike.
            finite = all_finite(combined[0])
            tf.cond(finite, apply, lambda: tf.constant(False))
            self.loss_scale.update(finite)
        return clipped[0]

    def _report(self, results: list[dict[str, Any]], batches: Sequence[Batch]) -> dict[str, Any]:
        """Mean of the devices' losses, and accuracies over all their images."""
        images = sum(labels.shape[0] for _, labels in batches)
        report = {}
        for name in results[0]:
            total = tf.add_n([result[name] for result in results])
            report[name] = total / (len(results) if name == "loss" else images)
        return report


def _right(labels: Any, logits: Any) -> dict[str, Any]:
    return {"top_1": in_top_k(labels, logits, 1), "top_5": in_top_k(labels, logits, 5)}


def _accuracies(labels: Any, logits: Any) -> dict[str, Any]:
    return {f"{name}_accuracy": _count(right) for name, right in _right(labels, logits).items()}


def _count(values: Any) -> Any:
    return tf.reduce_sum(tf.cast(values, tf.float32))


def _assign(targets: Sequence[Any], values: Sequence[Any]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.assign(value)
