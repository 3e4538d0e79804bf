"""The speed of NCF's training and evaluation here, against a plain form of the same work.

Absolute figures move with the machine and with what else runs on it, so each row times the plain
form (dense Adam over whole tables; a full forward pass per candidate) in turn with ours, in the
same process, and the ratio is the figure that counts. The machine's own limits come first, and
beside each figure what they allow it to be. A row "worth" leaves one optimization out of the
form it compares with; a row "cost" adds something to ours.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, TextIO

import numpy as np
import psutil
import tensorflow as tf

from trainbench.bench.batches import random_candidates
from trainbench.errors import ConfigError
from trainbench.machine import allotment
from trainbench.machine.system import has_bfloat16
from trainbench.ncf import config as configs
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.evaluation.evaluator import Evaluator
from trainbench.ncf.input.batches import MemoryBatches, random_batches
from trainbench.ncf.model import first_layer, logits
from trainbench.ncf.roofline.limits import MachineLimits, machine_limits
from trainbench.ncf.roofline.work import Work, evaluation_work, work_of
from trainbench.ncf.train import Trainer, build

ML_1M, ML_20M = (6_040, 3_706), (138_493, 26_744)
# Past the first steps, whose bias correction costs a few more terms.
MID_EPOCH_STEP = 10_000
SAMPLES_PER_CALL = 65_536
EVALUATED_USERS = 2_048
HEADING = (
    f"{'row':30}{'plain/s':>12}{'ours/s':>12}{'goal/s':>12}{'ratio':>7}{'goal':>6}"
    f"{'kFLOP':>8}{'kB':>7}  {'bound':6} {'allows/s':>10}{'reached':>9}"
)


@dataclass(frozen=True)
class Case:
    """One row of the table: what is timed and the rate that is wanted of it."""

    name: str
    geometry: tuple[int, int]
    config: NcfConfig
    goal_per_s: float = 0.0
    goal_ratio: float = 1.0
    evaluation: bool = False
    against: str = "plain"
    """The form of ``ncf.step.FORMS`` that ours is compared with."""


@dataclass(frozen=True)
class Result:
    """Medians of one case, in samples or pairs per second."""

    case: Case
    plain_per_s: float
    per_s: float
    work: Work

    @property
    def ratio(self) -> float:
        """How many times faster than the plain form."""
        return self.per_s / self.plain_per_s

    def reached(self, limits: MachineLimits) -> float:
        """The share of the rate that the machine's limits allow."""
        return self.per_s / self.work.limit(limits, self.case.config.precision)[1]


