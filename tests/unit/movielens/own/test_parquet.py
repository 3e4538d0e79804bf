"""Own ratings in Parquet: the same rows as in CSV, and what is wrong with its row."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import pytest

from trainbench.errors import DataIntegrityError
from trainbench.movielens.own import bring, options
from trainbench.trials.paths import DataDir

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def brought(data: DataDir, path: Path, **given: Any) -> list[str]:
    asked = options.request({"ratings": str(path), **given})
    assert asked is not None
    bring.bring("mine", asked, data)
    return (data.raw("mine") / "ratings.csv").read_text().splitlines()[1:]


def written(folder: Path, **columns: Any) -> Path:
    path = folder / "mine.parquet"
    pq.write_table(pa.table(columns), path)
    return path


BIG = 2**53 + 1


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"user": [BIG, 2], "item": [3, 4], "time": [BIG, 6]}, [f"{BIG},3,1,{BIG}", "2,4,1,6"]),
        ({"user": ["a", "b"], "item": [3, 4], "rating": [1, 2.5]}, ["1,3,1.0,0", "2,4,2.5,1"]),
        (
            {"user": pa.array(["a", "b", "a"]).dictionary_encode(), "item": [3, 4, 5]},
            ["1,3,1,0", "2,4,1,1", "1,5,1,2"],
        ),
        (
            {"user": [1], "item": [2], "time": [datetime.datetime(1970, 1, 1, 0, 0, 7)]},
            ["1,2,1,7000000"],
        ),
        ({"user": [1], "item": [2], "time": [datetime.date(1970, 1, 2)]}, ["1,2,1,86400"]),
        ({"user": [1], "item": [2], "rating": [decimal.Decimal("4.5")]}, ["1,2,4.5,0"]),
        ({"user": pa.array([2**64 - 1], pa.uint64()), "item": [2]}, ["1,2,1,0"]),
        ({"user": [1], "item": [2], "rating": [2**60 + 1]}, ["1,2,1.152921504606847e+18,0"]),
    ],
)
def test_the_types_that_ratings_have_are_read(
    columns: dict[str, Any], rows: list[str], tmp_path: Path, data: DataDir
) -> None:
    assert brought(data, written(tmp_path, **columns)) == rows


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"user": [1, None], "item": [2, 3]}, r"row 2: user: found nothing, wanted an id"),
        ({"user": [1.0, 2.0], "item": [2, 3]}, r"the column user is double, wanted whole numbers"),
        ({"user": [True], "item": [2]}, r"the column user is bool"),
        ({"user": [1, 2], "item": ["x", ""]}, r"row 2: item: found an empty one"),
        ({"user": [1, 2], "item": ["1", "2.0"]}, r"row 2: item: found 2\.0, which is not a whole"),
        (
            {"user": [1, 2], "item": [2, 3], "rating": [1, float("nan")]},
            r"row 2: rating: found n",
        ),
        ({"user": [1], "item": [2], "rating": ["x"]}, r"the column rating is string, wanted num"),
        ({"user": [1], "item": [2], "time": [1.5]}, r"the column time is double, wanted whole"),
        ({"user": [1, 2], "item": [2, 3], "time": [1, None]}, r"row 2: time: found nothing"),
        (
            {"user": [1, 2], "item": [2, 3], "time": pa.array([1, 2**63], pa.uint64())},
            r"row 2: time: found 9223372036854775808, wanted a whole number of 64 bits",
        ),
        ({"user": [1]}, r"missing column item; found user"),
        (
            {"user": [1, 5, 1], "item": [2, 3, 2]},
            r"row 3: user 1 and item 2 stand in row 1",
        ),
        ({"user": pa.array([], pa.int64()), "item": pa.array([], pa.int64())}, r"no ratings found"),
    ],
)
def test_what_is_wrong_is_told_with_its_row(
    columns: dict[str, Any], told: str, tmp_path: Path, data: DataDir
) -> None:
    with pytest.raises(DataIntegrityError, match=told):
        brought(data, written(tmp_path, **columns))
    assert [p for p in data.root.rglob("*") if p.is_file()] == []


def test_a_file_that_is_damaged_or_none_is_one_line(tmp_path: Path, data: DataDir) -> None:
    path = written(tmp_path, user=list(range(5_000)), item=list(range(5_000)))
    whole = path.read_bytes()
    for content in (b"", b"user,item\n1,2\n", whole[:-100], whole[:200], whole[100:]):
        path.write_bytes(content)
        with pytest.raises(DataIntegrityError, match=r"mine\.parquet: not a whole Parquet file"):
            brought(data, path)
    damaged = bytearray(whole)
    damaged[4:400] = bytes(396)
    path.write_bytes(damaged)
    with pytest.raises(DataIntegrityError):
        brought(data, path)


def test_several_row_groups_are_counted_on(tmp_path: Path, data: DataDir) -> None:
    path = tmp_path / "mine.parquet"
    users = [*range(200_000), None]
    pq.write_table(
        pa.table({"user": pa.array(users, pa.int64()), "item": [*users[:-1], 1]}),
        path,
        row_group_size=30_000,
    )
    with pytest.raises(DataIntegrityError, match=r"row 200,001: user: found nothing"):
        brought(data, path)
