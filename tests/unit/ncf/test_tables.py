"""Claims about one side's tables: rows that many samples name, and rows that nobody names."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from trainbench.ncf.config import reference
from trainbench.ncf.model import Weights
from trainbench.ncf.tables import RowTables
from trainbench.ncf.train import build

USERS, ITEMS, BATCH, STEPS = 200, 150, 16, 200
SMALL = replace(
    reference(),
    mf_dim=4,
    mlp_layer_sizes=(8, 6, 4),
    batch_size=BATCH,
    learning_rate=2e-3,
    devices="cpu",
)


@dataclass(frozen=True)
class Epoch:
    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    epoch: int = 0


def epoch_of(users: np.ndarray) -> Epoch:
    rng = np.random.default_rng(0)
    items = rng.integers(0, ITEMS, users.shape).astype(np.int32)
    return Epoch(users.astype(np.int32), items, ((users + items) % 2).astype(np.uint8))


def weights_after(data: Epoch, *, form: str, xla: bool) -> Weights:
    trainer = build(replace(SMALL, xla=xla), USERS, ITEMS, seed=3, form=form)
    if form == "fast":
        assert all(isinstance(tables, RowTables) for tables in trainer.step.tables)
    trainer.train_epoch(data)
    return trainer.weights()


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("distinct", [1, 3, BATCH], ids=["one user", "three users", "all differ"])
def test_a_row_named_by_any_number_of_samples_moves_as_in_dense_adam(
    distinct: int, xla: bool
) -> None:
    rng = np.random.default_rng(distinct)
    users = np.stack(
        [
            rng.permutation(np.resize(rng.choice(USERS, distinct, replace=False), BATCH))
            for _ in range(STEPS)
        ]
    )
    data = epoch_of(users)
    expected = weights_after(data, form="plain", xla=False)
    found = weights_after(data, form="fast", xla=xla)
    for name, values in expected.items():
        size = np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5 * size, err_msg=name)


def test_the_last_row_of_a_table_is_not_the_spare_one() -> None:
    users = np.full((3, BATCH), USERS - 1)
    users[:, ::2] = 0
    start = build(SMALL, USERS, ITEMS, seed=3).weights()
    after = weights_after(epoch_of(users), form="fast", xla=False)
    assert after["user_mf"].shape == (USERS, SMALL.mf_dim)
    moved = np.flatnonzero(np.any(after["user_mf"] != start["user_mf"], axis=1))
    np.testing.assert_array_equal(moved, [0, USERS - 1])