def cases() -> list[Case]:
    """Every row, by the order of the table."""
    small, large = configs.reference(), configs.mlperf()
    small_bf16, large_bf16 = (replace(config, precision="bf16") for config in (small, large))
    lazy = replace(small, optimizer="lazy_adam")
    deterministic = replace(small, deterministic=True)
    return [
        Case("train ml-1m 2,048 fp32", ML_1M, small, 220e3, 1.4),
        Case("train ml-20m 2,048 fp32", ML_20M, small, 150e3, 5.0),
        Case("train ml-20m 2,048 lazy_adam", ML_20M, lazy, 150e3, 5.0),
        Case("train ml-20m 65,536 fp32", ML_20M, large, 300e3, 1.4),
        Case("train ml-20m 65,536 bf16", ML_20M, large_bf16, 615e3, 2.5),
        Case("eval ml-20m fp32", ML_20M, small, 1.8e6, 2.4, evaluation=True),
        Case("eval ml-20m bf16", ML_20M, small_bf16, 2.8e6, 3.7, evaluation=True),
        Case("worth 2,048 rows caught up", ML_20M, small, against="all swept"),
        Case("worth 65,536 projection", ML_20M, large, against="none projected"),
        # Last, because TensorFlow cannot take determinism back.
        Case("cost deterministic ml-1m", ML_1M, deterministic, against="fast"),
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
    limits = machine_limits(repeats=repeats)
    print(*machine_lines(limits), HEADING, sep="\n", file=stream, flush=True)
    results = []
    for case in chosen:
        results.append(timed(replace(case, config=replace(case.config, devices=devices)), repeats))
        if results[-1].reached(limits) > 1:
            limits = limits.or_better(machine_limits(repeats=repeats))
        print(result_line(results[-1], limits), file=stream, flush=True)
        for line in lines_above(results[-1], limits):
            print(line, file=stream, flush=True)
    print(closing_line(results), file=stream, flush=True)
    return results


def timed(case: Case, repeats: int) -> Result:
    """Medians of ``repeats`` measurements of both forms, taken in turn."""
    plain, ours, work = evaluation_pair(case) if case.evaluation else training_pair(case)
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for form, found in zip((plain, ours), rates, strict=True):
            started = time.perf_counter()
            amount = form()
            found.append(amount / (time.perf_counter() - started))
    del plain, ours, form
    gc.collect()  # compiled functions refer to their trainers in cycles: 0.4 GB each at ml-20m
    return Result(case, median(rates[0]), median(rates[1]), work)


Timed = Callable[[], int]
"""Does a fixed amount of work and returns how much it was, in samples or pairs."""


def training_pair(case: Case) -> tuple[Timed, Timed, Work]:
    """One call of some steps of the form compared with, and of the fast form; the latter's work."""
    steps = max(2, SAMPLES_PER_CALL // case.config.batch_size)
    config = replace(case.config, steps_per_call=steps)
    data = random_batches(case.geometry, steps=steps, batch=config.batch_size)
    other = replace(config, precision="fp32", optimizer="adam", deterministic=False)
    compared = _training(_ready(other, case, data, case.against), data)
    ours = _ready(config, case, data, "fast")
    return compared, _training(ours, data), work_of(ours, data)


def _ready(config: NcfConfig, case: Case, data: MemoryBatches, form: str) -> Trainer:
    trainer = build(config, *case.geometry, seed=1, form=form)
    trainer.step.count_from(MID_EPOCH_STEP)
    trainer.warm_up()
    trainer.train_epoch(data)
    return trainer


def _training(trainer: Trainer, data: MemoryBatches) -> Timed:
    return lambda: trainer.train_epoch(data).samples


def evaluation_pair(case: Case) -> tuple[Timed, Timed, Work]:
    """The forward pass of every candidate of some users, ``Evaluator`` on the same; its work."""
    trainer = build(case.config, *case.geometry, seed=1, form="plain")
    candidates = random_candidates(
        case.geometry[1], users=EVALUATED_USERS, negatives=case.config.eval_negatives
    )
    evaluator = Evaluator(trainer, candidates)
    plain = plain_evaluation(trainer, candidates.items)
    plain(), evaluator.evaluate()
    work = evaluation_work(trainer.geometry, candidates=candidates.items.shape[1])
    return plain, lambda: evaluator.evaluate().pairs, work


def plain_evaluation(trainer: Trainer, items: np.ndarray) -> Timed:
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


def machine_lines(limits: MachineLimits) -> list[str]:
    """What the machine does at best, in words."""
    lines = [
        f"CPUs {allotment.cpus()}, load {psutil.getloadavg()[0]:.1f}: figures are rough while "
        "other work runs",
        f"matrix rate fp32 {limits.fp32_gflop_per_s:.0f} GFLOP/s, "
        f"bf16 {limits.bf16_gflop_per_s:.0f} GFLOP/s; memory {limits.gbyte_per_s:.1f} GB/s",
    ]
    if not (tf.config.list_physical_devices("GPU") or has_bfloat16()):
        lines.append("bf16: not supported in hardware by this CPU; its rows are emulated")
    return lines


def result_line(result: Result, limits: MachineLimits) -> str:
    """One row of the table."""
    case, work = result.case, result.work
    bound, limit = work.limit(limits, case.config.precision)
    goal = f"{case.goal_per_s:12,.0f}" if case.goal_per_s else f"{'':12}"
    return (
        f"{case.name:30}{result.plain_per_s:12,.0f}{result.per_s:12,.0f}{goal}"
        f"{result.ratio:7.2f}{case.goal_ratio:6.1f}{work.flops / 1e3:8.0f}{work.bytes / 1e3:7.1f}"
        f"  {bound} {limit:10,.0f}{100 * result.reached(limits):7.0f} %"
    )


def lines_above(result: Result, limits: MachineLimits) -> list[str]:
    """Why a row reaches more than the machine's limits allow, where it does."""
    if result.reached(limits) <= 1:
        return []
    bound, _ = result.work.limit(limits, result.case.config.precision)
    emulated = result.case.config.precision == "bf16" and not has_bfloat16()
    if bound == "matrix" and emulated:
        why = "the emulated bf16 product of the row is faster than the one that is measured"
    else:
        why = "the machine was slower when its limits were measured, twice, than in the row"
    return [f"  above 100 %: {why}"]


def closing_line(results: Sequence[Result]) -> str:
    """The count of goals met, and the memory of the whole benchmark."""
    wanted = [result for result in results if result.case.goal_per_s]
    met = sum(result.ratio >= result.case.goal_ratio for result in wanted)
    resident = psutil.Process().memory_info().rss / 2**30
    return f"{met} of {len(wanted)} ratios at their goal; {resident:.1f} GiB resident at the end"
