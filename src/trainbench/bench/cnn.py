"""The speed of the image classifiers here, against stock Keras doing the same work.

Absolute figures move with the machine and with what else runs on it, so each row times a step of
``keras.applications`` in turn with one of ours, in the same process, and the ratio is the figure
that counts. Images per core second stay meaningful on a busy machine. The last column compares the
operations per second with those of TensorFlow's product of large matrices just before and after. It
is a yardstick and no upper bound; a figure above 100 % has its reason below it. Run it under
``taskset -c 0`` for the figures of one core.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TextIO

import keras
import numpy as np
import tensorflow as tf

from trainbench.bench.trained import trained_normalization
from trainbench.cnn.benchmark import BenchmarkCNN
from trainbench.cnn.flags.params import make_params
from trainbench.cnn.measure import results
from trainbench.cnn.measure.peak import compute_dtype, measured_peak_flops, reason_above
from trainbench.errors import ConfigError
from trainbench.machine import allotment
from trainbench.machine.system import bfloat16_obstacle
from trainbench.progress import heartbeat

STEPS, OVERHEAD_STEPS, REPEATS = 9, 400, 5
PEAK_SIZE = 2048

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        plain: what it is compared with: ``stock`` Keras, our own ``float32``, or nothing.
        goal_ratio: times the plain form's speed.
        goal_per_core: images per core second.
    """

    name: str
    flags: dict[str, Any]
    plain: str | None = None
    goal_ratio: float | None = None
    goal_per_core: float | None = None


@dataclass(frozen=True)
class Result:
    """Medians of one row, in images per second and images per core second.

    Attributes:
        percent_of_peak: of the rate of a matrix product on all cores, at direct convolutions'
            number of operations.
    """

    case: Case
    per_s: float
    per_core_s: float
    plain_per_s: float | None
    plain_per_core_s: float | None
    percent_of_peak: float | None

    @property
    def ratio(self) -> float | None:
        """Times the plain form's speed, by core time."""
        return self.plain_per_core_s and self.per_core_s / self.plain_per_core_s

    def row(self) -> str:
        """One line of the table."""
        plain = "" if self.plain_per_core_s is None else f"{self.plain_per_core_s:.2f}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}x"
        peak = "" if self.percent_of_peak is None else f"{self.percent_of_peak:.0f} %"
        goals = [
            f"{self.case.goal_ratio:.2f}x" if self.case.goal_ratio else "",
            f"> {self.case.goal_per_core:g}" if self.case.goal_per_core else "",
        ]
        return (
            f"{self.case.name:<38}{self.per_s:>9.2f}{self.per_core_s:>11.2f}{plain:>9}"
            f"{ratio:>8}{peak:>8}  {' '.join(goal for goal in goals if goal)}"
        )


HEADER = f"{'row':<38}{'images/s':>9}{'img/core s':>11}{'plain':>9}{'ratio':>8}{'of peak':>8}  goal"


def cases() -> list[Case]:
    """Every row, in the order of the table; bfloat16 only where the CPU has it."""
    resnet50 = {"model": "resnet50", "batch_size": 8, "optimizer": "momentum"}
    cifar = {"model": "resnet20", "data_name": "cifar10", "batch_size": 64}
    rows = [
        Case("resnet50, batch 8, training", resnet50, "stock", 1.25, 4.0),
        Case(
            "resnet50, batch 8, forward only",
            {**resnet50, "forward_only": True},
            "stock",
            1.25,
            13.5,
        ),
        Case(
            "resnet20 CIFAR, batch 64, training",
            {**cifar, "optimizer": "momentum"},
            None,
            None,
            381,
        ),
    ]
    if bfloat16_obstacle() is None:
        half = {**resnet50, "use_bf16": True}
        rows.append(Case("resnet50, batch 8, training, bfloat16", half, "float32", 1.6))
    return rows


def run(
    names: Sequence[str] = (), *, steps: int = STEPS, stream: TextIO | None = None
) -> list[Result]:
    """Measure the rows whose name contains one of ``names`` (all without any) and print a table.

    Raises:
        ConfigError: no row has such a name.
    """
    out, obstacle = stream or sys.stdout, bfloat16_obstacle()
    chosen = [case for case in cases() if not names or any(name in case.name for name in names)]
    overhead = not names or any(name in "harness overhead" for name in names)
    if not chosen and not overhead:
        left = f" (none in bfloat16, as {obstacle})" if obstacle else ""
        raise ConfigError(f"no row is called {', '.join(names)}{left}; see trainbench bench cnn")
    results = []
    print(HEADER, file=out, flush=True)
    for case in chosen:
        with heartbeat(f"measuring {case.name}"):
            results.append(measure(case, steps))
        print(results[-1].row(), file=out, flush=True)
        above = reason_above(results[-1].percent_of_peak, os.getloadavg()[0], allotment.cpus())
        if above:
            print(f"  {above}", file=out, flush=True)
    if obstacle and not names:
        print(f"bfloat16: not measured: {obstacle}", file=out)
    if overhead:
        value = overhead_us()
        print(f"harness overhead, trivial, batch 1: {value:.0f} us a step (goal < 300)", file=out)
    return results


