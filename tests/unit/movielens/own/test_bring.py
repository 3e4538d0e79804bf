"""Own ratings: what is read, what is kept, what is refused, with its line."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainbench.benchmark import Source
from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.movielens import archive, split, synthetic
from trainbench.movielens.cache import ARRAYS, RatingsCache, open_cache
from trainbench.movielens.datasets import SplitSpec, SyntheticSize, dataset, read_manifest
from trainbench.movielens.own import bring, options
from trainbench.movielens.own.bring import DESCRIPTION
from trainbench.ncf import steps
from trainbench.ncf.benchmark import NCF
from trainbench.trials.paths import DataDir

HEAD = "user,item,rating,time\n"
# The bytes stand in names of tests, which every process that runs tests has to make alike.
zipped = partial(gzip.compress, mtime=0)
NAMES = "user=user,item=item,rating=rating,time=time"


def written(folder: Path, text: str | bytes, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def brought(data: DataDir, path: Path, **given: Any) -> list[list[str]]:
    """The rows of the dataset that is made of ``path``, without its header."""
    asked = options.request({"ratings": str(path), **given})
    assert asked is not None
    bring.bring("mine", asked, data)
    return rows_of(data.raw("mine") / "ratings.csv")


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def own(data: DataDir) -> Any:
    manifest = read_manifest(data.manifest("mine"))
    assert manifest is not None
    return manifest.own


def test_whole_numbers_stay_what_they_are(tmp_path: Path, data: DataDir) -> None:
    big = 2**53 + 1
    text = f"{HEAD}{big},{2**63 - 1},4.5,{big + 2}\n7,{-(2**63)},3,5\n"
    assert brought(data, written(tmp_path, text)) == [
        [str(big), str(2**63 - 1), "4.5", str(big + 2)],
        ["7", str(-(2**63)), "3.0", "5"],
    ]
    assert (own(data).user_ids, own(data).item_ids) == ("whole numbers", "whole numbers")
    assert own(data).mappings == {}


def test_text_ids_are_numbered_in_the_order_of_the_file_and_kept(
    tmp_path: Path, data: DataDir
) -> None:
    text = f'{HEAD}ann,"b, c",1,1\n007,d,1,2\n7,"e ""f""",1,3\n ann ,ü,1,4\n'
    rows = brought(data, written(tmp_path, text))
    assert [row[:2] for row in rows] == [["1", "1"], ["2", "2"], ["3", "3"], ["1", "4"]]
    users, items = (rows_of(data.raw("mine") / name) for name in ("users.csv", "items.csv"))
    assert users == [["1", "ann"], ["2", "007"], ["3", "7"]]
    assert items == [["1", "b, c"], ["2", "d"], ["3", 'e "f"'], ["4", "ü"]]


