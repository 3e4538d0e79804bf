"""Claims about NCF's benchmark: what a figure is measured against, and that its rows can be run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainbench.bench import ncf
from trainbench.bench.ncf import (
    HEADING,
    Case,
    Result,
    cases,
    result_line,
    timed,
    work_of,
)
from trainbench.ncf import config as configs
from trainbench.ncf.input.batches import random_batches
from trainbench.ncf.model import Geometry
from trainbench.ncf.roofline.limits import MachineLimits
from trainbench.ncf.roofline.work import Work, evaluation_work, training_work
from trainbench.ncf.step import FORMS
from trainbench.ncf.train import build

ML_20M = Geometry(138_493, 26_744, 64, (256, 256, 128, 64))
LIMITS = MachineLimits(fp32_gflop_per_s=200, bf16_gflop_per_s=800, gbyte_per_s=30)
TINY = replace(
    configs.reference(),
    mf_dim=4,
    mlp_layer_sizes=(8, 8, 4),
    batch_size=16,
    eval_negatives=12,
    eval_users_per_batch=64,
    xla=False,
)


def test_a_sample_costs_the_arithmetic_of_its_dense_layers_three_times() -> None:
    rows = {"user": 138_493.0, "item": 26_744.0}
    work = training_work(ML_20M, batch=2_048, projected=set(), rows=rows)
    assert work.flops == 3 * 2 * (256 * 256 + 256 * 128 + 128 * 64)
    # 31.8 million parameters with two moments, read and written.
    assert work.bytes == pytest.approx(24 * 31_832_577 / 2_048, rel=1e-4)


def test_projection_and_touched_rows_lower_what_a_sample_needs() -> None:
    rows = {"user": 40_000.0, "item": 26_744.0}
    work = training_work(ML_20M, batch=65_536, projected={"item"}, rows=rows)
    saved = 3 * 2 * 128 * 256 * (1 - 26_744 / 65_536)
    assert work.flops == pytest.approx(638_976 - saved)
    assert work.bytes == pytest.approx(24 * (192 * 66_744 + 106_944) / 65_536)


def test_a_pair_costs_the_layers_after_the_first_and_little_more() -> None:
    work = evaluation_work(ML_20M, candidates=1_000)
    assert 2 * (256 * 128 + 128 * 64) < work.flops < 1.01 * 2 * (256 * 128 + 128 * 64)


def test_the_tighter_of_arithmetic_and_memory_bounds_the_rate() -> None:
    assert Work(flops=1e6, bytes=1e3).limit(LIMITS, "fp32") == ("matrix", 200e3)
    assert Work(flops=1e6, bytes=1e6).limit(LIMITS, "fp32") == ("memory", 30e3)
    assert Work(flops=1e6, bytes=1e3).limit(LIMITS, "bf16") == ("matrix", 800e3)


def test_a_line_says_which_bound_applies_and_how_much_of_it_is_reached() -> None:
    case = Case("train x", (10, 10), TINY, goal_per_s=1e6, goal_ratio=1.4)
    line = result_line(Result(case, 50e3, 100e3, Work(1e6, 1e3)), LIMITS)
    figures = ["50,000", "100,000", "1,000,000", "2.00", "1.4", "1000", "1.0"]
    assert line.split() == ["train", "x", *figures, "matrix", "200,000", "50", "%"]
    assert HEADING.split()[-2:] == ["allows/s", "reached"]
    assert len(line) == len(HEADING)


def test_a_row_above_its_limit_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncf, "has_bfloat16", lambda: False)
    work, bf16 = Work(1e6, 1e3), replace(TINY, precision="bf16")
    for config, per_s, wanted in (
        (TINY, 199e3, None),
        (TINY, 201e3, "slower when its limits were measured"),
        (bf16, 900e3, "the emulated bf16 product of the row is faster"),
    ):
        lines = ncf.lines_above(Result(Case("x", (9, 9), config), 1.0, per_s, work), LIMITS)
        assert [wanted in line for line in lines] == ([True] if wanted else [])


def test_limits_are_the_best_of_two_measurements() -> None:
    other = MachineLimits(fp32_gflop_per_s=210, bf16_gflop_per_s=700, gbyte_per_s=31)
    assert LIMITS.or_better(other) == MachineLimits(210, 800, 31)


# One row of each kind: the others differ from them in sizes only.
KINDS = ("ml-20m 2,048 lazy_adam", "eval ml-20m bf16", "worth 65,536 projection", "cost")


@pytest.mark.parametrize(
    "case", [c for c in cases() if any(kind in c.name for kind in KINDS)], ids=lambda c: c.name
)
def test_every_kind_of_row_can_be_measured(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncf, "SAMPLES_PER_CALL", 64)
    monkeypatch.setattr(ncf, "EVALUATED_USERS", 64)
    config = replace(TINY, optimizer=case.config.optimizer, precision=case.config.precision)
    small = replace(case, geometry=(90, 70), config=config)
    result = timed(small, repeats=1)
    assert result.per_s > 0
    assert result.plain_per_s > 0
    assert case.against in FORMS


def test_the_least_work_is_that_of_the_form_that_runs() -> None:
    data = random_batches((90, 70), steps=3, batch=16)
    plain, ours = (
        work_of(build(TINY, 90, 70, seed=1, form=form), data) for form in ("plain", "fast")
    )
    assert ours.flops == plain.flops
    assert ours.bytes < plain.bytes
