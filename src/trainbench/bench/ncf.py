"""How fast NCF trains and is evaluated here, beside the plain form of the same work.

Absolute figures move with the machine and with what else runs on it, so each row times the plain
form (dense Adam over whole tables; a full forward pass per candidate) in turn with ours, in the
same process, and the ratio is the figure that counts. The machine's own limits come first.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, TextIO

import numpy as np
import psutil
import tensorflow as tf

from trainbench import config as configs
from trainbench.config import NcfConfig
from trainbench.errors import ConfigError
from trainbench.ncf.evaluate import Evaluator
from trainbench.ncf.model import first_layer, logits
from trainbench.ncf.train import Trainer, build

ML_1M, ML_20M = (6_040, 3_706), (138_493, 26_744)
# Past the first steps, whose bias correction costs a few more terms.
MID_EPOCH_STEP = 10_000
SAMPLES_PER_CALL = 65_536
EVALUATED_USERS = 2_048
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Case:
    """One row of the table: what is timed and the rate that is wanted of it."""

    name: str
    geometry: tuple[int, int]
    config: NcfConfig
    goal_per_s: float
    goal_ratio: float
    evaluation: bool = False


@dataclass(frozen=True)
class Result:
    """Medians of one case, in samples or pairs per second."""

    case: Case
    plain_per_s: float
    per_s: float

    @property
    def ratio(self) -> float:
        """How many times faster than the plain form."""
        return self.per_s / self.plain_per_s


@dataclass(frozen=True)
class MachineLimits:
    """What the machine does at best, as measured here."""

    fp32_gflop_per_s: float
    bf16_gflop_per_s: float
    gbyte_per_s: float


def cases() -> list[Case]:
    """Every row, by the order of the table."""
    small, large = configs.reference(), configs.mlperf()
    small_bf16, large_bf16 = (replace(config, precision="bf16") for config in (small, large))
    return [
        Case("train ml-1m 2,048 fp32", ML_1M, small, 220e3, 1.4),
        Case("train ml-20m 2,048 fp32", ML_20M, small, 150e3, 5.0),
        Case(
            "train ml-20m 2,048 lazy_adam", ML_20M, replace(small, optimizer="lazy_adam"), 150e3, 5
        ),
        Case("train ml-20m 65,536 fp32", ML_20M, large, 300e3, 1.4),
        Case("train ml-20m 65,536 bf16", ML_20M, large_bf16, 615e3, 2.5),
        Case("eval ml-20m fp32", ML_20M, small, 1.8e6, 2.4, evaluation=True),
        Case("eval ml-20m bf16", ML_20M, small_bf16, 2.8e6, 3.7, evaluation=True),
    ]


def run(
    *, repeats: int = 5, only: str = "", devices: str = "auto", out: TextIO | None = None
) -> list[Result]:
    """Time every case whose name contains ``only`` and print the table to ``out`` (stdout).

    Raises:
        ConfigError: no case's name contains ``only``.
        MachineError: ``devices`` asks for a GPU that is not there.
    """
    chosen = [case for case in cases() if only in case.name]
    if not chosen:
        names = ", ".join(case.name for case in cases())
        raise ConfigError(f"no benchmark row contains {only!r} (rows: {names})")
    stream = out or sys.stdout
    tell(stream, machine_lines(machine_limits(repeats=repeats)))
    tell(stream, [f"{'row':30}{'plain/s':>12}{'ours/s':>12}{'goal/s':>12}{'ratio':>8}{'goal':>7}"])
    results = []
    for case in chosen:
        results.append(timed(replace(case, config=replace(case.config, devices=devices)), repeats))
        tell(stream, [result_line(results[-1])])
    tell(stream, closing_lines(results))
    return results


def timed(case: Case, repeats: int) -> Result:
    """Medians of ``repeats`` measurements of both forms, taken in turn."""
    plain, ours = evaluation_pair(case) if case.evaluation else training_pair(case)
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for form, found in zip((plain, ours), rates, strict=True):
            started = time.perf_counter()
            amount = form()
            found.append(amount / (time.perf_counter() - started))
    del plain, ours, form
    gc.collect()  # compiled functions refer to their trainers in cycles: 0.4 GB each at ml-20m
    return Result(case, median(rates[0]), median(rates[1]))


Work = Callable[[], int]
"""Does a fixed amount of work and returns how much it was, in samples or pairs."""


def training_pair(case: Case) -> tuple[Work, Work]:
    """One call of some steps of the plain form, and of the fast form."""
    steps = max(2, SAMPLES_PER_CALL // case.config.batch_size)
    config = replace(case.config, steps_per_call=steps)
    data = random_batches(case.geometry, steps=steps, batch=config.batch_size)
    as_plain = replace(config, precision="fp32", optimizer="adam")
    return _training(as_plain, case, data, "plain"), _training(config, case, data, "fast")


def _training(config: NcfConfig, case: Case, data: RandomBatches, form: str) -> Work:
    trainer = build(config, *case.geometry, seed=1, form=form)
    trainer.step.count_from(MID_EPOCH_STEP)
    trainer.warm_up()
    trainer.train_epoch(data)
    return lambda: trainer.train_epoch(data).samples


@dataclass(frozen=True)
class RandomBatches:
    """Batches with MovieLens' skew: a few active users, popular positives, uniform negatives."""

    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    epoch: int = 0