def test_whole_numbers_of_more_than_64_bits_are_text(tmp_path: Path, data: DataDir) -> None:
    brought(data, written(tmp_path, f"{HEAD}{2**64},1,1,1\n{2**64 + 1},1,1,1\n"))
    assert rows_of(data.raw("mine") / "users.csv") == [["1", str(2**64)], ["2", str(2**64 + 1)]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "user,item,rating,time\n1,2,3,4\n5,6,7,8\n"),
        ("crlf.csv", "user,item,rating,time\r\n1,2,3,4\r\n5,6,7,8"),
        ("bom.csv", "\ufeffuser,item,rating,time\n1,2,3,4\n5,6,7,8\n"),
        ("quoted.csv", '"user","item","rating","time"\n"1","2","3","4"\n"5",6,7,"8"\n'),
        ("blank.csv", "user,item,rating,time\n\n1,2,3,4\n\n\n5,6,7,8\n\n"),
        ("order.csv", "time,x,rating,item,user\n4,a,3,2,1\n8,b,7,6,5\n"),
        ("usual.csv", "user_id,movieId,Rating,timestamp,title\n1,2,3,4,a\n5,6,7,8,b\n"),
        ("a.tsv", 'user\titem\trating\ttime\tname\n1\t2\t3\t4\ta"b\n5\t6\t7\t8\t"c\n'),
        ("spaces.csv", "user , item,rating, time\n 1, 2, 3, 4\n5 ,6 ,7 ,8 \n"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_however_it_is_written_it_is_the_same(
    name: str, text: str, packed: bool, tmp_path: Path, data: DataDir
) -> None:
    raw = zipped(text.encode()) if packed else text.encode()
    path = written(tmp_path, raw, f"{name}.gz" if packed else name)
    assert brought(data, path) == [["1", "2", "3.0", "4"], ["5", "6", "7.0", "8"]]
    assert own(data).packed == packed


def test_without_a_header_columns_are_positions(tmp_path: Path, data: DataDir) -> None:
    path = written(tmp_path, "1\t2\t3\t4\n5\t6\t7\t8\n", "u.data")
    rows = brought(data, path, format="tsv", header=False, columns="user=1,item=2,rating=3,time=4")
    assert rows == [["1", "2", "3.0", "4"], ["5", "6", "7.0", "8"]]


FAULTS: list[tuple[str | bytes, str]] = [
    (f"{HEAD}1,2,3,4\n1,3,x,4\n", r"mine\.csv, line 3: rating: found 'x', wanted a finite number"),
    (f"{HEAD}1,2,nan,4\n", r"line 2: rating: found 'nan', wanted a finite number"),
    (f"{HEAD}1,2,inf,4\n", r"line 2: rating: found 'inf'"),
    (f"{HEAD}1,2,,4\n", r"line 2: rating: found ''"),
    (f"{HEAD}1,2,1_0,4\n", r"line 2: rating: found '1_0'"),
    (f"{HEAD}1,2,3,4.0\n", r"line 2: time: found '4.0', wanted a whole number of 64 bits"),
    (f"{HEAD}1,2,3,\n", r"line 2: time: found ''"),
    (f"{HEAD}1,2,3,{2**63}\n", r"line 2: time: found '9223372036854775808', wanted a whole"),
    (f"{HEAD}1,2,3,2020-01-01\n", r"line 2: time: found '2020-01-01', .* as seconds since 1970"),
    (f"{HEAD}1,2,3,4\n1.0,3,3,4\n", r"line 3: user: found 1\.0, which is not a whole number"),
    (f"{HEAD}1,2,3,4\n1,1e5,3,4\n", r"line 3: item: found 1e5, which is not a whole number"),
    (f"{HEAD}1,2,3,4\n,3,3,4\n", r"line 3: user: found an empty one, wanted an id"),
    (f'{HEAD}1,2,3,4\n1," ",3,4\n', r"line 3: item: found an empty one"),
    (f"{HEAD}1,2,3,4\nNaN,3,3,4\n", r"line 3: user: found 'NaN', which marks a missing one"),
    (f"{HEAD}1,2,3,4\n1,NULL,3,4\n", r"line 3: item: found 'NULL', which marks a missing one"),
    (f"{HEAD}1,2,3,4\n1,2,3\n", r"line 3: 3 fields instead of 4: found '1,2,3'"),
    (f"{HEAD}1,2,3,4\n1,2,3,4,5\n", r"line 3: 5 fields instead of 4"),
    (f"{HEAD}1,2,3,4\n\n1\n", r"line 4: 1 field instead of 4"),
    (f"{HEAD}1,2,3,4\n1,\0,3,4\n", r"line 3: a null byte"),
    (f"{HEAD}1,2,3,4\nf\xfcr,2,3,4\n".encode("latin-1"), r"line 3: not UTF-8 from byte 2 .*iconv"),
    (HEAD.encode("utf-16"), r"mine\.csv: UTF-16; convert it: iconv"),
    (HEAD.encode("utf-16-le"), r"mine\.csv: UTF-16LE; convert it: iconv -f UTF-16LE"),
    (HEAD.encode("utf-32"), r"mine\.csv: UTF-32; convert it: iconv -f UTF-32"),
    (b'{"user": 1, "item": 2}\n', r"mine\.csv: JSON; write it as CSV"),
    (b"name\0 of a tar archive", r"line 1: a null byte; .*; save the file as CSV"),
    (zipped(zipped(HEAD.encode())), r"in the gzip file: packed with gzip once more"),
    (zipped(HEAD.encode("utf-16")), r"in the gzip file: UTF-16; convert it"),
    (zipped(b"PK\x03\x04 and so on"), r"in the gzip file: a zip archive"),
    (b"PK\x03\x04 and so on", r"a zip archive .*; unpack it"),
    (b"PAR1 and so on", r"a Parquet file; add --format parquet"),
    (f'{HEAD}1,2,3,4\n1,"3,3,4\n5,6,7,8\n', r"line 3: a quote that is opened and not closed"),
    (f'{HEAD}1,2,3,4\n1,"3"x,3,4\n', r"line 3: not CSV"),
    (f"{HEAD}1,2,3,4\r5,6,7,8\r".replace("\n", "\r"), r"line 1: a carriage return inside a line"),
    (f"{HEAD}1,2,3,4\n5,6\r,7,8\n", r"line 3: a carriage return inside a line"),
    (f"{HEAD}1,2,3,4\n1,{'x' * (3 << 20)},3,4\n", r"line 3: longer than 1,048,576 bytes"),
    (f"{HEAD}1,2,3,4\n1,{'x' * (1 << 18)},3,4\n", r"line 3: .* a field of more than 131,072 char"),
    (f'{HEAD}1,2,3,4\n1,"{"x" * (1 << 18)}",3,4\n', r"line 3: a quote that is opened"),
    ("", r"no ratings found: the file is empty"),
    (HEAD, r"no ratings found, wanted a row for each"),
    ("\n\n", r"no ratings found: the file is empty"),
    ("1,2,3,4\n5,6,7,8\n", r"line 1: missing columns user, item; found 1, 2, 3, 4; .*--no-header"),
    ("name,item\n1,2\n", r"line 1: missing column user; found name, item; name them: --columns"),
    ("user;item\n1;2\n", r"missing columns user, item; .*set apart by ';': write commas"),
    ("user::item\n1::2\n", r"missing columns user, item; .*set apart by '::': write commas"),
    ("user item\n1 2\n", r"missing columns user, item; .*set apart by ' ': write commas"),
    (f"{HEAD}1,2,3,4\nN/A,3,3,4\n", r"line 3: user: found 'N/A', which marks a missing one"),
    (f'{HEAD}1,2,"3,5",4\n', r"line 2: rating: found '3,5', .*; write a point instead"),
    (f"{HEAD}1,2,3,1.5e9\n", r"line 2: time: found '1.5e9', .*; repair the line, or write all"),
    ("user\titem\n1\t2\n", r"missing columns user, item; .*: --format tsv"),
    (
        f"{HEAD}1,2,3,4\n5,6,7,8\n1,2,9,9\n",
        r"line 4: user 1 and item 2 stand in line 2 already; .*: 1;",
    ),
    (zipped(f"{HEAD}1,2,3,4\n".encode())[:-9], r"the gzip file is damaged or cut off"),
    (zipped(f"{HEAD}1,2,3,4\n".encode()) + b"more", r"the gzip file is damaged or cut off"),
]


@pytest.mark.parametrize(("text", "told"), FAULTS)
def test_what_is_wrong_is_one_line_with_its_place_and_nothing_is_left(
    text: str | bytes, told: str, tmp_path: Path, data: DataDir
) -> None:
    with pytest.raises(DataIntegrityError, match=told) as caught:
        brought(data, written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert [p for p in data.root.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("column", [*("user", "item"), "user2"])
def test_a_column_that_stands_there_twice_is_refused(
    column: str, tmp_path: Path, data: DataDir
) -> None:
    path = written(tmp_path, f"user,item,{column}\n1,2,3\n")
    if column == "user2":
        brought(data, path)
        return
    for columns in ("", "user=user,item=item"):
        with pytest.raises(DataIntegrityError, match=f"the column {column} stands there twice"):
            brought(data, path, columns=columns)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ratings": "a.txt"}, r"a\.txt: its name does not tell the format; add --format csv"),
        ({"format": "cvs"}, r"unknown value of --format: 'cvs'; did you mean 'csv'"),
        ({"columns": "user"}, r"'user': wanted ROLE=COLUMN"),
        ({"columns": "usr=a,item=b"}, r"unknown role in --columns: 'usr'; did you mean 'user'"),
        ({"columns": "user=a"}, r"wanted item as well"),
        ({"columns": "user=a,item=a"}, r"a role or a column twice"),
        ({"columns": "user=a,user=b,item=c"}, r"a role or a column twice"),
        ({"columns": "user=a,item=b,time=c", "held_out": "random"}, r"time=c: wanted one of them"),
        ({"columns": "user=a,item=b", "held_out": "latest"}, r"wanted a time=COLUMN"),
        ({"columns": "user=a,item=b", "positive_from": "3"}, r"wanted a rating=COLUMN"),
        ({"positive_from": "x"}, r"--positive-from x: wanted a number"),
        ({"positive_from": "nan"}, r"--positive-from nan: wanted a number"),
        ({"header": False}, r"--no-header: wanted the positions of the columns"),
        ({"header": False, "columns": "user=a,item=b"}, r"--no-header: wanted the positions"),
        ({"held_out_seed": -1}, r"--held-out-seed -1"),
        ({"held_out_seed": 5}, r"--held-out-seed 5: wanted --held-out random as well"),
        ({"duplicates": "keep"}, r"unknown value of --duplicates: 'keep'"),
    ],
)
def test_options_that_are_wrong_are_said_before_anything_is_read(
    given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        options.request({"ratings": "absent.csv", **given})


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"columns": "user=a,item=b"}, "--columns"),
        ({"positive_from": "4"}, "--positive-from"),
        ({"duplicates": "first"}, "--duplicates"),
        ({"header": False}, "--no-header"),
        ({"held_out": "random"}, "--held-out"),
    ],
)
def test_options_of_own_ratings_change_no_other_dataset(given: dict[str, Any], option: str) -> None:
    as_left = {"header": True, "duplicates": "refuse", "held_out_seed": 0, "columns": None}
    assert options.request(as_left) is None
    with pytest.raises(ConfigError, match=f"{option}: .*wanted --ratings FILE as well"):
        options.request(as_left | given)


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        (HEAD, "user=User,item=item", "missing column User; .*; check --columns; capitals count"),
        (HEAD, "user=1,item=2", "missing columns 1, 2; .*; positions are for files without"),
    ],
)
def test_columns_that_were_named_and_are_not_there_are_advised_about(
    text: str, columns: str, told: str, tmp_path: Path, data: DataDir
) -> None:
    with pytest.raises(DataIntegrityError, match=told):
        brought(data, written(tmp_path, text), columns=columns)


