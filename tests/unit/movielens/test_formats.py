"""Reading the four layouts, and what is said about a line that is no rating."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainbench.errors import ConfigError, DataIntegrityError
from trainbench.movielens import formats
from trainbench.movielens.datasets import COLONS, CSV, TABS, Counts, Layout, dataset
from trainbench.movielens.formats import check_counts, check_pairs, read_ratings

HEADER = "userId,movieId,rating,timestamp\n"
ROWS = [(1, 1_193, 5, 978_300_760), (1, 661, 3, 978_302_109), (7, 1_193, 4, 978_301_968)]


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "ratings.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def text_of(layout: Layout) -> str:
    lines = [layout.separator.join(map(str, row)) + "\n" for row in ROWS]
    return (HEADER if layout.header else "") + "".join(lines)


@pytest.mark.parametrize("layout", [TABS, COLONS, CSV], ids=lambda layout: layout.ratings_file)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "no last newline"])
def test_every_layout_gives_the_same_ratings(layout: Layout, ending: str, tmp_path: Path) -> None:
    text = text_of(layout)
    text = text.rstrip("\n") if ending.startswith("no") else text.replace("\n", ending)
    ratings = read_ratings(written(tmp_path, text), layout)
    users, items, _, times = zip(*ROWS, strict=True)
    assert ratings.users.tolist() == list(users)
    assert ratings.items.tolist() == list(items)
    assert ratings.timestamps.tolist() == list(times)
    assert {a.dtype for a in (ratings.users, ratings.items, ratings.timestamps)} == {
        np.dtype("int64")
    }


def test_columns_may_come_in_another_order_and_with_others_between(tmp_path: Path) -> None:
    text = "timestamp,comment,movieId,userId,rating\n5,nice,30,2,4.5\n"
    ratings = read_ratings(written(tmp_path, text), CSV)
    assert (ratings.users[0], ratings.items[0], ratings.timestamps[0]) == (2, 30, 5)


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbf" + HEADER.encode() + b"1,2,3,4\n")
    assert len(read_ratings(path, CSV)) == 1


def test_a_missing_column_is_named_with_those_found_and_wanted(tmp_path: Path) -> None:
    path = written(tmp_path, "user,movieId,rating\n1,2,3\n")
    with pytest.raises(DataIntegrityError) as error:
        read_ratings(path, CSV)
    assert str(error.value) == (
        f"{path}, line 1: missing columns userId, timestamp; found user, movieId, rating; "
        "wanted userId, movieId, rating, timestamp"
    )


NOT_EXACT = ["1.0", "1e18", "1E3", "9007199254740993.0", "9223372036854775808", "inf", "0x10"]
NOT_EXACT += ["True", "1_000", "", " ", "-", "1 2", "٣", "nan"]


@pytest.mark.parametrize("layout", [TABS, COLONS, CSV], ids=lambda layout: layout.ratings_file)
@pytest.mark.parametrize("number", NOT_EXACT)
def test_an_id_or_time_that_is_no_exact_whole_number_is_refused_with_its_line(
    layout: Layout, number: str, tmp_path: Path
) -> None:
    lines = text_of(layout).splitlines()
    for column, name in ((0, "userId"), (1, "movieId"), (3, "timestamp")):
        fields = [*"1234"]
        fields[column] = number
        text = "\n".join([*lines, layout.separator.join(fields), "1"])
        message = f"line {len(lines) + 1}: {name} is not a whole number of 64 bits: found "
        with pytest.raises(DataIntegrityError, match=message):
            read_ratings(written(tmp_path, text), layout)


@pytest.mark.parametrize("layout", [TABS, COLONS, CSV], ids=lambda layout: layout.ratings_file)
def test_whole_numbers_of_64_bits_are_exact(layout: Layout, tmp_path: Path) -> None:
    numbers = (2**63 - 1, -(2**63), 2**53 + 1, 0)
    rows = [layout.separator.join((str(n), f"+{abs(n) % 10}", "1", str(n))) for n in numbers]
    text = "\n".join([*text_of(layout).splitlines()[:1], *rows])
    ratings = read_ratings(written(tmp_path, text), layout)
    assert ratings.users.tolist()[-4:] == list(numbers)
    assert ratings.timestamps.tolist()[-4:] == list(numbers)
    assert ratings.items.tolist()[-4:] == [7, 8, 3, 0]


@pytest.mark.parametrize("layout", [TABS, COLONS, CSV], ids=lambda layout: layout.ratings_file)
def test_lines_that_end_with_a_carriage_return_alone_are_told_so(
    layout: Layout, tmp_path: Path
) -> None:
    path = written(tmp_path, text_of(layout).replace("\n", "\r"))
    with pytest.raises(DataIntegrityError, match=r"line 1: .*carriage return.*newline"):
        read_ratings(path, layout)


BAD_ROWS = {
    "1,2,3": "3 fields instead of 4",
    "1,2,3.5,4,5": "5 fields instead of 4",
    "1,,3.5,4": "movieId is not a whole number",
    "1,2,good,4": "rating is not a number",
    "1,2,nan,4": "rating is not a number",
    "1,2,,4": "rating is not a number",
    "1,2.5,3,4": "movieId is not a whole number",
    "1,2,3,yesterday": "timestamp is not a whole number",
    "99999999999999999999,2,3,4": "userId is not a whole number of 64 bits",
    "\x00\x00\x00": "a null byte",
    "1\x00,2,3,4": "a null byte",
    "1,2,3,4\r5,6,7,8": "a carriage return inside a line",
    "1\x1e,2,3,4": "userId is not a whole number",
    "\u00a01,2,3,4": "userId is not a whole number",
    '"1",2,3,4': "userId is not a whole number",
}


@pytest.mark.parametrize("row", BAD_ROWS)
@pytest.mark.parametrize("place", [0, 1, 40])
def test_a_bad_row_is_named_with_file_and_line(row: str, place: int, tmp_path: Path) -> None:
    lines = [f"{n},{n},3.0,{n}" for n in range(40)]
    lines.insert(place, row)
    path = written(tmp_path, HEADER + "\n".join(lines) + "\n")
    with pytest.raises(DataIntegrityError) as error:
        read_ratings(path, CSV)
    assert str(error.value).startswith(f"{path}, line {place + 2}: {BAD_ROWS[row]}")
    assert "wanted userId,movieId,rating,timestamp; repair or remove the line" in str(error.value)


@pytest.mark.parametrize("row", ["1::2::3", "1,2,3,4", "1:2::3::4", "1::2::3::4::5", "1::2::x::4"])
def test_a_bad_row_between_double_colons_is_named_too(row: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"1::2::3::4\n{row}\n5::6::3::4\n")
    with pytest.raises(DataIntegrityError, match=r"ratings\.txt, line 2: "):
        read_ratings(path, COLONS)


@pytest.mark.parametrize("text", ["", "\n\n", HEADER])
def test_a_file_without_ratings_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataIntegrityError, match=r"ratings\.txt.*(no ratings|missing column)"):
        read_ratings(written(tmp_path, text), CSV)


@pytest.mark.parametrize("block_bytes", [7, 64, 1_000])
def test_blocks_of_any_size_give_the_same_ratings_and_line_numbers(
    block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = HEADER + "".join(f"{n},{n * 7 % 31},3.0,{n}\n" for n in range(200))
    path = written(tmp_path, text)
    whole = read_ratings(path, CSV)
    monkeypatch.setattr(formats, "BLOCK_BYTES", block_bytes)
    pieces = read_ratings(path, CSV)
    assert pieces.items.tolist() == whole.items.tolist()
    assert pieces.sha256 == whole.sha256
    path = written(tmp_path, text + "oops\n")
    with pytest.raises(DataIntegrityError, match="line 202: 1 field"):
        read_ratings(path, CSV)


def test_a_pair_rated_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "3,5,1,1\n3,6,1,2\n4,5,1,3\n3,5,4,9\n")
    with pytest.raises(DataIntegrityError, match=r"ratings 1 and 4 are both of user 3 and item 5"):
        check_pairs(path, read_ratings(path, CSV))


def test_counts_that_differ_from_the_published_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "3,5,1,1\n3,6,1,2\n")
    ratings = read_ratings(path, CSV)
    check_counts(path, ratings, Counts(1, 2, 2))
    with pytest.raises(DataIntegrityError, match="found 1 users, 2 items, 2 ratings; published"):
        check_counts(path, ratings, Counts(1, 2, 3))


def test_an_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ml-20m'"):
        dataset("ml20m")
