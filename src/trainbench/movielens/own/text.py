"""Reads CSV and TSV, plain or gzip, block by block; what is wrong is told with its line.

CSV is as RFC 4180 has it: commas, fields in double quotes where they need them. TSV has no quotes:
what stands between two tabs is the field.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import numpy.typing as npt

from trainbench.errors import DataIntegrityError
from trainbench.files import named
from trainbench.movielens.own.options import Request, taken_columns

Number = TypeVar("Number", bound=np.generic)
BLOCK_ROWS = 1 << 16
MOST_LINE_BYTES = 1 << 20
_MAGIC = {
    b"PAR1": "a Parquet file; add --format parquet",
    b"PK\x03\x04": "a zip archive (or a spreadsheet); unpack it, or save it as CSV",
    b"\xff\xfe": "UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
    b"\xfe\xff": "UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it, or pack it with gzip",
    b"BZh": "packed with bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz; unpack it, or pack it with gzip",
}


@dataclass(frozen=True)
class Block:
    """Some rows in their order.

    users, items: ids as they are written; times: int64[n]; ratings: float64[n]; places: int64[n],
    the line or row number of each.
    """

    users: Sequence[str]
    items: Sequence[str]
    times: npt.NDArray[np.int64] | None
    ratings: npt.NDArray[np.float64] | None
    places: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Opened:
    """A file whose columns are known. ``unit`` is what ``Block.places`` count."""

    columns: Mapping[str, str]
    packed: bool
    unit: str
    blocks: Iterator[Block]


def opened(asked: Request, on_bytes: Callable[[int], object] = lambda size: None) -> Opened:
    """The columns and the rows of a CSV or TSV file.

    Args:
        on_bytes: hears how many further bytes of the file were read.

    Raises:
        DataIntegrityError: not such a file, or without the columns; with its line.
    """
    path, packed = asked.path, _packed(asked.path)
    reader = csv.reader(
        _lines(path, packed, on_bytes),
        delimiter="\t" if asked.format == "tsv" else ",",
        quoting=csv.QUOTE_NONE if asked.format == "tsv" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    rows = _rows(path, reader)
    first = next(rows, None)
    if first is None:
        raise DataIntegrityError(f"{path}: no ratings found: the file is empty")
    if asked.header:
        names = [name.strip() for name in first[1]]
        columns = taken_columns(asked, names, f"{path}, line 1", _advice(names))
        places = {role: names.index(name) for role, name in columns.items()}
    else:
        columns = dict(asked.columns)
        places = _by_position(path, columns, len(first[1]))
        rows = _chained(first, rows)
    wanted = _Columns(path, places, len(first[1]), columns, asked.format)
    return Opened(columns, packed, "line", wanted.blocks(rows))


def _packed(path: Path) -> bool:
    with named(path), path.open("rb") as file:
        begin = file.read(8)
    for magic, said in _MAGIC.items():
        if begin.startswith(magic):
            raise DataIntegrityError(f"{path}: {said}")
    return begin.startswith(b"\x1f\x8b")


def _lines(path: Path, packed: bool, on_bytes: Callable[[int], object]) -> Iterator[str]:
    number = seen = 0
    with path.open("rb") as raw:
        file: IO[bytes] = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw
        while line := _line(path, file, number + 1):
            number += 1
            if number % BLOCK_ROWS == 0:
                on_bytes(raw.tell() - seen)
                seen = raw.tell()
            yield _text(path, line, number)
        on_bytes(raw.tell() - seen)


def _line(path: Path, file: IO[bytes], number: int) -> bytes:
    try:
        with named(path):
            line = file.readline(MOST_LINE_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataIntegrityError(
            f"{path}, line {number:,}: the gzip file is damaged or cut off ({error}); pack it again"
        ) from None
    if len(line) > MOST_LINE_BYTES:
        raise DataIntegrityError(
            f"{path}, line {number:,}: longer than {MOST_LINE_BYTES:,} bytes; wanted a rating on "
            "each line"
        )
    return line


def _text(path: Path, line: bytes, number: int) -> str:
    if b"\0" in line:
        raise DataIntegrityError(
            f"{path}, line {number:,}: a null byte; wanted text in UTF-8; repair or remove the line"
        )
    if number == 1 and line.startswith(b"\xef\xbb\xbf"):  # A byte order mark.
        line = line[3:]
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        found = line[:80].decode("ascii", "backslashreplace")
        raise DataIntegrityError(
            f"{path}, line {number:,}: not UTF-8 from byte {error.start + 1} of the line on: found "
            f"{found!r}; convert the file: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
        ) from None


def _rows(path: Path, reader: csv._reader) -> Iterator[tuple[int, list[str]]]:  # type: ignore[name-defined]
    """(line on which it begins, fields) of every row that is not blank."""
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataIntegrityError(f"{path}, line {line:,}: {_explained(str(error))}") from None


def _explained(said: str) -> str:
    if "new-line character" in said:
        return (
            "a carriage return inside a line; write a newline instead, with tr '\\r' '\\n' for "
            "example"
        )
    if "field larger" in said or "end of data" in said:
        return "a quote that is opened and not closed; close it, or double it inside a field"
    return f"not CSV ({said}); put a field with a quote in it into quotes, and double the quote"


def _chained(
    first: tuple[int, list[str]], rows: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rows


def _advice(names: Sequence[str]) -> str:
    if any(name.replace(".", "", 1).isdigit() for name in names):
        return "is there no header? then add --no-header --columns user=1,item=2,..."
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|,"):
        other = "--format tsv" if "\t" in names[0] else "--format csv"
        mark = next(mark for mark in ";\t|," if mark in names[0])
        use = other if mark in "\t," else f"write commas instead of {mark}"
        return f"the columns seem to be set apart by {mark!r}: {use}"
    return "name them: --columns user=COLUMN,item=COLUMN,time=COLUMN,rating=COLUMN"


def _by_position(path: Path, columns: Mapping[str, str], width: int) -> dict[str, int]:
    places = {role: int(position) - 1 for role, position in columns.items()}
    far = [role for role, place in places.items() if place >= width]
    if far:
        raise DataIntegrityError(
            f"{path}, line 1: {far[0]}={columns[far[0]]}: there are {width} columns"
        )
    return places


@dataclass(frozen=True)
class _Columns:
    """Where the wanted fields stand in a row of ``width`` fields."""

    path: Path
    places: Mapping[str, int]
    width: int
    names: Mapping[str, str]
    format: str

    def blocks(self, rows: Iterator[tuple[int, list[str]]]) -> Iterator[Block]:
        block: list[list[str]] = []
        lines: list[int] = []
        for line, row in rows:
            if len(row) != self.width:
                yield from self._block(block, lines)  # What is wrong before it is told first.
                raise self._ragged(line, row)
            block.append(row)
            lines.append(line)
            if len(block) == BLOCK_ROWS:
                yield from self._block(block, lines)
                block, lines = [], []
        yield from self._block(block, lines)

    def _ragged(self, line: int, row: list[str]) -> DataIntegrityError:
        mark = "\t" if self.format == "tsv" else ","
        return DataIntegrityError(
            f"{self.path}, line {line:,}: {len(row)} field{'s' * (len(row) != 1)} instead of "
            f"{self.width}: found {mark.join(row)[:80]!r}; repair or remove the line"
        )

    def _block(self, rows: list[list[str]], lines: list[int]) -> Iterator[Block]:
        if not rows:
            return
        fields = {role: [row[at] for row in rows] for role, at in self.places.items()}
        times, ratings = fields.get("time"), fields.get("rating")
        yield Block(
            users=fields["user"],
            items=fields["item"],
            times=None if times is None else self._numbers("time", times, lines, _whole),
            ratings=None if ratings is None else self._numbers("rating", ratings, lines, _finite),
            places=np.array(lines, dtype=np.int64),
        )

    def _numbers(
        self,
        role: str,
        texts: list[str],
        lines: list[int],
        parse: Callable[[Sequence[str]], npt.NDArray[Number]],
    ) -> npt.NDArray[Number]:
        try:
            return parse(texts)
        except (ValueError, OverflowError):
            pass
        for text, line in zip(texts, lines, strict=True):
            try:
                parse([text])
            except (ValueError, OverflowError):
                wanted = "a whole number of 64 bits" if role == "time" else "a finite number"
                raise DataIntegrityError(
                    f"{self.path}, line {line:,}: {self.names[role]}: found "
                    f"{text[:80]!r}, wanted {wanted}{_hint(role, text)}; repair or remove the line"
                ) from None
        raise AssertionError("a block that cannot be read, all of whose rows can")


def _hint(role: str, text: str) -> str:
    if role == "time" and text.strip()[4:5] == "-":
        return ", as seconds since 1970"
    return ""


_WHOLE = set("0123456789+- \t")
_FINITE = _WHOLE | set(".eE")


def _whole(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    # int takes more than numbers: 1_000, and digits of other scripts.
    if not set("".join(texts)) <= _WHOLE:
        raise ValueError
    return np.array(list(map(int, texts)), dtype=np.int64)


def _finite(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    if not set("".join(texts)) <= _FINITE:
        raise ValueError
    found = np.array(list(map(float, texts)), dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(math.nan)
    return found