def test_a_position_beyond_the_columns_names_what_sets_them_apart(
    tmp_path: Path, data: DataDir
) -> None:
    path = written(tmp_path, "1;2\n")
    with pytest.raises(DataIntegrityError, match=r"item=2: columns in it: 1; .*apart by ';'"):
        brought(data, path, header=False, columns="user=1,item=2")


def test_names_with_a_line_end_stay_in_their_line(
    tmp_path: Path, data: DataDir, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, '"us\ner",item\n1,2\n', "a\nb.csv")
    brought(data, path, columns="user=us\ner,item=item")
    said = capsys.readouterr()
    text = said.out + said.err
    assert r"read a\nb.csv" in text
    assert r"download: a\nb.csv: columns user=us\ner, item=item; held out" in text


def test_no_file_of_somebody_else_is_replaced(tmp_path: Path, data: DataDir) -> None:
    folder = data.raw("mine")
    folder.mkdir(parents=True)
    inside = written(folder, TWICE, "ratings.csv")
    with pytest.raises(ConfigError, match=r"ratings\.csv: it stands in .*; move it elsewhere"):
        brought(data, inside, duplicates="last")
    assert inside.read_text() == TWICE
    inside.rename(folder / "notes.csv")
    outside = written(tmp_path, TWICE)
    with pytest.raises(ConfigError, match=r"has a file that is not of one: notes\.csv"):
        brought(data, outside, duplicates="last")
    (folder / "notes.csv").unlink()
    folder.rmdir()
    folder.write_text("no folder")
    with pytest.raises(ConfigError, match="mine: no folder; move it elsewhere"):
        brought(data, outside, duplicates="last")
    assert folder.read_text() == "no folder"
    folder.unlink()
    for duplicates in ("first", "last"):
        assert brought(data, outside, duplicates=duplicates)


