"""The split over small rating sets of every shape."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainbench.errors import DataIntegrityError
from trainbench.movielens.formats import Ratings
from trainbench.movielens.split import Split, held_out_sha256, split

# Few values, so that users are short, ids repeat and timestamps tie.
pairs = st.tuples(st.integers(100, 108), st.integers(-3, 12))
rows = st.lists(st.tuples(pairs, st.integers(0, 6)), unique_by=lambda row: row[0], max_size=60)
tie_breaks = st.sampled_from(["stable", "reference"])
minimums = st.integers(1, 4)
# A busy machine is no finding.
relaxed = settings(deadline=None)


def ratings_of(listed: list[tuple[tuple[int, int], int]]) -> Ratings:
    columns = [(user, item, time) for (user, item), time in listed]
    array = np.array(columns, dtype=np.int64).reshape(-1, 3)
    return Ratings(array[:, 0], array[:, 1], array[:, 2])


def kept_rows(listed, minimum: int):
    count = Counter(user for (user, _), _ in listed)
    return [row for row in listed if count[row[0][0]] >= minimum]


def split_or_none(listed, minimum: int, tie_break: str) -> Split | None:
    if kept_rows(listed, minimum):
        return split(ratings_of(listed), min_ratings=minimum, tie_break=tie_break)
    with pytest.raises(DataIntegrityError, match="none of"):
        split(ratings_of(listed), min_ratings=minimum, tie_break=tie_break)
    return None


def history(result: Split, user: int) -> list[int]:
    """The user's items in order, under the dataset's ids, the held-out one last."""
    own = result.items[result.row_starts[user] : result.row_starts[user + 1]]
    return result.item_ids[[*own, result.test_items[user]]].tolist()


@relaxed
@given(rows, minimums)
def test_held_out_item_is_each_users_last_rating(listed, minimum: int) -> None:
    result = split_or_none(listed, minimum, "stable")
    if result is None:
        return
    for user, user_id in enumerate(result.user_ids):
        own = [
            (time, place, item) for place, ((u, item), time) in enumerate(listed) if u == user_id
        ]
        assert history(result, user) == [item for _, _, item in sorted(own)]


@relaxed
@given(rows, minimums, tie_breaks)
def test_every_rating_of_a_kept_user_is_there_once(listed, minimum: int, tie_break: str) -> None:
    result = split_or_none(listed, minimum, tie_break)
    if result is None:
        return
    kept = kept_rows(listed, minimum)
    users = np.concatenate([result.users, np.arange(len(result.test_items))])
    items = np.concatenate([result.items, result.test_items])
    found = zip(result.user_ids[users].tolist(), result.item_ids[items].tolist(), strict=True)
    assert sorted(found) == sorted(pair for pair, _ in kept)
    dropped = {user for (user, _), _ in listed} - set(result.user_ids.tolist())
    assert result.dropped_users == len(dropped)


@relaxed
@given(rows, minimums, tie_breaks)
def test_ids_are_numbered_by_first_appearance_after_filtering(
    listed, minimum: int, tie_break: str
) -> None:
    result = split_or_none(listed, minimum, tie_break)
    if result is None:
        return
    kept = kept_rows(listed, minimum)
    assert result.user_ids.tolist() == list(dict.fromkeys(user for (user, _), _ in kept))
    assert result.item_ids.tolist() == list(dict.fromkeys(item for (_, item), _ in kept))


@relaxed
@given(rows, minimums, tie_breaks)
def test_pairs_are_grouped_by_user_and_ordered_by_time(
    listed, minimum: int, tie_break: str
) -> None:
    result = split_or_none(listed, minimum, tie_break)
    if result is None:
        return
    time_of = dict(listed)
    starts = result.row_starts
    assert starts[0] == 0
    assert starts[-1] == len(result.users) == len(result.items)
    for user, user_id in enumerate(result.user_ids.tolist()):
        assert set(result.users[starts[user] : starts[user + 1]].tolist()) <= {user}
        times = [time_of[user_id, item] for item in history(result, user)]
        assert times == sorted(times)


@relaxed
@given(rows, minimums, tie_breaks)
def test_tied_users_are_those_whose_last_time_stands_twice(
    listed, minimum: int, tie_break: str
) -> None:
    result = split_or_none(listed, minimum, tie_break)
    if result is None:
        return
    times: dict[int, list[int]] = {}
    for (user, _), time in kept_rows(listed, minimum):
        times.setdefault(user, []).append(time)
    assert result.tied_users == sum(own.count(max(own)) > 1 for own in times.values())


@relaxed
@given(rows, minimums, tie_breaks)
def test_the_types_are_those_of_the_cache(listed, minimum: int, tie_break: str) -> None:
    result = split_or_none(listed, minimum, tie_break)
    if result is None:
        return
    types = {name: str(array.dtype) for name, array in result.arrays().items()}
    assert types == {
        "users": "int32",
        "items": "int32",
        "row_starts": "int64",
        "test_items": "int32",
        "user_ids": "int64",
        "item_ids": "int64",
    }


def tied_ratings(seed: int = 0, users: int = 400, per_user: int = 30) -> Ratings:
    rng = np.random.default_rng(seed)
    items = np.concatenate([rng.permutation(500)[:per_user] for _ in range(users)])
    times = rng.integers(1_000_000_000, 1_000_000_050, users * per_user)
    return Ratings(np.repeat(np.arange(users), per_user), items, times)


def test_reference_order_is_that_of_the_references_own_calls() -> None:
    ratings = tied_ratings()
    frame = pd.DataFrame({"user": ratings.users, "item": ratings.items})
    frame["timestamp"] = pd.to_datetime(ratings.timestamps, unit="s")
    lists = frame.sort_values(by="timestamp").groupby("user")["item"].apply(list)
    result = split(ratings, min_ratings=20, tie_break="reference")
    assert [history(result, user) for user in range(400)] == lists.tolist()


def test_the_tie_break_decides_the_test_set_and_its_hash_tells() -> None:
    ratings = tied_ratings()
    stable, reference = (
        split(ratings, min_ratings=20, tie_break=name) for name in ("stable", "reference")
    )
    differing = int((stable.test_items != reference.test_items).sum())
    assert 0 < differing <= stable.tied_users == reference.tied_users
    assert held_out_sha256(stable) != held_out_sha256(reference)


def test_the_hash_of_the_test_set_ignores_how_items_are_numbered() -> None:
    ratings = tied_ratings(users=5)
    whole = split(ratings, min_ratings=20, tie_break="stable")
    renumbered = Split(
        **{
            **vars(whole),
            "item_ids": whole.item_ids[::-1],
            "test_items": len(whole.item_ids) - 1 - whole.test_items,
        }
    )
    assert held_out_sha256(renumbered) == held_out_sha256(whole)
