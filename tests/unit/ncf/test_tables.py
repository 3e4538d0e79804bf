"""Claims about one side's tables: rows that many samples name, and rows that nobody names."""

from __future__ import annotations

import numpy as np
from small_ncf import BATCH, SMALL

from trainbench.ncf.input.batches import MemoryBatches
from trainbench.ncf.model import Weights
from trainbench.ncf.tables import RowTables
from trainbench.ncf.train import build

USERS, ITEMS = 200, 150


def epoch_of(users: np.ndarray) -> MemoryBatches:
    rng = np.random.default_rng(0)
    items = rng.integers(0, ITEMS, users.shape).astype(np.int32)
    return MemoryBatches(users.astype(np.int32), items, ((users + items) % 2).astype(np.uint8))


def weights_after(data: MemoryBatches, *, form: str) -> Weights:
    trainer = build(SMALL, USERS, ITEMS, seed=3, form=form)
    if form == "fast":
        assert all(isinstance(tables, RowTables) for tables in trainer.step.tables)
    trainer.train_epoch(data)
    return trainer.weights()


def test_a_row_named_by_any_number_of_samples_moves_as_in_dense_adam() -> None:
    """Batches of one user, of three users, and of as many users as samples, in turn."""
    rng = np.random.default_rng(1)
    rows = [rng.choice(USERS, distinct, replace=False) for distinct in [1, 3, BATCH] * 40]
    data = epoch_of(np.stack([rng.permutation(np.resize(row, BATCH)) for row in rows]))
    expected, found = (weights_after(data, form=form) for form in ("plain", "fast"))
    for name, values in expected.items():
        size = np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5 * size, err_msg=name)


def test_the_last_row_of_a_table_is_not_the_spare_one() -> None:
    users = np.full((3, BATCH), USERS - 1)
    users[:, ::2] = 0
    start = build(SMALL, USERS, ITEMS, seed=3).weights()
    after = weights_after(epoch_of(users), form="fast")
    assert after["user_mf"].shape == (USERS, SMALL.mf_dim)
    moved = np.flatnonzero(np.any(after["user_mf"] != start["user_mf"], axis=1))
    np.testing.assert_array_equal(moved, [0, USERS - 1])