TWICE = f"{HEAD}1,2,1,40\n1,3,5,30\n1,2,5,20\n4,2,3,10\n1,2,4,50\n"


@pytest.mark.parametrize(
    ("duplicates", "kept"),
    [
        ("first", [["1", "2", "1.0", "40"], ["1", "3", "5.0", "30"], ["4", "2", "3.0", "10"]]),
        ("last", [["1", "3", "5.0", "30"], ["4", "2", "3.0", "10"], ["1", "2", "4.0", "50"]]),
    ],
)
def test_of_a_repeated_pair_one_row_stays(
    duplicates: str, kept: list[list[str]], tmp_path: Path, data: DataDir
) -> None:
    assert brought(data, written(tmp_path, TWICE), duplicates=duplicates) == kept
    assert (own(data).rows_read, own(data).rows_kept, own(data).repeated_pairs) == (5, 3, 2)


def test_ratings_count_from_the_one_that_is_stated_on_and_repeated_pairs_are_resolved_first(
    tmp_path: Path, data: DataDir
) -> None:
    rows = brought(data, written(tmp_path, TWICE), duplicates="first", positive_from="3")
    assert rows == [["1", "3", "5.0", "30"], ["4", "2", "3.0", "10"]]
    assert (own(data).repeated_pairs, own(data).below_positive_from) == (2, 1)
    assert (own(data).users, own(data).items) == (2, 2)
    with pytest.raises(DataIntegrityError, match=r"none of 5 ratings is 9 or more"):
        brought(data, written(tmp_path, TWICE), duplicates="first", positive_from="9")


