"""The cost of combining gradients: the reduction of a run alone, with its model's shapes.

The reduction is the one that training uses, local or between processes, whatever the flags name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainbench.cnn import console
from trainbench.cnn.benchmark import BenchmarkCNN
from trainbench.cnn.flags.params import ParamError, Params
from trainbench.cnn.models.spec import build_shape_only
from trainbench.cnn.train.strategies import Gradients, Strategy
from trainbench.progress import heartbeat

_SECONDS = "{:.6f}"


@dataclass(frozen=True)
class Timing:
    """Steps of ``reductions`` reductions each.

    Attributes:
        times_s: seconds of each timed step.
        num_bytes: of the gradients of one device.
        devices: whose gradients are combined, of all processes.
    """

    times_s: list[float]
    reductions: int
    num_bytes: int
    devices: int

    @property
    def average_s(self) -> float:
        """Seconds of a step."""
        return sum(self.times_s) / len(self.times_s)

    def lines(self) -> list[str]:
        """The result as it is printed; the last line is that of tf_cnn_benchmarks."""
        each = self.average_s / self.reductions
        return [
            f"Average time per reduction: {_SECONDS.format(each)} s, "
            f"{self.num_bytes / each / 1e9:.3f} GB/s of one device's gradients",
            f"Average time per step: {_SECONDS.format(self.average_s)}",
        ]


def run(params: Params) -> Timing | None:
    """Time the reduction that ``params`` name and print it; ``None`` from a serving process.

    Raises:
        ParamError: an update that combines nothing.
    """
    check(params)
    benchmark = BenchmarkCNN(params)
    benchmark.print_info()
    return timed(benchmark)


def timed(benchmark: BenchmarkCNN) -> Timing | None:
    """The same for the model and the processes of ``benchmark``."""
    found: list[Timing] = []
    benchmark.start()
    with as_written():
        benchmark.together(lambda: found.append(_timed(benchmark)))
    return found[0] if found else None


def check(params: Params) -> None:
    """Refuse what combines nothing.

    Raises:
        ParamError: ``independent``, or ``parameter_server`` with several processes.
    """
    if params.variable_update == "independent":
        raise ParamError("variable_update=independent combines no gradients; name another")
    if params.variable_update == "parameter_server" and params.job_name:
        raise ParamError(
            "variable_update=parameter_server combines no gradients of several processes: each "
            "worker applies its own; name another, or leave out --job_name"
        )


def shapes_of(benchmark: BenchmarkCNN) -> list[tuple[int, ...]]:
    """Shapes of the trainable variables of the benchmark's model."""
    model = build_shape_only(benchmark.model, benchmark.dataset.num_classes)
    return [tuple(variable.shape) for variable in model.trainable_variables]


def reduction(strategy: Strategy, *, count: int) -> Any:
    """A compiled function of the gradients of each device: ``count`` reductions, in a row.

    Every one takes the same gradients: of what the one before it gave, copies of one tensor, the
    rewriter of graphs would make a product. It must be off (``as_written``), or it would leave out
    all but the last.
    """

    def reduce(towers: Sequence[Gradients]) -> Any:
        done: list[Any] = []
        for _ in range(count):
            with tf.control_dependencies(done):
                copies = strategy.turns(strategy.combine(towers))[-1]
                done = [tensor for copy in copies for tensor in copy]
        # One number that depends on every tensor, so that none of them is left out.
        return tf.add_n([tf.reshape(tensor, [-1])[0] for tensor in done])

    workers = strategy.workers
    work = reduce if workers is None else workers.replica(reduce)
    return tf.function(work, autograph=False)


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Graphs run as they are written, without what TensorFlow would leave out of them."""
    before = tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})


def gradients(devices: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> list[Gradients]:
    """Random gradients in float32 of ``shapes``, on each of ``devices``."""
    towers = []
    for device in devices:
        with tf.device(device):
            towers.append([tf.random.uniform(shape) for shape in shapes])
    return towers


def _timed(benchmark: BenchmarkCNN) -> Timing:
    params, shapes = benchmark.params, shapes_of(benchmark)
    workers = benchmark.membership.workers if benchmark.membership else None
    strategy = Strategy.of(params, benchmark.devices, workers)
    step = reduction(strategy, count=params.iters_per_step)
    towers = gradients(benchmark.devices, shapes)
    elements = sum(tf.TensorShape(shape).num_elements() for shape in shapes)
    console.print_result(f"Reducing {len(shapes)} tensors of {elements} elements on each device")
    with heartbeat("compiling"):
        step(towers).numpy()
    for _ in range(benchmark.plan.warmup):
        step(towers).numpy()
    times_s = [seconds(step, towers) for _ in range(benchmark.plan.length.num_batches)]
    everywhere = len(benchmark.devices) * (workers.count if workers else 1)
    timing = Timing(times_s, params.iters_per_step, 4 * elements, everywhere)
    if benchmark.plan.is_chief:
        for line in timing.lines():
            console.print_result(line)
    return timing


def seconds(step: Any, towers: Sequence[Gradients]) -> float:
    """How long one step takes."""
    started = time.perf_counter()
    step(towers).numpy()
    return time.perf_counter() - started
