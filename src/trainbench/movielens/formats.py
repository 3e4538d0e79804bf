"""Readers of the MovieLens layouts: a ratings file in, three arrays out.

Ratings are implicit feedback: that a user rated an item counts, the value does not. It is parsed
all the same, because a line whose rating is not a number is damaged.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainbench.errors import DataIntegrityError
from trainbench.files import named
from trainbench.movielens.datasets import Counts, Layout

COLUMNS = ("userId", "movieId", "rating", "timestamp")
BLOCK_BYTES = 32 << 20
MOST_LINE_BYTES = 256 << 20
# What a whole number is follows from the text alone: asked for int64, pandas takes 1.0 and 1e18.
_DTYPES = {"rating": "float64"}
_IDS = ("userId", "movieId", "timestamp")
_CONVERT = "write a newline instead, with tr '\\r' '\\n' for example"
# Spaces as C has them, which pandas passes over; \s has more.
_INTEGER = re.compile(r"[ \t\v\f\r]*[+-]?[0-9]{1,19}[ \t\v\f\r]*")


@dataclass(frozen=True)
class Ratings:
    """Ratings in file order, under the dataset's own ids.

    users, items: int64[n]; timestamps: int64[n], seconds since 1970; sha256: of the file's bytes.
    """

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.int64]
    sha256: str = ""

    def __len__(self) -> int:
        """Number of ratings."""
        return len(self.users)


@dataclass(frozen=True)
class _Block:
    """Whole lines of a file: their bytes and the number of the first one."""

    text: bytes
    first_line: int


def read_ratings(
    path: Path, layout: Layout, *, on_block: Callable[[int], object] = lambda size: None
) -> Ratings:
    """Every rating of ``path``, read in blocks of 32 MiB.

    A header layout may have its columns in any order and more of them than the four wanted.
    ``on_block`` hears of every block's size in bytes.

    Raises:
        DataIntegrityError: a missing column (named), a bad row (with its line number), no rating.
    """
    digest = hashlib.sha256()
    parts = list(rating_blocks(path, layout, digest.update, on_block=on_block))
    users, items, timestamps = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Ratings(users, items, timestamps, digest.hexdigest())


def rating_blocks(
    path: Path,
    layout: Layout,
    on_bytes: Callable[[bytes], object] = lambda text: None,
    *,
    on_block: Callable[[int], object] = lambda size: None,
) -> Iterator[tuple[npt.NDArray[np.int64], ...]]:
    """Users, items and timestamps of the ratings of ``path``, 32 MiB of it after the other.

    ``on_bytes`` hears of all bytes of the file.

    Raises:
        DataIntegrityError: as ``read_ratings``.
    """
    columns: tuple[str, ...] = COLUMNS
    found = False
    for block in _blocks(path):
        on_bytes(block.text)
        on_block(len(block.text))
        if layout.header and block.first_line == 1:
            header, _, body = block.text.partition(b"\n")
            columns = _header(path, header.decode("utf-8-sig", "replace"), layout.separator)
            block = _Block(body, 2)
        if block.text.strip():
            found = True
            yield _parse(path, block, layout.separator, columns)
    if not found:
        raise DataIntegrityError(f"{path}: no ratings found, wanted lines of {', '.join(COLUMNS)}")


def _blocks(path: Path) -> Iterator[_Block]:
    """The file in pieces that end at a line's end."""
    line, rest = 1, b""
    with named(path), path.open("rb") as file:
        while text := file.read(BLOCK_BYTES):
            whole, newline, tail = text.rpartition(b"\n")
            if not newline:
                rest += text
                if len(rest) > MOST_LINE_BYTES:
                    why = _CONVERT if b"\r" in rest else "repair or remove the line"
                    raise DataIntegrityError(
                        f"{path}, line {line}: longer than {MOST_LINE_BYTES >> 20} MiB; {why}"
                    )
                continue
            block = _Block(rest + whole + newline, line)
            rest, line = tail, line + block.text.count(b"\n")
            yield block
    if rest:
        yield _Block(rest, line)


def _header(path: Path, text: str, separator: str) -> tuple[str, ...]:
    if "\r" in text.removesuffix("\r"):
        raise DataIntegrityError(
            f"{path}, line 1: lines end with a carriage return alone; {_CONVERT}"
        )
    found = tuple(name.strip().strip('"') for name in text.strip().split(separator))
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise DataIntegrityError(
            f"{path}, line 1: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"found {', '.join(found)[:200] or 'nothing'}; wanted {', '.join(COLUMNS)}"
        )
    if len(set(found)) < len(found):
        raise DataIntegrityError(f"{path}, line 1: a column name twice: {', '.join(found)[:200]}")
    return found