def test_decimal_ratings_are_compared_as_they_are_written(tmp_path: Path, data: DataDir) -> None:
    text = f"{HEAD}1,2,0.1,1\n1,3,0.3,1\n1,4,0.30000000000000004,1\n"
    assert len(brought(data, written(tmp_path, text), positive_from="0.3")) == 2


def last_items(data: DataDir) -> dict[int, int]:
    """User -> held-out item, as preprocess takes it."""
    spec = SplitSpec("mine", min_ratings=2)
    cache = open_cache(split.run(spec, data), verify=True)
    held_out = cache.item_ids[cache.test_items]
    return dict(zip(cache.user_ids.tolist(), held_out.tolist(), strict=True))


NO_TIME = "user,item\n" + "".join(f"{u},{(7 * u + i) % 50}\n" for i in range(20) for u in range(9))


def test_without_times_the_last_in_the_file_is_held_out(tmp_path: Path, data: DataDir) -> None:
    brought(data, written(tmp_path, NO_TIME))
    assert own(data).held_out == "the last in the file"
    assert last_items(data) == {u: (7 * u + 19) % 50 for u in range(9)}


def splitmix64(seed: int, row: int) -> int:
    """The hash of a row, in Python's own integers: the same everywhere and for ever."""
    begin = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8], "little")
    mixed = (begin + (row + 1) * 0x9E3779B97F4A7C15) % 2**64
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
    return mixed ^ mixed >> 31