def random_batches(geometry: tuple[int, int], *, steps: int, batch: int) -> RandomBatches:
    """``steps`` batches of one positive to four negatives, the same at every call."""
    rng = np.random.default_rng(0)
    users, items = geometry
    activity = rng.gamma(0.7, size=users)
    popularity = 1 / np.arange(10, items + 10)
    shape = (steps, batch)
    positive = rng.random(shape) < 0.2
    liked = rng.choice(items, shape, p=popularity / popularity.sum())
    return RandomBatches(
        users=rng.choice(users, shape, p=activity / activity.sum()).astype(np.int32),
        items=np.where(positive, liked, rng.integers(0, items, shape)).astype(np.int32),
        labels=positive.astype(np.uint8),
    )


@dataclass(frozen=True)
class RandomCandidates:
    """Uniform candidates for the first users."""

    items: np.ndarray


def evaluation_pair(case: Case) -> tuple[Work, Work]:
    """The forward pass of every candidate of some users, and ``Evaluator`` on the same."""
    trainer = build(case.config, *case.geometry, seed=1, form="plain")
    rng = np.random.default_rng(0)
    shape = (EVALUATED_USERS, case.config.eval_negatives + 1)
    candidates = RandomCandidates(rng.integers(0, case.geometry[1], shape).astype(np.int32))
    evaluator = Evaluator(trainer, candidates)
    plain = plain_evaluation(trainer, candidates.items)
    plain(), evaluator.evaluate()
    return plain, lambda: evaluator.evaluate().pairs


def plain_evaluation(trainer: Trainer, items: np.ndarray) -> Work:
    """Scores of all pairs in float32, each by a forward pass of its own, a few users at a time."""
    dense_names = trainer.geometry.dense_shapes

    def scores(tensors: dict[str, Any], users: Any, ids: Any) -> Any:
        rows = {
            side: (tf.gather(tensors[f"{side}_mf"], i), tf.gather(tensors[f"{side}_mlp"], i))
            for side, i in (("user", users), ("item", ids))
        }
        kernel = tensors["mlp_1_kernel"]
        first = sum(first_layer(kernel, mlp, side) for side, (_, mlp) in rows.items())
        dense = {name: tensors[name] for name in dense_names}
        return tf.reduce_sum(logits(dense, (rows["user"][0], rows["item"][0]), first))

    compiled = tf.function(scores, jit_compile=trainer.config.xla, autograph=False)

    def work() -> int:
        with trainer.scope():
            tensors = trainer.tensors()
            for start in range(0, len(items), 32):
                part = items[start : start + 32]
                users = np.repeat(np.arange(start, start + len(part)), part.shape[1])
                float(compiled(tensors, tf.constant(users), tf.constant(part.ravel())))
        return items.size

    return work


def machine_limits(*, repeats: int) -> MachineLimits:
    """Matrix rates of 20,480 x 256 x 256 and the bandwidth of a sum of two 128 MB vectors."""

    def best(function: Callable[..., Any], *inputs: Any) -> float:
        compiled = tf.function(function, autograph=False)
        compiled(*inputs)
        seconds = []
        for _ in range(2 * repeats):
            started = time.perf_counter()
            compiled(*inputs)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    rows, size, length = 20_480, 256, 32_000_000
    rates = []
    for dtype in (tf.float32, tf.bfloat16):
        left = tf.cast(tf.random.stateless_normal([rows, size], [1, 2]), dtype)
        seconds = best(tf.matmul, left, left[:size])
        rates.append(2 * rows * size * size / seconds / 1e9)
    vector = tf.Variable(tf.zeros([length]))
    other = tf.ones([length])
    seconds = best(lambda: vector.assign_add(other, read_value=False) and None)
    return MachineLimits(rates[0], rates[1], 3 * 4 * length / seconds / 1e9)


def machine_lines(limits: MachineLimits) -> list[str]:
    """What the machine does at best, in words."""
    lines = [
        f"cores {psutil.cpu_count()}, load {psutil.getloadavg()[0]:.1f}: figures are rough while "
        "other work runs",
        f"matrix rate fp32 {limits.fp32_gflop_per_s:.0f} GFLOP/s, "
        f"bf16 {limits.bf16_gflop_per_s:.0f} GFLOP/s; memory {limits.gbyte_per_s:.1f} GB/s",
    ]
    if not bf16_in_hardware():
        lines.append("bf16: not supported by this CPU in hardware; its rows are emulated")
    return lines


def bf16_in_hardware() -> bool:
    """Whether the CPU multiplies bfloat16 itself, or a GPU is there."""
    if tf.config.list_physical_devices("GPU"):
        return True
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return bool(BF16_FLAGS & set(text.split()))


def result_line(result: Result) -> str:
    """One row of the table."""
    case = result.case
    return (
        f"{case.name:30}{result.plain_per_s:12,.0f}{result.per_s:12,.0f}"
        f"{case.goal_per_s:12,.0f}{result.ratio:8.2f}{case.goal_ratio:7.1f}"
    )


def closing_lines(results: Sequence[Result]) -> list[str]:
    """The count of goals met, and the memory of the whole benchmark."""
    met = sum(result.ratio >= result.case.goal_ratio for result in results)
    resident = psutil.Process().memory_info().rss / 2**30
    return [f"{met} of {len(results)} ratios at their goal; {resident:.1f} GiB resident at the end"]


def tell(stream: TextIO, lines: Sequence[str]) -> None:
    """Print ``lines`` at once, so that a long benchmark shows each row when it has it."""
    stream.write("".join(f"{line}\n" for line in lines))
    stream.flush()
