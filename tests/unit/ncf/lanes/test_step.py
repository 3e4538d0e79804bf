"""Claims about a step in lanes: it trains as any other form does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_ncf import BATCH, ITEMS, SMALL, USERS, some_epoch

from trainbench.ncf.config import MASKED, Lanes, NcfConfig
from trainbench.ncf.input.batches import MemoryBatches
from trainbench.ncf.lanes.numbers import narrowed, through_rectifier, widened
from trainbench.ncf.lanes.step import LaneStep
from trainbench.ncf.model import Weights
from trainbench.ncf.tables import RowTables, SweptTables
from trainbench.ncf.train import Trainer, build

HALVES = replace(SMALL, lanes=Lanes(chunk=BATCH // 2, threads=1))
UNEVEN = replace(SMALL, lanes=Lanes(chunk=7, threads=2))


def trained(config: NcfConfig, data: MemoryBatches, *, form: str = "fast") -> tuple[Trainer, float]:
    trainer = build(config, USERS, ITEMS, seed=4, form=form)
    assert isinstance(trainer.step, LaneStep) == (form == "fast" and config.lanes is not None)
    return trainer, trainer.train_epoch(data).mean_loss


def assert_same(found: Weights, expected: Weights, *, relative: float) -> None:
    for name, values in expected.items():
        size = np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=0, atol=relative * size, err_msg=name)


@pytest.fixture(scope="module")
def epoch() -> MemoryBatches:
    return some_epoch(200)


@pytest.fixture(scope="module")
def plain(epoch: MemoryBatches) -> tuple[Weights, float]:
    trainer, loss = trained(SMALL, epoch, form="plain")
    return trainer.weights(), loss


@pytest.mark.parametrize(
    "config",
    [HALVES, UNEVEN, replace(HALVES, xla=True)],
    ids=["halves", "uneven chunks", "compiled"],
)
def test_lanes_equal_dense_adam_on_whole_batches_after_200_steps(
    config: NcfConfig, epoch: MemoryBatches, plain: tuple[Weights, float]
) -> None:
    trainer, loss = trained(config, epoch)
    user_tables, item_tables = trainer.step.tables
    assert isinstance(user_tables, RowTables)
    assert isinstance(item_tables, SweptTables)
    assert loss == pytest.approx(plain[1], rel=1e-6)
    assert_same(trainer.weights(), plain[0], relative=1e-5)


@pytest.mark.parametrize("config", [HALVES, UNEVEN], ids=["halves", "uneven chunks"])
def test_lanes_in_bf16_train_as_fp32_does(
    config: NcfConfig, epoch: MemoryBatches, plain: tuple[Weights, float]
) -> None:
    trainer, loss = trained(replace(config, precision="bf16"), epoch)
    assert loss == pytest.approx(plain[1], rel=0.01)
    assert all(values.dtype == np.float32 for values in trainer.weights().values())
    assert np.abs(trainer.weights()["user_mf"] - plain[0]["user_mf"]).max() > 0


def test_one_step_in_bf16_is_that_of_the_form_without_lanes() -> None:
    config = replace(SMALL, precision="bf16", lanes=None)
    data = some_epoch(1)
    expected, loss = trained(config, data)
    found, in_lanes = trained(replace(config, lanes=HALVES.lanes), data)
    assert in_lanes == pytest.approx(loss, rel=1e-3)
    start = build(config, USERS, ITEMS, seed=4).weights()
    for name, values in expected.weights().items():
        # Adam's first step is the sign of the gradient: it differs where rounding decides it.
        moved, wanted = np.sign(found.weights()[name] - start[name]), np.sign(values - start[name])
        assert (moved == wanted).mean() > 0.98, name


def test_lanes_train_with_lazy_adam_too(epoch: MemoryBatches) -> None:
    lazy = replace(SMALL, optimizer="lazy_adam", lanes=None)
    expected, loss = trained(lazy, epoch)
    found, in_lanes = trained(replace(lazy, lanes=UNEVEN.lanes), epoch)
    assert in_lanes == pytest.approx(loss, rel=1e-6)
    assert_same(found.weights(), expected.weights(), relative=1e-5)


@pytest.mark.parametrize("real", [1, 19, BATCH])
def test_what_is_masked_trains_in_no_lane(real: int) -> None:
    data = some_epoch(3)
    labels = data.labels.copy()
    labels[:, real:] = MASKED
    masked = replace(data, labels=labels)
    config = replace(SMALL, last_batch="mask")
    expected, loss = trained(replace(config, lanes=None), masked)
    found, in_lanes = trained(replace(config, lanes=UNEVEN.lanes), masked)
    assert in_lanes == pytest.approx(loss, rel=1e-6)
    assert_same(found.weights(), expected.weights(), relative=1e-4)


def test_same_seed_and_batches_give_the_same_bits_in_lanes() -> None:
    config = replace(UNEVEN, precision="bf16", xla=True)
    first, second = (trained(config, some_epoch(9))[0].weights() for _ in range(2))
    assert_same(first, second, relative=0)


def test_lanes_are_compiled_once_and_warming_them_up_changes_nothing() -> None:
    trainer = build(HALVES, USERS, ITEMS, seed=4)
    before = trainer.weights()
    trainer.warm_up()
    assert_same(trainer.weights(), before, relative=0)
    trainer.train_epoch(some_epoch(70))
    assert isinstance(trainer.step, LaneStep)
    assert trainer.step.run.experimental_get_tracing_count() == 1


def test_who_reads_the_parameters_while_lanes_compile_counts_no_step() -> None:
    step = build(replace(UNEVEN, last_batch="mask"), USERS, ITEMS, seed=4).step
    assert isinstance(step, LaneStep)
    rows = [tables for tables in step.tables if isinstance(tables, RowTables)]
    assert rows
    compiled, seen = step.run, []

    def run(*arguments: Any) -> Any:
        loss = compiled(*arguments)
        seen.append((int(step.step), int(step.steps_done())))
        step.tensors()
        return loss

    step.count_from(500)
    for tables in rows:
        tables.values(step.steps_done())
    step.run = run
    step.warm_up(2)
    assert seen == [(501, 500)]
    assert int(step.steps_done()) == int(step.step) == 500
    for tables in rows:
        assert tables.caught_up_at == 500
        assert set(tables.last.numpy()) == {500}


def test_rounding_as_integers_is_rounding_to_bfloat16() -> None:
    rng = np.random.default_rng(0)
    edges = [0.0, -0.0, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-40, 1 + 2**-8, 1 + 3 * 2**-8, np.nan]
    drawn = rng.integers(0, 2**31, 10_000, dtype=np.int32).view(np.float32)
    values = tf.constant([*edges, *np.nan_to_num(drawn, posinf=1, nan=1)], tf.float32)
    found, expected = narrowed(values, tf.bfloat16), tf.cast(values, tf.bfloat16)
    np.testing.assert_array_equal(tf.cast(found, tf.float32), tf.cast(expected, tf.float32))
    np.testing.assert_array_equal(widened(found), tf.cast(found, tf.float32))
    assert narrowed(values, tf.float32) is values


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_a_gradient_passes_a_rectifier_where_its_output_is_above_0(dtype: tf.DType) -> None:
    hidden = tf.constant([0.0, -0.0, 1e-30, 2.0], dtype)
    gradient = tf.constant([1.0, -2.0, -3.0, 4.0], dtype)
    found = tf.cast(through_rectifier(gradient, hidden), tf.float32)
    np.testing.assert_array_equal(found, [0.0, 0.0, -3.0, 4.0])


@pytest.mark.parametrize("config", [HALVES, replace(UNEVEN, last_batch="mask")])
def test_compiling_beforehand_changes_no_bit(config: NcfConfig, epoch: MemoryBatches) -> None:
    cold, warm = (build(config, USERS, ITEMS, seed=4) for _ in range(2))
    warm.warm_up()
    few = replace(epoch, users=epoch.users[:70], items=epoch.items[:70], labels=epoch.labels[:70])
    assert warm.train_epoch(few).mean_loss == cold.train_epoch(few).mean_loss
    for name, values in cold.weights().items():
        np.testing.assert_array_equal(warm.weights()[name], values, err_msg=name)