def test_one_at_random_depends_on_the_seed_alone(tmp_path: Path, data: DataDir) -> None:
    path = written(tmp_path, NO_TIME)
    found = []
    for seed in (0, 0, 1):
        brought(data, path, held_out="random", held_out_seed=seed)
        found.append(last_items(data))
    assert found[0] == found[1] != found[2]
    assert own(data).held_out == "one at random, seed 1"
    drawn: dict[int, tuple[int, int]] = {}
    for row, line in enumerate(NO_TIME.splitlines()[1:]):
        user, item = map(int, line.split(","))
        drawn[user] = max(drawn.get(user, (-1, 0)), (splitmix64(0, row) >> 1, item))
    assert found[0] == {user: item for user, (_, item) in drawn.items()}


def test_every_item_of_a_user_can_be_the_one_at_random(tmp_path: Path, data: DataDir) -> None:
    path = written(tmp_path, "user,item\n" + "".join(f"1,{item}\n" for item in range(4)))
    found = set()
    for seed in range(12):
        brought(data, path, held_out="random", held_out_seed=seed)
        found |= set(last_items(data).values())
    assert found == {0, 1, 2, 3}


def test_a_time_is_left_aside_when_another_rule_is_asked_for(tmp_path: Path, data: DataDir) -> None:
    rows = brought(data, written(tmp_path, TWICE), duplicates="last", held_out="last")
    assert [row[3] for row in rows] == ["1", "3", "4"]
    assert "time" not in own(data).columns


def test_the_description_names_the_data(tmp_path: Path, data: DataDir) -> None:
    path = written(tmp_path, zipped(TWICE.replace("1,2", "a,2").encode()), "mine.csv.gz")
    brought(data, path, duplicates="last", positive_from=2)
    described = json.loads((data.raw("mine") / DESCRIPTION).read_text())["own"]
    assert described == json.loads(data.manifest("mine").read_text())["own"]
    assert described["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert described["options"]["positive_from"] == 2.0
    names = ("file", "packed", "rows_read", "rows_kept", "users", "items", "user_ids", "item_ids")
    found = [described[name] for name in names]
    assert found == ["mine.csv.gz", True, 5, 3, 3, 2, "text", "whole numbers"]
    users = data.raw("mine") / "users.csv"
    assert described["mappings"] == {"users.csv": hashlib.sha256(users.read_bytes()).hexdigest()}


def everything(data: DataDir) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in data.raw("mine").iterdir()}


def test_the_same_file_and_options_give_the_same_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, NO_TIME.replace("1,", "a,"))
    found = []
    for name in ("here", "there"):
        data = DataDir(tmp_path / name)
        data.root.mkdir()
        brought(data, path, duplicates="first", held_out="random")
        split.run(SplitSpec("mine", min_ratings=2), data)
        cache = [p for p in data.caches.glob("*/*") if "compliance" not in p.name]
        arrays = {path.name: path.read_bytes() for path in cache}
        found.append((everything(data), arrays))
    assert found[0] == found[1]
    assert "cache.json" in found[0][1]


def test_what_is_complete_is_left_and_what_is_not_is_made_again(
    tmp_path: Path, data: DataDir, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, TWICE.replace("1,2", "a,2"))
    brought(data, path, duplicates="last")
    whole = everything(data)
    for name in (None, *sorted(whole)):
        if name:
            (data.raw("mine") / name).unlink()
        capsys.readouterr()
        brought(data, path, duplicates="last")
        assert ("complete and unchanged" in capsys.readouterr().err) == (name is None)
        assert everything(data) == whole
    for name in ("users.csv", "ratings.csv"):
        (data.raw("mine") / name).write_bytes(b"damaged")
        brought(data, path, duplicates="last")
        assert everything(data) == whole
    brought(data, path, duplicates="first")
    assert everything(data) != whole


