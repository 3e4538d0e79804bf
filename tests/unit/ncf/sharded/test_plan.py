"""Claims about who computes which samples and who is asked for which rows."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from trainbench.distribution.cluster import cluster_of_workers
from trainbench.ncf.config import reference
from trainbench.ncf.model import Geometry, initial_weights
from trainbench.ncf.sharded.agreement import data_sha256, slices_of
from trainbench.ncf.sharded.plan import Requests, Room, Routed, Samples, from_owners, rows_of
from trainbench.ncf.sharded.step import shard_of
from trainbench.ncf.sharded.traffic import Traffic

STEPS, BATCH, USERS, ITEMS = 3, 40, 101, 37


def some_samples(
    users: int = USERS, items: int = ITEMS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng, shape = np.random.default_rng(5), (STEPS, BATCH)
    drawn = (rng.integers(0, size, shape, np.int32) for size in (users, items))
    return (*drawn, rng.integers(0, 3, shape).astype(np.uint8))


def of_owners(owners: int, users: int = USERS, items: int = ITEMS) -> list[Samples]:
    """The samples of each owner, where two sources have half of every batch."""
    arrays = some_samples(users, items)
    parts = [np.split(array, 2, axis=1) for array in arrays]
    routed = [Routed.of(*(part[source] for part in parts), owners) for source in (0, 1)]
    room = max(part.most for part in routed)
    sent = [part.packed(room) for part in routed]
    return [
        Samples.of(
            np.stack([s[owner] for s in sent]), room=Room(), spare=rows_of(users, owners) - 1
        )
        for owner in range(owners)
    ]


@pytest.mark.parametrize("owners", [1, 2, 3, 7])
def test_every_sample_is_at_the_owner_of_its_user_once(owners: int) -> None:
    users, items, labels = some_samples()
    found = of_owners(owners)
    for step in range(STEPS):
        there = []
        for owner, part in enumerate(found):
            valid = part.valid[step]
            who = part.rows[step][valid] * owners + owner
            there += zip(who, part.items[step][valid], part.labels[step][valid], strict=True)
        assert sorted(there) == sorted(zip(users[step], items[step], labels[step], strict=True))


def test_an_owner_may_have_no_sample_and_another_all() -> None:
    first, second = of_owners(2, users=1)
    assert first.valid.sum() == STEPS * BATCH
    assert second.valid.sum() == 0
    asked, _ = Requests.of(second, num_items=ITEMS, owners=2).laid_out(4)
    assert (asked == rows_of(ITEMS, 2) - 1).all()


# The second has so many items that they are sorted, the first is counted by marks.
@pytest.mark.parametrize("items", [ITEMS, 1_000_000])
@pytest.mark.parametrize("owners", [1, 2, 5])
def test_each_sample_finds_its_item_among_rows_asked_for_once(owners: int, items: int) -> None:
    for part in of_owners(owners, items=items):
        requests = Requests.of(part, num_items=items, owners=owners)
        asked, places = requests.laid_out(requests.most)
        spare = rows_of(items, owners) - 1
        for step, valid in enumerate(part.valid):
            rows = asked[:, step]
            every = (rows * owners + np.arange(owners)[:, None]).reshape(-1)
            np.testing.assert_array_equal(every[places[step][valid]], part.items[step][valid])
            named = every[rows.reshape(-1) != spare]
            assert sorted(named) == sorted(set(part.items[step][valid]))


def test_room_is_never_less_than_is_needed_and_never_shrinks() -> None:
    room, sizes = Room(), []
    for needed in (0, 100, 105, 90, 400, 1, 100_000):
        sizes.append(room.fit(needed))
        assert sizes[-1] >= needed
    assert sizes == sorted(sizes)
    assert len(set(sizes[1:4])) == 1


@pytest.mark.parametrize("owners", [1, 2, 3, 8])
def test_owners_draw_the_initial_values_of_their_rows_as_one_machine_does(
    owners: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainbench.ncf.model._BLOCK_ROWS", 10)
    geometry = Geometry(num_users=23, num_items=5, mf_dim=4, mlp_layer_sizes=(6, 2))
    whole = initial_weights(geometry, seed=3)
    for owner in range(owners):
        own = initial_weights(geometry, seed=3, rows=slice(owner, None, owners))
        for name, values in whole.items():
            wanted = values if name in geometry.dense_shapes else values[owner::owners]
            np.testing.assert_array_equal(own[name], wanted)


@pytest.mark.parametrize("owners", [2, 3, 8])
def test_a_table_is_put_together_as_it_was_divided(owners: int) -> None:
    geometry = Geometry(num_users=23, num_items=5, mf_dim=4, mlp_layer_sizes=(6, 2))
    whole = initial_weights(geometry, seed=3)
    shards = [shard_of(whole, geometry, owner, owners)["user_mf"] for owner in range(owners)]
    assert len(shards[0]) == rows_of(23, owners) < 23
    np.testing.assert_array_equal(from_owners(np.stack(shards), 23), whole["user_mf"])


@pytest.mark.parametrize("workers", [2, 4, 64])
def test_workers_that_divide_64_make_the_slices_of_a_batch_once(workers: int) -> None:
    addresses = [f"127.0.0.1:{port}" for port in range(2_000, 2_000 + workers)]
    made = [
        number
        for index in range(workers)
        for number in slices_of(reference(), cluster_of_workers(addresses, index))
    ]
    assert made == list(range(64))


@pytest.mark.parametrize(
    ("changes", "workers", "said"),
    [
        ({}, 3, "the 64 slices of a batch cannot be divided among 3 workers"),
        ({"stream_format": 1}, 2, "stream format 1 has no slices"),
    ],
)
def test_other_workers_make_whole_batches_and_say_why(
    changes: dict[str, int], workers: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster = cluster_of_workers([f"127.0.0.1:{2_000 + n}" for n in range(workers)], 1)
    assert slices_of(replace(reference(), **changes), cluster) == range(64)
    assert said in "".join(capfd.readouterr())


def test_ratings_that_differ_anywhere_have_another_hash() -> None:
    def of(sha256: str) -> str:
        return data_sha256(SimpleNamespace(record={"arrays": {"train_items": sha256}}))  # type: ignore[arg-type]

    assert of("a") != of("b")


def test_traffic_is_counted_by_rows_and_not_by_tables() -> None:
    sent = {"workers": 2, "steps": 4, "width": 192, "sample_bytes": 0, "dense": 100}
    few, many = (Traffic.of_call(rows=n * 4, slots=n, **sent) for n in (10, 20))
    assert few.row_bytes == few.slot_bytes == 4 * 10 * 192 * 4 * 2
    assert many.row_bytes == 2 * few.row_bytes
    assert few.dense_bytes == 4 * 400
    record = (few + many).record()
    assert record is not None
    assert record["rows_per_step"] == 15
