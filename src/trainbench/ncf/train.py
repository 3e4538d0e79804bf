"""The trainer: one compiled function runs several steps of one epoch's batches at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainbench.errors import MachineError, TrainbenchError
from trainbench.ncf.config import Lanes, NcfConfig
from trainbench.ncf.devices import connect_tpu, input_budget_bytes, local_replicas, no_gpu
from trainbench.ncf.input.producer import Producer
from trainbench.ncf.input.stream.pieces import EpochRecord
from trainbench.ncf.lanes.step import LaneStep, use_threads
from trainbench.ncf.model import Geometry, Weights, initial_weights
from trainbench.ncf.replicas import Replicas, ReplicatedStep
from trainbench.ncf.sharded.plan import with_room
from trainbench.ncf.sharded.step import ShardedStep, padded_shard
from trainbench.ncf.sharded.traffic import Traffic
from trainbench.ncf.step import FORMS, Step
from trainbench.ncf.weights import read_weights, save_weights
from trainbench.progress import duration, log_line, scaled
from trainbench.trials import signals

PROGRESS_INTERVAL_S = 1.0
TRACED = "trainbench_steps"

OnProgress = Callable[[int, int, float], None]


class Batches(Protocol):
    """One epoch's input: int32, int32 and uint8 arrays of shape [steps, batch]."""

    @property
    def epoch(self) -> int:
        """Its number, from 0."""

    @property
    def users(self) -> np.ndarray:
        """The user of each sample."""

    @property
    def items(self) -> np.ndarray:
        """The item of each sample."""

    @property
    def labels(self) -> np.ndarray:
        """1 for a rated item, 0 for a negative."""


@dataclass(frozen=True)
class EpochTrain:
    """What one epoch of training came to."""

    mean_loss: float
    samples: int
    seconds: float
    # Of divided tables: what this worker sent to others.
    traffic: Traffic | None = None

    @classmethod
    def joined(cls, parts: Sequence[EpochTrain]) -> EpochTrain:
        """What an epoch came to whose pieces came to ``parts``."""
        if len(parts) == 1:
            return parts[0]
        samples = sum(part.samples for part in parts)
        loss = sum(part.mean_loss * part.samples for part in parts) / samples
        sent = [part.traffic for part in parts if part.traffic]
        traffic = sum(sent[1:], sent[0]) if sent else None
        return cls(loss, samples, sum(part.seconds for part in parts), traffic)