def test_another_file_takes_the_place_of_the_first_and_a_damaged_one_does_not(
    tmp_path: Path, data: DataDir
) -> None:
    brought(data, written(tmp_path, f"{HEAD}1,2,3,4\n"))
    before = everything(data)
    with pytest.raises(DataIntegrityError):
        brought(data, written(tmp_path, f"{HEAD}1,2,3\n"))
    assert everything(data) == before
    brought(data, written(tmp_path, f"{HEAD}1,2,3,5\n"))
    assert everything(data) != before


@pytest.mark.parametrize("kind", ["absent", "folder"])
def test_a_file_that_is_none_is_named(kind: str, tmp_path: Path, data: DataDir) -> None:
    path = tmp_path / "mine.csv"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(MachineError, match=r"mine\.csv: not"):
        brought(data, path)


def test_the_stated_sha256_is_that_of_the_file(tmp_path: Path, data: DataDir) -> None:
    path = written(tmp_path, TWICE)
    asked = options.request({"ratings": str(path), "duplicates": "last"})
    assert asked is not None
    with pytest.raises(DataIntegrityError, match="stated with --sha256 is aaaa"):
        bring.bring("mine", asked, data, "a" * 64)
    stated = hashlib.sha256(path.read_bytes()).hexdigest().upper()
    assert bring.bring("mine", asked, data, stated).own is not None


@pytest.mark.parametrize("name", ["ml-1m", "synthetic", "ml-99m", "movielens-x", "ml_20m", "m 1"])
def test_own_ratings_take_no_name_that_looks_published(
    name: str, tmp_path: Path, data: DataDir
) -> None:
    asked = options.request({"ratings": str(written(tmp_path, TWICE))})
    assert asked is not None
    with pytest.raises(ConfigError):
        bring.bring(name, asked, data)


@pytest.mark.parametrize("name", ["own", "books", "lastfm-360K", "mlb.games", "x"])
def test_other_names_are_own_ratings(name: str) -> None:
    assert dataset(name).own


def test_verify_finds_what_was_changed(tmp_path: Path, data: DataDir) -> None:
    brought(data, written(tmp_path, TWICE.replace("1,2", "a,2")), duplicates="last")
    assert all(check.ok for check in archive.verify(dataset("mine"), data))
    (data.raw("mine") / "users.csv").write_text("number,id\n1,b\n")
    failed = [check.name for check in archive.verify(dataset("mine"), data) if not check.ok]
    assert failed == ["users.csv sha256"]