def _parse(
    path: Path, block: _Block, separator: str, columns: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], ...]:
    """users, items and timestamps of one block through pandas' C parser."""
    text, mark = block.text, separator
    # pandas ends a line at a lone carriage return, and a field at a null byte.
    lone = b"\r" in text and text.count(b"\r") != text.count(b"\r\n")
    if lone or b"\0" in text:
        raise _bad_line(path, block, separator, columns)
    if len(separator) > 1:
        # The C parser wants one character, and a byte replacement is 20 times as fast as the
        # parser that takes two.
        if b"," in text:
            raise _bad_line(path, block, separator, columns)
        text, mark = text.replace(separator.encode(), b","), ","
    try:
        with warnings.catch_warnings():
            # Numbers and words in one column: the line is named below.
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)
            frame = pd.read_csv(
                io.BytesIO(text),
                sep=mark,
                header=None,
                names=list(columns),
                dtype=_DTYPES,
                quoting=csv.QUOTE_NONE,
                na_filter=False,
            )
    except (ValueError, OverflowError):  # pandas' own parser errors are ValueErrors
        raise _bad_line(path, block, separator, columns) from None
    # Lines that are all too long end up in the index.
    exact = isinstance(frame.index, pd.RangeIndex) and (frame.dtypes[list(_IDS)] == "int64").all()
    if not exact or not np.isfinite(frame["rating"]).all():
        raise _bad_line(path, block, separator, columns)
    return tuple(frame[name].to_numpy() for name in _IDS)


def _bad_line(
    path: Path, block: _Block, separator: str, columns: tuple[str, ...]
) -> DataIntegrityError:
    """The error for the first line of ``block`` that is not a rating."""
    for number, raw in enumerate(block.text.split(b"\n"), start=block.first_line):
        line = raw.decode("utf-8", "backslashreplace").removesuffix("\r")
        fault = _fault(line, separator, columns) if line else None
        if fault:
            return DataIntegrityError(
                f"{path}, line {number}: {fault}: found {line[:80]!r}, "
                f"wanted {separator.join(columns)}; repair or remove the line"
            )
    return DataIntegrityError(
        f"{path}: lines from {block.first_line} on cannot be read as {separator.join(columns)}"
    )


def _fault(line: str, separator: str, columns: tuple[str, ...]) -> str | None:
    if "\r" in line:
        return f"a carriage return inside a line; {_CONVERT}"
    if "\0" in line:
        return "a null byte"
    fields = line.split(separator)
    if len(fields) != len(columns):
        return f"{len(fields)} field{'s' * (len(fields) != 1)} instead of {len(columns)}"
    for name, field in zip(columns, fields, strict=True):
        if name == "rating" and not _is_finite(field):
            return "rating is not a number"
        if name in COLUMNS and name != "rating" and not _is_int64(field):
            return f"{name} is not a whole number of 64 bits"
    return None


def _is_finite(field: str) -> bool:
    try:
        return math.isfinite(float(field))
    except ValueError:
        return False


def _is_int64(field: str) -> bool:
    return bool(_INTEGER.fullmatch(field)) and -(2**63) <= int(field) < 2**63


def check_counts(path: Path, ratings: Ratings, counts: Counts) -> None:
    """Raise ``DataIntegrityError`` if ``ratings`` has other numbers than those published."""
    found = (len(pd.unique(ratings.users)), len(pd.unique(ratings.items)), len(ratings))
    require_counts(path, Counts(*found), counts)


def require_counts(path: Path, found: Counts, counts: Counts) -> None:
    """Raise ``DataIntegrityError`` if ``found`` are other numbers than those published."""
    items = found.items
    if replace(found, items=None if counts.items is None else items) != counts:
        wanted = "any number of" if counts.items is None else f"{counts.items:,}"
        raise DataIntegrityError(
            f"{path}: found {found.users:,} users, {items:,} items, {found.ratings:,} ratings; "
            f"published are {counts.users:,}, {wanted} and {counts.ratings:,}; "
            "delete the file and run download again"
        )


def check_pairs(path: Path, ratings: Ratings) -> None:
    """Raise ``DataIntegrityError`` if a user rated an item twice; MovieLens never has that.

    A repeated pair could be held out and trained on at once, so it is refused, not repaired.
    """
    user_of, _ = pd.factorize(ratings.users)
    item_of, item_ids = pd.factorize(ratings.items)
    pairs = user_of * len(item_ids) + item_of
    in_order = np.sort(pairs)
    repeated = in_order[1:][in_order[1:] == in_order[:-1]]
    if len(repeated):
        first, second = (int(place) for place in np.flatnonzero(pairs == repeated[0])[:2])
        user, item = int(ratings.users[first]), int(ratings.items[first])
        raise repeated_pair(path, (first + 1, second + 1), user, item, len(repeated))


def repeated_pair(
    path: Path, places: tuple[int, int], user: int, item: int, count: int
) -> DataIntegrityError:
    """The error for ratings that repeat a pair: the first two of the first, and how many do."""
    return DataIntegrityError(
        f"{path}: ratings {places[0]:,} and {places[1]:,} are both of user {user} and item {item}; "
        f"{count:,} ratings in all repeat a pair; wanted one rating per user and item, remove the "
        "others"
    )