@dataclass
class Trainer:
    """A model on a device with its optimizer state; made by ``build``."""

    config: NcfConfig
    geometry: Geometry
    device: str
    step: Step | ReplicatedStep | ShardedStep
    replicas: Replicas | None = None
    input_budget_bytes: int | None = None
    """How much of an epoch may lie on the device at a time; None: found from its memory."""

    @property
    def compiles_ahead(self) -> bool:
        """Whether ``warm_up`` can: the shapes of divided tables' messages come with the data."""
        return not isinstance(self.step, ShardedStep)

    def warm_up(self) -> None:
        """Compile the step on its real shapes, if it ``compiles_ahead``: no parameter changes."""
        if isinstance(self.step, LaneStep):
            with self._memory_told(), self.scope():
                self.step.warm_up(self.config.steps_per_call)
            return
        # Zero steps are run.
        shape = (self.config.steps_per_call, self.config.batch_size)
        zeros = np.zeros(shape, np.int32)
        float(self._call(zeros, zeros, zeros.astype(np.uint8), 0))

    def train_epoch(
        self,
        data: Batches,
        *,
        on_progress: OnProgress | None = None,
        profile: str | None = None,
    ) -> EpochTrain:
        """Run every batch of ``data`` once and return the mean loss over its samples.

        ``on_progress(done_samples, total_samples, loss)`` is called at most every few seconds. The
        steps of the second call (of the only one, where there is one) are traced into the folder
        ``profile``, for TensorBoard.

        Raises:
            TrainbenchError: the loss is not a number, with the epoch and the steps; or the device
                is out of memory.
        """
        steps, batch = len(data.users), self.config.batch_size
        self._check_shapes(data)
        divided = self.step if isinstance(self.step, ShardedStep) else None
        sent = divided.traffic if divided else None
        started = told = time.perf_counter()
        losses: list[float] = []
        calls = _ranges(steps, self.config.steps_per_call)
        traced = calls[:2][-1] if profile else None
        batches = self._handed(data)
        for first, last in calls:
            with self._memory_told():
                parts = batches.call(first, last)
            with traced_into(profile if (first, last) == traced else None, first):
                losses.append(float(self._call(*parts, last - first)))
            signals.raise_if_requested()
            if not np.isfinite(losses[-1]):
                raise TrainbenchError(
                    f"epoch {data.epoch}, steps {first} to {last - 1}: the loss is {losses[-1]}; "
                    f"try a learning rate below {self.config.learning_rate:g}"
                )
            now = time.perf_counter()
            if on_progress and (now - told >= PROGRESS_INTERVAL_S or last == steps):
                told = now
                on_progress(last * batch, steps * batch, losses[-1] / (last - first))
        seconds = time.perf_counter() - started
        traffic = divided.traffic - sent if divided and sent else None
        return EpochTrain(sum(losses) / steps, steps * batch, seconds, traffic)

    def weights(self) -> Weights:
        """The current parameters as float32 arrays, named as in ``weights.npz``.

        With divided tables all workers must call it, or ``lend``.
        """
        tensors = self.tensors()
        return {name: tensors[name].numpy() for name in self.geometry.shapes}

    def lend(self) -> None:
        """Give another worker, the chief, what its ``weights`` need of this one."""
        if isinstance(self.step, ShardedStep):
            with self.scope():
                self.step.lend()

    def tensors(self) -> dict[str, Any]:
        """The current parameters on the device: by their names in ``weights.npz``."""
        with self.scope():
            return self.step.tensors()

    def save(self, folder: Path) -> Path:
        """Write ``weights.npz`` and ``model.keras`` into ``folder``; the path of the former."""
        return save_weights(folder, self.geometry, self.weights())

    def load(self, path: Path) -> None:
        """Take the weights in ``path``, either file of ``save``, as the current parameters.

        Raises:
            DataIntegrityError: a parameter is missing or has another shape.
        """
        with self.scope():
            self.step.assign(read_weights(path, self.geometry))

    def scope(self) -> AbstractContextManager[Any]:
        """The device that this trainer's work belongs on."""
        return self.replicas.scope() if self.replicas else tf.device(self.device)

    def _handed(self, data: Batches) -> Handed:
        budget = self.input_budget_bytes
        if budget is None:
            # Replicas get each call from the host, which divides it among them.
            budget = 0 if self.replicas else input_budget_bytes(self.device)
        return Handed(data, self.config.steps_per_call, budget, self.scope)

    def _call(self, users: Any, items: Any, labels: Any, count: int) -> Any:
        with self._memory_told(), self.scope():
            users, items, labels = (self._padded(part) for part in (users, items, labels))
            return self.step.run(users, items, labels, tf.constant(count))

    @contextlib.contextmanager
    def _memory_told(self) -> Iterator[None]:
        batch = self.config.batch_size
        try:
            yield
        except (tf.errors.ResourceExhaustedError, MemoryError):
            raise MachineError(
                f"out of memory on {self.device} with batch_size={batch}; "
                f"try --set batch_size={max(1, batch // 2)}"
            ) from None

    def _padded(self, part: Any) -> Any:
        # One constant shape, so one compilation: the steps beyond ``count`` are never run.
        if tf.is_tensor(part):
            return part
        return tf.constant(with_room(part, self.config.steps_per_call))

    @property
    def _widths(self) -> tuple[int, ...]:
        """Samples of a batch that the arrays may have: all, or this worker's own."""
        batch = self.config.batch_size
        if isinstance(self.step, ShardedStep):
            return (batch, batch // self.step.wire.workers)
        return (batch,)

    def _check_shapes(self, data: Batches) -> None:
        shapes = {data.users.shape, data.items.shape, data.labels.shape}
        if len(shapes) != 1 or data.users.shape[1] not in self._widths:
            raise TrainbenchError(
                f"epoch {data.epoch}: users, items and labels have shapes {sorted(shapes)}; "
                f"wanted [steps, {self.config.batch_size}] for each"
            )


class Handed:
    """An epoch's batches for one call after the other, on the device as far as they fit.

    As a whole where ``budget`` bytes allow it, else in stretches of as many calls as fit; each
    stretch takes the place of the one before. Where not even one call fits, each comes as the
    host's arrays. The calls are cut from a stretch on the device.
    """

    def __init__(
        self,
        data: Batches,
        size: int,
        budget: int,
        scope: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._arrays, self._size, self._scope = (data.users, data.items, data.labels), size, scope
        steps = len(data.users)
        of_call = size * sum(array[0].nbytes for array in self._arrays) if steps else 0
        calls = min(budget // of_call, -(-steps // size)) if of_call else 0
        self._stretch, self._held, self._end = calls * size, (), 0
        self.uploads = 0

    def call(self, first: int, last: int) -> tuple[Any, Any, Any]:
        """users, items and labels of the steps ``first`` to ``last`` - 1; calls come in order."""
        if not self._stretch:
            users, items, labels = (array[first:last] for array in self._arrays)
            return users, items, labels
        with self._scope():
            if first >= self._end:
                self._held = ()  # First the room, then the next stretch.
                self._held = self._uploaded(first)
            place = tf.constant(first % self._stretch)
            users, items, labels = _cut(self._size)(*self._held, place)
        return users, items, labels

    def _uploaded(self, first: int) -> tuple[Any, ...]:
        self._end, self.uploads = first + self._stretch, self.uploads + 1
        parts = (array[first : self._end] for array in self._arrays)
        # TensorFlow keeps int32 on the host even where a GPU is named, and uint32 not.
        wide = (part if part.itemsize == 1 else part.view(np.uint32) for part in parts)
        return tuple(tf.constant(with_room(part, self._stretch)) for part in wide)


@cache
def _cut(size: int) -> Callable[..., Any]:
    def cut(users: Any, items: Any, labels: Any, first: Any) -> tuple[Any, Any, Any]:
        own = [tf.slice(a, [first, 0], [size, a.shape[1]]) for a in (users, items, labels)]
        return tf.bitcast(own[0], tf.int32), tf.bitcast(own[1], tf.int32), own[2]

    made: Callable[..., Any] = tf.function(cut, jit_compile=True, autograph=False)
    return made


def build(
    config: NcfConfig,
    num_users: int,
    num_items: int,
    *,
    seed: int,
    form: str = "fast",
    replicas: Replicas | None = None,
) -> Trainer:
    """A trainer with freshly initialised parameters; nothing is compiled yet.

    ``form`` is one of ``FORMS``; both give the same numbers. ``replicas`` are those of a cluster;
    without one they are this machine's where ``config.devices`` is ``all``.

    Raises:
        MachineError: ``config.devices`` asks for a GPU and TensorFlow sees none.
        ConfigError: the batch cannot be divided among the replicas.
    """
    assert form in FORMS, form
    if replicas is None:
        replicas = connect_tpu(config.tpu) if config.tpu else local_replicas(config)
    if isinstance(config.lanes, Lanes):
        use_threads(config.lanes)
    device = replicas.label if replicas else choose_device(config.devices)
    in_lanes = not replicas and "CPU" in device and form == "fast"
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    geometry = Geometry.of(config, num_users, num_items)
    if replicas and is_divided(config, replicas):
        return Trainer(
            config, geometry, device, _sharded(replicas, config, geometry, seed, form), replicas
        )
    weights = initial_weights(geometry, seed=seed)

    def step() -> Step:
        if in_lanes and isinstance(config.lanes, Lanes):
            return LaneStep(config, geometry, weights, lanes=config.lanes)
        return Step(config, geometry, weights, form=form)

    if replicas:
        replicated = ReplicatedStep(replicas, step, xla=config.xla)
        return Trainer(config, geometry, device, replicated, replicas)
    with tf.device(device):
        return Trainer(config, geometry, device, step())


def is_divided(config: NcfConfig, replicas: Replicas) -> bool:
    """Whether the tables are divided over ``replicas``; a TPU's cores run one program."""
    return config.tables == "sharded" and not replicas.scoped


def _sharded(
    replicas: Replicas, config: NcfConfig, geometry: Geometry, seed: int, form: str
) -> ShardedStep:
    count = replicas.count

    def shards(number: int) -> Weights:
        # Drawn anew for each replica of this process, so that no more than its rows are held.
        kept = initial_weights(geometry, seed=seed, rows=slice(number, None, count))
        return padded_shard(kept, geometry, count)

    return ShardedStep(replicas, config, geometry, shards, form=form)


def choose_device(devices: str) -> str:
    """The device for ``auto``, ``cpu`` or ``gpu``; a ``MachineError`` for a GPU not there."""
    gpus = tf.config.list_logical_devices("GPU") if devices != "cpu" else []
    if devices == "gpu" and not gpus:
        raise no_gpu()
    return "GPU:0" if gpus else "CPU:0"


def traced_into(folder: str | None, first_step: int) -> AbstractContextManager[Any]:
    """Trace the body for TensorBoard as ``TRACED`` into ``folder``; nothing without one."""
    if folder is None:
        return contextlib.nullcontext()
    traces = contextlib.ExitStack()
    traces.enter_context(tf.profiler.experimental.Profile(folder))
    traces.enter_context(tf.profiler.experimental.Trace(TRACED, step_num=first_step, _r=1))
    return traces


def _ranges(steps: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(first + size, steps)) for first in range(0, steps, size)]


def epoch_line(epoch: dict[str, Any], config: NcfConfig) -> str:
    """The line that people read after every epoch."""
    target = config.target_hit_rate
    wanted = "no target" if target is None else f"target {target}"
    found = "not evaluated"
    if epoch["hit_rate"] is not None:
        found = (
            f"hr@10 {epoch['hit_rate']:.4f} ({wanted})  ndcg@10 {epoch['ndcg']:.4f}  "
            f"eval {duration(epoch['eval_s'])}"
        )
    return (
        f"epoch {epoch['epoch'] + 1}/{config.max_epochs}  {found}  "
        f"loss {epoch['mean_loss']:.4f}  train {duration(epoch['train_s'])}  "
        f"{scaled(epoch['samples_per_s'], 'samples/s')}  "
        f"wait {duration(epoch['input_wait_s'])}  elapsed {duration(epoch['elapsed_s'])}"
    )


class StepProgress:
    """Stops a trial whose producer failed; says how far an epoch is, at most every ten seconds."""

    def __init__(
        self,
        epoch: int,
        producer: Producer,
        record: EpochRecord,
        tell: Callable[[int, int, float], None] = lambda done, total, rate_per_s: None,
    ) -> None:
        self._epoch, self._producer, self._started = epoch, producer, time.monotonic()
        self._said, self._repeated, self._tell = self._started, record.num_repeated, tell

    def of_piece(self, record: EpochRecord) -> OnProgress:
        """What is called with the progress in one piece of the epoch."""
        before = record.first_step * record.batch_size
        return lambda done, _, loss: self(before + done, record.num_samples, loss)

    def __call__(self, done: int, total: int, loss: float | None = None) -> None:
        """``done`` of ``total`` samples are trained on; the first are the repeated ones."""
        self._producer.check()
        now = time.monotonic()
        elapsed_s = max(now - self._started, 1e-9)
        rate = max(0, done - self._repeated) / elapsed_s
        self._tell(done, total, rate)
        if now - self._said < 10:
            return
        self._said = now
        tail = "" if loss is None else f"  loss {loss:.4f}"
        log_line(
            f"epoch {self._epoch + 1}: {100 * done / total:.0f} %  "
            f"{scaled(rate, 'samples/s')}  ETA {duration((total - done) / done * elapsed_s)}{tail}"
        )
