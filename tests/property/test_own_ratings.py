"""Whatever ids and pairs a file has: no id is merged, rounded or lost, no pair is kept twice."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainbench.errors import DataIntegrityError
from trainbench.movielens.own import options
from trainbench.movielens.own.ids import TEXT, WHOLE, Ids
from trainbench.movielens.own.rows import Kept, kept_of, read

WHOLES = st.integers(-(2**63), 2**63 - 1).map(str)
# No id of spaces, none that marks a missing one, none that is half a number.
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1
).map(lambda text: f"x{text}")


def numbered(values: list[str], block: int) -> tuple[Ids, list[int]]:
    ids, numbers = Ids("user", "mine.csv", "line"), []
    for at in range(0, len(values), block):
        part = values[at : at + block]
        numbers += ids.number(part, np.arange(at, at + len(part), dtype=np.int64)).tolist()
    return ids, numbers


@given(st.lists(st.one_of(WHOLES, TEXTS), min_size=1), st.integers(1, 7))
def test_ids_are_numbered_by_first_appearance_and_come_back_as_they_were(
    values: list[str], block: int
) -> None:
    ids, numbers = numbered(values, block)
    order = list(dict.fromkeys(values))
    assert numbers == [order.index(value) for value in values]
    assert ids.of(np.array(numbers, dtype=np.int32)) == values
    assert ids.kind == (WHOLE if all(not value.startswith("x") for value in values) else TEXT)


@given(st.lists(WHOLES, min_size=1), st.sampled_from(["1.0", "-2.5", "1e3", ".5", "inf", "7."]))
def test_a_number_that_is_not_whole_is_refused_where_it_stands(
    values: list[str], other: str
) -> None:
    ids, _ = numbered([*values, other, *values, other], 3)
    with pytest.raises(DataIntegrityError, match=rf"line {len(values):,}: user: found"):
        _ = ids.kind
    ids, _ = numbered([*values, other, "a name"], 3)
    assert ids.kind == TEXT


PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def kept(text: str, duplicates: str) -> Kept:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.csv"
        path.write_bytes(text.encode())
        asked = options.request({"ratings": str(path), "duplicates": duplicates})
        assert asked is not None
        return kept_of(asked, read(asked, len(text)))[0]


@given(PAIRS, st.sampled_from(["first", "last"]))
def test_of_each_pair_the_first_or_the_last_row_stays_in_the_order_of_the_file(
    pairs: list[tuple[int, int]], duplicates: str
) -> None:
    text = "user,item,time\n" + "".join(f"{u},i{i},{n}\n" for n, (u, i) in enumerate(pairs))
    rows = list(enumerate(pairs))
    chosen = {pair: n for n, pair in (reversed(rows) if duplicates == "first" else rows)}
    found = kept(text, duplicates)
    users = [int(found.user_texts[n]) for n in found.users.tolist()]
    items = [int(found.item_texts[n][1:]) for n in found.items.tolist()]
    assert found.times.tolist() == sorted(chosen.values())
    assert list(zip(users, items, strict=True)) == [pairs[n] for n in sorted(chosen.values())]


@given(PAIRS)
def test_refused_is_the_first_row_that_repeats_a_pair(pairs: list[tuple[int, int]]) -> None:
    text = "user,item\n" + "".join(f"{user},{item}\n" for user, item in pairs)
    again = [n for n, pair in enumerate(pairs) if pair in pairs[:n]]
    if not again:
        assert len(kept(text, "refuse").users) == len(pairs)
        return
    first = pairs.index(pairs[again[0]])
    told = rf"line {again[0] + 2}: .* line {first + 2} already; .* a pair: {len(again)};"
    with pytest.raises(DataIntegrityError, match=told):
        kept(text, "refuse")


@given(st.lists(st.tuples(TEXTS, st.text(max_size=9)), min_size=1, max_size=20), st.booleans())
def test_csv_says_the_same_however_fields_are_quoted(
    rows: list[tuple[str, str]], quoted: bool
) -> None:
    rows = [(user, more.replace("\0", "").replace("\r", "")) for user, more in rows]
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerow(("note", "user", "item"))
    writer.writerows((more, user, n) for n, (user, more) in enumerate(rows))
    text = out.getvalue().encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    found = kept(text, "refuse")
    assert [found.user_texts[n] for n in found.users.tolist()] == [user for user, _ in rows]