def arrays_of(cache: RatingsCache, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    return {name: getattr(cache, name).tobytes() for name in ARRAYS if name not in but}


@pytest.mark.parametrize("tie_break", ["stable", "reference"])
def test_a_dataset_given_as_own_ratings_has_the_same_cache(
    tie_break: str, tmp_path: Path, data: DataDir
) -> None:
    size = SyntheticSize(users=60, items=80, ratings=2_000)
    synthetic.generate(size, data)
    spec = SplitSpec("synthetic", size, tie_break=tie_break)
    wanted = open_cache(split.run(spec, data), verify=True)
    made = data.raw("synthetic") / "ratings.csv"
    brought(data, made)
    found = open_cache(split.run(SplitSpec("mine", tie_break=tie_break), data), verify=True)
    assert arrays_of(found) == arrays_of(wanted)
    named = made.read_text().replace("\n", "\nu")[:-1]
    brought(data, written(tmp_path, named, "named.csv"))
    found = open_cache(split.run(SplitSpec("mine", tie_break=tie_break), data), verify=True)
    assert arrays_of(found, ("user_ids",)) == arrays_of(wanted, ("user_ids",))
    assert np.array_equal(found.user_ids, np.arange(1, 61))


def test_ml_1m_given_as_own_ratings_has_the_same_cache(
    shared_dir: Path, tmp_path: Path, data: DataDir
) -> None:
    path = shared_dir / "data" / "ml-1m.zip"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    archive.download(dataset("ml-1m"), data, archive=path, sha256=sha256)
    wanted = open_cache(split.run(SplitSpec("ml-1m", tie_break="reference"), data), verify=True)
    text = (data.raw("ml-1m") / "ratings.dat").read_bytes().replace(b"::", b",")
    mine = written(tmp_path, b"userId,movieId,rating,timestamp\n" + text)
    brought(data, mine)
    found = open_cache(split.run(SplitSpec("mine", tie_break="reference"), data), verify=True)
    assert arrays_of(found) == arrays_of(wanted)
    assert (own(data).users, own(data).items, own(data).rows_kept) == (6_040, 3_706, 1_000_209)


@pytest.mark.parametrize(
    ("rows", "settings", "told"),
    [
        ([(1, i) for i in range(19)], [], r"none of 1 users has 20 ratings, the most .* are 19"),
        (
            [(u, u) for u in range(30)],
            ["min_ratings=1"],
            r"each of 30 users has 1 rating, which is",
        ),
        ([(u, 1) for u in range(30)], ["min_ratings=1"], r"each of 30 users has 1 rating"),
        ([(u, i) for u in range(9) for i in range(10)], ["min_ratings=2"], r"10 items of 9 users"),
        (
            [(u, (u + i) % 14) for u in range(9) for i in range(5)],
            ["min_ratings=2"],
            r"none of 9 users has 10 items that it did not rate, the most are 8 of 13",
        ),
        ([(1, 1)], ["min_ratings=1"], r"each of 1 users has 1 rating"),
    ],
)
def test_nothing_to_train_on_is_said_at_preprocess(
    rows: list[tuple[int, int]], settings: list[str], told: str, tmp_path: Path, data: DataDir
) -> None:
    text = "user,item\n" + "".join(f"{user},{item}\n" for user, item in rows)
    config = NCF.with_settings(NCF.preset("reference"), ["dataset=mine", *settings])
    source = Source(own={"ratings": str(written(tmp_path, text))})
    steps.download(config, data, source)
    with pytest.raises(DataIntegrityError, match=told):
        steps.prepare(config, data)
    assert not data.caches.exists() or not any(data.caches.iterdir())


def test_own_ratings_are_of_the_open_division_and_have_no_target(tmp_path: Path) -> None:
    config = NCF.with_settings(NCF.preset("mlperf"), ["dataset=mine"])
    assert (config.division, config.target_hit_rate) == ("open", None)
    assert NCF.task(config) == "own ratings 'mine'"
    assert NCF.label(config) == "own-mine"
    with pytest.raises(ConfigError, match="closed division has MovieLens alone"):
        NCF.with_settings(NCF.preset("mlperf"), ["dataset=mine", "division=closed"])
    given = NCF.with_settings(NCF.preset("ml-1m"), ["dataset=mine", "target_hit_rate=0.3"])
    assert given.target_hit_rate == 0.3


def test_own_ratings_that_are_not_there_are_no_known_dataset(data: DataDir) -> None:
    config = NCF.with_settings(NCF.preset("reference"), ["dataset=mine"])
    told = r"unknown dataset 'mine' .*run download --ratings FILE --dataset mine first"
    for step in (steps.download, steps.prepare, steps.inputs):
        with pytest.raises(ConfigError, match=told):
            step(config, data)


def test_own_ratings_and_what_is_about_a_server_exclude_each_other(
    tmp_path: Path, data: DataDir
) -> None:
    config = NCF.with_settings(NCF.preset("reference"), ["dataset=mine"])
    own_source = {"ratings": str(written(tmp_path, TWICE))}
    with pytest.raises(ConfigError, match="wanted one of them, found both"):
        steps.download(config, data, Source(mirror="x", own=own_source))
    with pytest.raises(ConfigError, match="--ratings and --hash-decides: wanted one of them"):
        steps.download(config, data, Source(hash_decides=True, own=own_source))
