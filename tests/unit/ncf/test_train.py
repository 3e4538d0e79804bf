"""Claims about training: the numbers of a step, the forms that must agree, what is refused."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_ncf import BATCH, ITEMS, SMALL, USERS, some_epoch

from trainbench.errors import DataIntegrityError, MachineError, TrainbenchError
from trainbench.ncf.config import MASKED, NcfConfig
from trainbench.ncf.input.batches import MemoryBatches
from trainbench.ncf.model import Geometry, Weights
from trainbench.ncf.step import Step
from trainbench.ncf.tables import Own, RowTables, SweptTables
from trainbench.ncf.train import Handed, Trainer, build
from trainbench.ncf.weights import read_weights


def trained(config: NcfConfig, data: MemoryBatches, *, form: str = "fast") -> tuple[Trainer, float]:
    trainer = build(config, USERS, ITEMS, seed=4, form=form)
    return trainer, trainer.train_epoch(data).mean_loss


def assert_same(found: Weights, expected: Weights, *, relative: float) -> None:
    for name, values in expected.items():
        size = np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=0, atol=relative * size, err_msg=name)


def numpy_training(config: NcfConfig, start: Weights, data: MemoryBatches) -> tuple[Weights, float]:
    """Back-propagation and dense Adam written out in float64."""
    weights = {name: values.astype(np.float64) for name, values in start.items()}
    moments = {name: np.zeros((2, *values.shape)) for name, values in weights.items()}
    losses = []
    batches = zip(data.users, data.items, data.labels, strict=True)
    for step, (users, items, labels) in enumerate(batches, start=1):
        loss, gradients = numpy_gradients(weights, users, items, labels)
        losses.append(loss)
        for name, gradient in gradients.items():
            m, v = moments[name]
            m[...] = config.beta1 * m + (1 - config.beta1) * gradient
            v[...] = config.beta2 * v + (1 - config.beta2) * gradient**2
            denominator = np.sqrt(v / (1 - config.beta2**step)) + config.epsilon
            rate = config.learning_rate / (1 - config.beta1**step)
            weights[name] = weights[name] - rate * m / denominator
    return weights, float(np.mean(losses))


def numpy_gradients(
    weights: Weights, users: np.ndarray, items: np.ndarray, labels: np.ndarray
) -> tuple[float, Weights]:
    hidden = [np.concatenate([weights["user_mlp"][users], weights["item_mlp"][items]], axis=1)]
    for layer in (1, 2):
        sums = hidden[-1] @ weights[f"mlp_{layer}_kernel"] + weights[f"mlp_{layer}_bias"]
        hidden.append(np.maximum(sums, 0))
    user_mf, item_mf = weights["user_mf"][users], weights["item_mf"][items]
    last = np.concatenate([user_mf * item_mf, hidden[-1]], axis=1)
    outputs = (last @ weights["final_kernel"])[:, 0] + weights["final_bias"]
    loss = np.mean(np.logaddexp(0, outputs) - labels * outputs)

    gradients = {name: np.zeros_like(values) for name, values in weights.items()}
    back = ((1 / (1 + np.exp(-outputs)) - labels) / len(labels))[:, None]
    gradients["final_kernel"], gradients["final_bias"] = last.T @ back, back.sum(axis=0)
    back = back * weights["final_kernel"][:, 0]
    mf_dim = user_mf.shape[1]
    np.add.at(gradients["user_mf"], users, back[:, :mf_dim] * item_mf)
    np.add.at(gradients["item_mf"], items, back[:, :mf_dim] * user_mf)
    back = back[:, mf_dim:]
    for layer in (2, 1):
        back = back * (hidden[layer] > 0)
        gradients[f"mlp_{layer}_kernel"] = hidden[layer - 1].T @ back
        gradients[f"mlp_{layer}_bias"] = back.sum(axis=0)
        back = back @ weights[f"mlp_{layer}_kernel"].T
    half = back.shape[1] // 2
    np.add.at(gradients["user_mlp"], users, back[:, :half])
    np.add.at(gradients["item_mlp"], items, back[:, half:])
    return float(loss), gradients


@pytest.fixture(scope="module")
def epoch() -> MemoryBatches:
    return some_epoch(200)


@pytest.fixture(scope="module")
def plain(epoch: MemoryBatches) -> tuple[Weights, float]:
    trainer, loss = trained(SMALL, epoch, form="plain")
    assert all(isinstance(t, SweptTables) and not t.project for t in trainer.step.tables)
    return trainer.weights(), loss


def test_plain_form_equals_written_out_backpropagation_and_adam(
    epoch: MemoryBatches, plain: tuple[Weights, float]
) -> None:
    start = build(SMALL, USERS, ITEMS, seed=4).weights()
    expected, loss = numpy_training(SMALL, start, epoch)
    assert plain[1] == pytest.approx(loss, rel=1e-6)
    assert_same(plain[0], expected, relative=2e-5)
    assert not np.allclose(expected["user_mlp"], start["user_mlp"], atol=1e-3)


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_exact_lazy_adam_equals_dense_adam_after_200_steps(
    epoch: MemoryBatches, plain: tuple[Weights, float], xla: bool
) -> None:
    trainer, loss = trained(replace(SMALL, xla=xla), epoch)
    user_tables, item_tables = trainer.step.tables
    assert isinstance(user_tables, RowTables)
    assert isinstance(item_tables, SweptTables)
    assert loss == pytest.approx(plain[1], rel=1e-6)
    assert_same(trainer.weights(), plain[0], relative=1e-5)


def short_batch(epoch: MemoryBatches, real: int) -> tuple[MemoryBatches, MemoryBatches]:
    """The first batch with a rest that is masked, and its first ``real`` samples alone."""
    users, items, labels = (part[:1].copy() for part in (epoch.users, epoch.items, epoch.labels))
    for part in (users, items):
        part[:, real:] = part[:, real - 1]
    labels[:, real:] = MASKED
    return MemoryBatches(users, items, labels), MemoryBatches(
        *(p[:, :real] for p in (users, items, labels))
    )


def gradients(
    config: NcfConfig, data: MemoryBatches, own: Own = tf.identity
) -> tuple[float, Weights]:
    """The loss of one batch, and the gradients of all rows of tables and of all other weights."""
    trainer = build(config, USERS, ITEMS, seed=4, form="plain")
    ids = (tf.constant(data.users[0]), tf.constant(data.items[0]))
    start = trainer.step.begin(ids)
    loss, found = trainer.step.differentiate(start, ids, tf.constant(data.labels[0]), own)
    parts = {str(i): tf.convert_to_tensor(g).numpy() for i, g in enumerate(tf.nest.flatten(found))}
    return float(loss), parts


@pytest.mark.parametrize("real", [1, 19, BATCH])
def test_a_masked_batch_has_the_loss_and_the_gradient_of_the_short_batch(
    epoch: MemoryBatches, real: int
) -> None:
    masked, short = short_batch(epoch, real)
    loss, found = gradients(replace(SMALL, last_batch="mask"), masked)
    expected_loss, expected = gradients(replace(SMALL, batch_size=real), short)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert_same(found, expected, relative=1e-6)
    assert any(np.abs(part).max() > 0 for part in expected.values())


def test_replicas_of_a_masked_batch_have_its_gradient_in_the_mean(epoch: MemoryBatches) -> None:
    masked, _ = short_batch(epoch, 5)  # the second half has nothing that trains
    config = replace(SMALL, last_batch="mask")
    half = BATCH // 2
    loss, whole = gradients(config, masked)
    halves = [
        gradients(config, masked, lambda part, at=at: part[at : at + half]) for at in (0, half)
    ]
    assert sum(part for part, _ in halves) / 2 == pytest.approx(loss, rel=1e-6)
    mean = {name: (halves[0][1][name] + halves[1][1][name]) / 2 for name in whole}
    assert_same(mean, whole, relative=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_training_on_a_masked_batch_is_training_on_the_short_one(
    epoch: MemoryBatches, optimizer: str
) -> None:
    masked, short = short_batch(epoch, 19)
    config = replace(SMALL, optimizer=optimizer)
    found, loss = trained(replace(config, last_batch="mask"), masked)
    expected, expected_loss = trained(replace(config, batch_size=19), short)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert_same(found.weights(), expected.weights(), relative=1e-4)


def test_first_layer_projected_per_table_row_gives_the_same_numbers(epoch: MemoryBatches) -> None:
    few_items = replace(epoch, items=epoch.items % 20)
    fast, fast_loss = (t := build(SMALL, USERS, 20, seed=4)), t.train_epoch(few_items).mean_loss
    assert isinstance(fast.step.tables[1], SweptTables)
    assert fast.step.tables[1].project
    slow = build(SMALL, USERS, 20, seed=4, form="plain")
    assert fast_loss == pytest.approx(slow.train_epoch(few_items).mean_loss, rel=1e-6)
    assert_same(fast.weights(), slow.weights(), relative=1e-5)


def test_evaluating_between_epochs_changes_nothing_in_exact_lazy_adam() -> None:
    halves = some_epoch(30), some_epoch(30, seed=1)
    looked_at, left_alone = (build(SMALL, USERS, ITEMS, seed=4) for _ in range(2))
    for half in halves:
        looked_at.train_epoch(half)
        looked_at.tensors()
        left_alone.train_epoch(half)
    assert_same(looked_at.weights(), left_alone.weights(), relative=1e-5)


def test_lazy_adam_leaves_the_rows_alone_that_no_batch_touched() -> None:
    data = some_epoch(3, users=USERS // 2)
    data = replace(data, users=data.users // 7 * 7)
    trainer, _ = trained(replace(SMALL, optimizer="lazy_adam"), data)
    start, after = build(SMALL, USERS, ITEMS, seed=4).weights(), trainer.weights()
    for name in ("user_mf", "user_mlp"):
        moved = np.any(after[name] != start[name], axis=1)
        np.testing.assert_array_equal(np.flatnonzero(moved), np.unique(data.users))


def test_lazy_adam_is_its_own_optimizer(epoch: MemoryBatches, plain: tuple[Weights, float]) -> None:
    trainer, _ = trained(replace(SMALL, optimizer="lazy_adam"), epoch)
    assert all(isinstance(t, RowTables) for t in trainer.step.tables)
    assert np.abs(trainer.weights()["user_mf"] - plain[0]["user_mf"]).max() > 1e-4


def test_betas_without_a_closed_form_are_trained_densely() -> None:
    trainer = build(replace(SMALL, beta2=0.9), USERS, ITEMS, seed=4)
    assert all(isinstance(t, SweptTables) for t in trainer.step.tables)


def test_bf16_products_train_as_fp32_does(
    epoch: MemoryBatches, plain: tuple[Weights, float]
) -> None:
    trainer, loss = trained(replace(SMALL, precision="bf16"), epoch)
    assert loss == pytest.approx(plain[1], rel=0.01)
    assert all(values.dtype == np.float32 for values in trainer.weights().values())
    assert np.abs(trainer.weights()["user_mf"] - plain[0]["user_mf"]).max() > 0


def test_warming_up_changes_no_parameter() -> None:
    trainer = build(SMALL, USERS, ITEMS, seed=4)
    before = trainer.weights()
    trainer.warm_up()
    assert_same(trainer.weights(), before, relative=0)


def test_steps_need_not_fill_the_last_call_and_progress_ends_at_the_total() -> None:
    told: list[tuple[int, int, float]] = []
    data = some_epoch(70)
    in_calls = build(SMALL, USERS, ITEMS, seed=4)
    result = in_calls.train_epoch(data, on_progress=lambda *line: told.append(line))
    one_by_one = build(replace(SMALL, steps_per_call=1), USERS, ITEMS, seed=4)
    assert one_by_one.train_epoch(data).mean_loss == pytest.approx(result.mean_loss, rel=1e-6)
    assert result.samples == 70 * BATCH
    assert told[-1][:2] == (70 * BATCH, 70 * BATCH)


@pytest.mark.parametrize(
    ("calls", "uploads"), [(0, 0), (0.5, 0), (1, 5), (2.9, 3), (4, 2), (5, 1), (1e6, 1)]
)
def test_an_epoch_lies_on_the_device_as_far_as_it_fits_and_trains_the_same(
    calls: float, uploads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Handed] = []
    handed = Trainer._handed
    monkeypatch.setattr(Trainer, "_handed", lambda *a: made.append(handed(*a)) or made[-1])
    data, config = some_epoch(37), replace(SMALL, steps_per_call=8)
    apart, there = (build(config, USERS, ITEMS, seed=4) for _ in range(2))
    there.input_budget_bytes = int(calls * 8 * BATCH * 9)
    assert there.train_epoch(data).mean_loss == apart.train_epoch(data).mean_loss
    assert_same(there.weights(), apart.weights(), relative=0)
    assert made[0].uploads == uploads


def test_what_lies_on_the_device_is_only_cut_there() -> None:
    data = some_epoch(37)
    handed = Handed(data, 8, 10**9, contextlib.nullcontext)
    for first, last in ((0, 8), (8, 16), (32, 37)):
        parts = handed.call(first, last)
        for found, wanted in zip(parts, (data.users, data.items, data.labels), strict=True):
            assert found.dtype.as_numpy_dtype == wanted.dtype
            np.testing.assert_array_equal(found.numpy()[: last - first], wanted[first:last])


def test_a_full_device_is_told_while_the_epoch_is_handed_over_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    trainer = build(SMALL, USERS, ITEMS, seed=4)
    monkeypatch.setattr(Handed, "call", full)
    with pytest.raises(MachineError, match=r"batch_size=32; try --set batch_size=16"):
        trainer.train_epoch(some_epoch(1))


def test_a_loss_that_is_not_a_number_stops_with_epoch_and_steps() -> None:
    trainer = build(SMALL, USERS, ITEMS, seed=4)
    trainer.step.assign({**trainer.weights(), "final_bias": np.float32([np.nan])})
    with pytest.raises(TrainbenchError, match=r"epoch 3, steps 0 to 63: the loss is nan"):
        trainer.train_epoch(replace(some_epoch(70), epoch=3))


def test_batches_of_another_size_are_refused_before_any_work() -> None:
    trainer = build(replace(SMALL, batch_size=BATCH + 1), USERS, ITEMS, seed=4)
    with pytest.raises(TrainbenchError, match=r"wanted \[steps, 33\]"):
        trainer.train_epoch(some_epoch(2))


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(MachineError, match="sees no GPU"):
        build(replace(SMALL, devices="gpu"), USERS, ITEMS, seed=4)


def test_out_of_memory_names_the_batch_size_and_a_smaller_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    trainer = build(SMALL, USERS, ITEMS, seed=4)
    monkeypatch.setattr(trainer.step, "run", full)
    with pytest.raises(MachineError, match=r"batch_size=32; try --set batch_size=16"):
        trainer.train_epoch(some_epoch(1))


def test_saved_weights_come_back(tmp_path: Path) -> None:
    trainer, _ = trained(SMALL, some_epoch(3))
    path = trainer.save(tmp_path / "model")
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.keras", "weights.npz"]
    with np.load(path) as file:
        assert {n: file[n].shape for n in file.files} == trainer.geometry.shapes
    again = build(SMALL, USERS, ITEMS, seed=9)
    again.load(path)
    assert_same(again.weights(), trainer.weights(), relative=0)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off", b"not weights at all"])
def test_a_missing_or_damaged_weights_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataIntegrityError, match=r"weights\.npz: cannot be read as weights"):
        read_weights(path, Geometry.of(SMALL, 5, 6))


def test_weights_of_another_geometry_are_refused_by_name(tmp_path: Path) -> None:
    path = build(SMALL, USERS, ITEMS, seed=4).save(tmp_path)
    with pytest.raises(DataIntegrityError, match=r"item_mf is \(48, 6\), wanted \(47, 6\)"):
        build(SMALL, USERS, ITEMS - 1, seed=4).load(path)


def test_same_seed_and_batches_give_the_same_bits() -> None:
    first, second = (trained(SMALL, some_epoch(9))[0].weights() for _ in range(2))
    assert_same(first, second, relative=0)


def test_a_step_is_compiled_once_for_all_epochs() -> None:
    trainer = build(SMALL, USERS, ITEMS, seed=4)
    trainer.warm_up()
    for steps in (3, 64, 70):
        trainer.train_epoch(some_epoch(steps))
    assert isinstance(trainer.step, Step)
    assert trainer.step.run.experimental_get_tracing_count() == 1