def measure(case: Case, steps: int) -> Result:
    """The speed of one row: ours and the plain form in turn, medians of ``steps`` steps each."""
    batch = case.flags["batch_size"]
    step, flops = counted_step(case.flags)
    ours = Timer(step)
    timers = [ours]
    if case.plain == "stock":
        timers.append(Timer(stock_step(batch, training=not case.flags.get("forward_only"))))
    elif case.plain == "float32":
        flags = {name: value for name, value in case.flags.items() if name != "use_bf16"}
        timers.append(Timer(counted_step(flags)[0]))
    for timer in timers:
        timer.warm_up()
    dtype = compute_dtype(make_params(device="cpu", **case.flags))
    peaks = [measured_peak_flops(PEAK_SIZE, dtype=dtype)]
    for _ in range(steps):
        for timer in timers:
            timer.once()
    peaks.append(measured_peak_flops(PEAK_SIZE, dtype=dtype))
    plain = timers[1] if len(timers) > 1 else None
    return Result(
        case,
        batch / ours.wall_s,
        batch / ours.core_s,
        batch / plain.wall_s if plain else None,
        batch / plain.core_s if plain else None,
        100 * flops * batch / ours.wall_s / max(peaks) if flops else None,
    )


@dataclass
class Timer:
    """Wall and core seconds of repeated calls of one step."""

    step: Step
    walls_s: list[float] = field(default_factory=list)
    cores_s: list[float] = field(default_factory=list)

    def warm_up(self) -> None:
        """Compile, and let the runtime settle."""
        self.step()
        self.step()

    def once(self) -> None:
        """Time one call."""
        wall, core = time.perf_counter(), time.process_time()
        self.step()
        self.walls_s.append(time.perf_counter() - wall)
        self.cores_s.append(time.process_time() - core)

    @property
    def wall_s(self) -> float:
        """Median seconds of a call."""
        return median(self.walls_s)

    @property
    def core_s(self) -> float:
        """Median core seconds of a call, over all threads."""
        return median(self.cores_s)


def counted_step(flags: dict[str, Any]) -> tuple[Step, int | None]:
    """One step of the harness, waiting for its numbers, and its operations for each image."""
    benchmark = BenchmarkCNN(make_params(device="cpu", weight_decay=0, **flags))
    session = benchmark.build()
    as_if_trained(session.network.named(session.step.copies[0]))
    executor, source = session.executor, session.batches("train")
    forward = results.flops_per_image(executor.infer, source.next())
    if flags.get("forward_only"):
        infer = executor.frozen(source.next())[0].infer
        return lambda: float(infer(source.next())["top_1_accuracy"]), forward
    rate = tf.constant(0.001)
    return lambda: float(executor.train(source.next(), rate)["loss"]), forward and 3 * forward


def as_if_trained(variables: Mapping[str, Any]) -> None:
    """Give normalizations and biases, by their paths, values such as training leaves."""
    for path, variable in variables.items():
        values = trained_normalization(path.rpartition("/")[2], variable.shape)
        if values is not None:
            variable.assign(values)


def stock_step(batch: int, *, training: bool) -> Step:
    """One compiled step of ``keras.applications.ResNet50`` as its users write it."""
    model = stock_model()
    optimizer = keras.optimizers.SGD(0.001, momentum=0.9, nesterov=True)
    images = tf.random.stateless_normal((batch, 224, 224, 3), (1, 2))
    labels = tf.constant(np.arange(batch) % 1000)
    entropy = keras.losses.SparseCategoricalCrossentropy()

    def train() -> Any:
        with tf.GradientTape() as tape:
            loss = entropy(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    def forward() -> Any:
        return tf.reduce_sum(model(images, training=False))

    step = tf.function(train if training else forward)
    return lambda: float(step())


def stock_model() -> keras.Model:
    """``keras.applications.ResNet50`` with offsets and statistics as if trained."""
    model = keras.applications.ResNet50(weights=None, classes=1000)
    as_if_trained({variable.path: variable for variable in model.variables})
    return model


def overhead_us(steps: int = OVERHEAD_STEPS) -> float:
    """Microseconds a step of a whole run takes beyond the compiled step alone.

    Both are measured in turn, and the fastest of each counts: what disturbs only ever adds.
    """
    params = make_params(
        model="trivial",
        data_name="cifar10",
        batch_size=1,
        device="cpu",
        num_batches=steps,
        display_every=10,
    )
    whole: list[float] = []
    alone: list[float] = []
    for _ in range(REPEATS):
        benchmark = BenchmarkCNN(params)
        with contextlib.redirect_stdout(io.StringIO()):
            stats = benchmark.run()
        whole.append(stats["average_wall_time"])
        source = benchmark.session.batches("train")
        batches, rate = source.next(), tf.constant(0.005)
        train = benchmark.session.executor.train
        timer = Timer(lambda: float(train(batches, rate)["loss"]))  # noqa: B023 - called at once
        for _ in range(steps):
            timer.once()
        alone.append(sum(timer.walls_s) / steps)
    return (min(whole) - min(alone)) * 1e6
