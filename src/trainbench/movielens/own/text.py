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
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trainbench.display.first_bytes import LENGTH, unread_format
from trainbench.errors import DataIntegrityError
from trainbench.files import named
from trainbench.movielens.own.options import NAME_THEM, Request, taken_columns

Number = TypeVar("Number", bound=np.generic)
BLOCK_ROWS = 1 << 16
MOST_LINE_BYTES = 1 << 20
_PART_BYTES = 1 << 20
_CARRIAGE_RETURN = "write a newline instead, with tr '\\r' '\\n' for example"
_GZIP = b"\x1f\x8b"
_MAGIC = {
    b"PAR1": "a Parquet file; add --format parquet",
    b"PK\x03\x04": "a zip archive (or a spreadsheet); unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet; save it as CSV",
    b"BZh": "packed with bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz; unpack it, or pack it with gzip",
    b'{"': "JSON; write it as CSV",
    b"[{": "JSON; write it as CSV",
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
    reader = _Reader(asked, packed, on_bytes)
    line, first = next(reader.rows(), (0, []))
    if not first:
        raise DataIntegrityError(f"{path}: no ratings found: the file is empty; use another")
    if asked.header:
        names = [name.strip() for name in first]
        columns = taken_columns(asked, names, f"{path}, line {line}", _advice(asked, names))
        places = {role: names.index(name) for role, name in columns.items()}
    else:
        columns = dict(asked.columns)
        places = _by_position(path, columns, first)
    wanted = _Columns(path, places, len(first), columns, asked.format)
    return Opened(columns, packed, "line", wanted.blocks(reader))


class _Reader:
    """The rows of a file, in blocks or one by one, and the lines that they begin in."""

    def __init__(self, asked: Request, packed: bool, on_bytes: Callable[[int], object]) -> None:
        self._asked, self._packed, self._on_bytes = asked, packed, on_bytes

    def _csv(self, on_bytes: Callable[[int], object]) -> Any:
        tsv = self._asked.format == "tsv"
        return csv.reader(
            chain.from_iterable(_texts(self._asked.path, self._packed, on_bytes)),
            delimiter="\t" if tsv else ",",
            quoting=csv.QUOTE_NONE if tsv else csv.QUOTE_MINIMAL,
            strict=True,
        )

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(line, fields) of every row that is not blank, slowly."""
        reader, line = self._csv(lambda size: None), 1
        try:
            for row in reader:
                if row:
                    yield line, row
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataIntegrityError(
                f"{self._asked.path}, line {line:,}: {_explained(str(error))}"
            ) from None

    def blocks(self, width: int) -> Iterator[tuple[list[list[str]], npt.NDArray[np.int64]]]:
        """Rows of ``width`` fields with their lines, without the header."""
        reader, line, skip = self._csv(self._on_bytes), 1, self._asked.header
        while rows := self._next(reader):
            ends = np.arange(line, line + len(rows), dtype=np.int64)
            if reader.line_num - line + 1 != len(rows):  # A field has a line's end in it.
                lengths = [1 + sum(field.count("\n") for field in row) for row in rows]
                ends = line + np.cumsum([0, *lengths[:-1]], dtype=np.int64)
            line = reader.line_num + 1
            if not set(map(len, rows)) <= {width}:
                keep = [bool(row) for row in rows]
                rows, ends = list(compress(rows, keep)), ends[keep]
            if rows and skip:
                rows, ends, skip = rows[1:], ends[1:], False
            if not set(map(len, rows)) <= {width}:
                at = next(at for at, row in enumerate(rows) if len(row) != width)
                yield rows[:at], ends[:at]  # What is wrong before it is told first.
                raise self._ragged(rows[at], int(ends[at]), width)
            yield rows, ends

    def _next(self, reader: Any) -> list[list[str]]:
        try:
            return list(islice(reader, BLOCK_ROWS))
        except csv.Error:
            for _ in self.rows():  # It finds the line, and what is wrong before it.
                pass
            raise

    def _ragged(self, row: list[str], line: int, width: int) -> DataIntegrityError:
        mark = "\t" if self._asked.format == "tsv" else ","
        return DataIntegrityError(
            f"{self._asked.path}, line {line:,}: {len(row)} field{'s' * (len(row) != 1)} instead "
            f"of {width}: found {mark.join(row)[:80]!r}; repair or remove the line"
        )


def _packed(path: Path) -> bool:
    with named(path), path.open("rb") as file:
        begin = file.read(LENGTH)
    _require_text(path, begin, "")
    return begin.startswith(_GZIP)


def _require_text(path: Path, begin: bytes, inside: str) -> None:
    """Raise a ``DataIntegrityError`` where these are the first bytes of another format."""
    said = next((said for magic, said in _MAGIC.items() if begin.startswith(magic)), "")
    said = said or unread_format(begin)
    if inside and not said:
        if begin.startswith(_GZIP):
            said = "packed with gzip once more; unpack it"
        elif begin[257:262] == b"ustar":
            said = "a tar archive; unpack it"
    if said:
        raise DataIntegrityError(f"{path}: {inside}{said}")


def _texts(path: Path, packed: bool, on_bytes: Callable[[int], object]) -> Iterator[io.StringIO]:
    """The file in pieces of whole lines; a carriage return alone ends none."""
    line, seen, rest = 1, 0, b""
    with named(path), path.open("rb") as raw:
        file = gzip.GzipFile(fileobj=raw) if packed else raw
        while part := _part(path, file, line):
            if packed and not seen:
                _require_text(path, part, "in the gzip file: ")
            on_bytes(raw.tell() - seen)
            seen = raw.tell()
            whole, newline, tail = part.rpartition(b"\n")
            rest += whole + newline
            if not newline:
                rest += tail
                if len(rest) > MOST_LINE_BYTES:
                    raise _too_long(path, line, rest)
                continue
            yield _decoded(path, rest, line)
            line, rest = line + rest.count(b"\n"), tail
    if rest:
        yield _decoded(path, rest, line)


def _part(path: Path, file: io.BufferedIOBase, line: int) -> bytes:
    try:
        return file.read(_PART_BYTES)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataIntegrityError(
            f"{path}, after line {line:,}: the gzip file is damaged or cut off ({error}); pack it "
            "again"
        ) from None


def _too_long(path: Path, line: int, rest: bytes) -> DataIntegrityError:
    why = _CARRIAGE_RETURN if b"\r" in rest else "wanted a rating on each line"
    said = f"longer than {MOST_LINE_BYTES:,} bytes; {why}"
    return DataIntegrityError(f"{path}, line {line:,}: {said}")


def _decoded(path: Path, block: bytes, line: int) -> io.StringIO:
    if line == 1 and block.startswith(b"\xef\xbb\xbf"):  # A byte order mark.
        block = block[3:]
    at = block.find(b"\0")
    if at >= 0:
        line += block.count(b"\n", 0, at)
        advice = "save the file as CSV" if line == 1 else "repair or remove the line"
        raise DataIntegrityError(
            f"{path}, line {line:,}: a null byte; wanted text in UTF-8; {advice}"
        )
    try:
        return io.StringIO(block.decode(), newline="\n")
    except UnicodeDecodeError as error:
        begin = block.rfind(b"\n", 0, error.start) + 1
        found = block[begin : begin + 80].partition(b"\n")[0].decode("ascii", "backslashreplace")
        line += block.count(b"\n", 0, error.start)
        raise DataIntegrityError(
            f"{path}, line {line:,}: not UTF-8 from byte {error.start - begin + 1} of the line on: "
            f"found {found!r}; convert the file: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
        ) from None


def _explained(said: str) -> str:
    if "new-line character" in said:
        return f"a carriage return inside a line; {_CARRIAGE_RETURN}"
    if "field larger" in said or "end of data" in said:
        return (
            "a quote that is opened and not closed, or a field of more than 131,072 characters; "
            "close the quote, or double it inside a field"
        )
    return f"not CSV ({said}); put a field with a quote in it into quotes, and double the quote"


def _advice(asked: Request, names: Sequence[str]) -> str:
    if asked.columns and all(name.isdigit() for name in asked.columns.values()):
        return "positions are for files without a header: name the columns, or add --no-header"
    if any(name.replace(".", "", 1).isdigit() for name in names):
        return "is there no header? then add --no-header --columns user=1,item=2,..."
    return _other_mark(names) or NAME_THEM[bool(asked.columns)]


def _other_mark(fields: Sequence[str]) -> str:
    """What to do where the fields of the first row are one, set apart by something else."""
    marks = ("::", ";", "\t", "|", ",", " ")
    mark = next((mark for mark in marks if mark in fields[0]), "") if len(fields) == 1 else ""
    if not mark:
        return ""
    formats = {"\t": "--format tsv", ",": "--format csv"}
    use = formats.get(mark, f"write commas instead of {mark!r}")
    return f"the columns seem to be set apart by {mark!r}: {use}"


def _by_position(path: Path, columns: Mapping[str, str], first: Sequence[str]) -> dict[str, int]:
    places = {role: int(position) - 1 for role, position in columns.items()}
    far = [role for role, place in places.items() if place >= len(first)]
    if far:
        raise DataIntegrityError(
            f"{path}, line 1: {far[0]}={columns[far[0]]}: columns in it: {len(first)}; "
            f"{_other_mark(first) or 'check --columns'}"
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

    def blocks(self, reader: _Reader) -> Iterator[Block]:
        for rows, lines in reader.blocks(self.width):
            if rows:
                yield self._block(rows, lines)

    def _block(self, rows: list[list[str]], lines: npt.NDArray[np.int64]) -> Block:
        fields = {role: [row[at] for row in rows] for role, at in self.places.items()}
        times, ratings = fields.get("time"), fields.get("rating")
        return Block(
            users=fields["user"],
            items=fields["item"],
            times=None if times is None else self._numbers("time", times, lines, _whole),
            ratings=None if ratings is None else self._numbers("rating", ratings, lines, _finite),
            places=lines,
        )

    def _numbers(
        self,
        role: str,
        texts: list[str],
        lines: npt.NDArray[np.int64],
        parse: Callable[[Sequence[str]], npt.NDArray[Number]],
    ) -> npt.NDArray[Number]:
        try:
            return parse(texts)
        except (ValueError, OverflowError):
            pass
        for text, line in zip(texts, lines.tolist(), strict=True):
            try:
                parse([text])
            except (ValueError, OverflowError):
                wanted = "a whole number of 64 bits" if role == "time" else "a finite number"
                raise DataIntegrityError(
                    f"{self.path}, line {line:,}: {self.names[role]}: found "
                    f"{text[:80]!r}, wanted {wanted}; {_repair(role, text)}"
                ) from None
        raise AssertionError("a block that cannot be read, all of whose rows can")


def _repair(role: str, text: str) -> str:
    """What to do about a number that is none: in this row, or in the whole column."""
    if role == "time":
        return (
            "repair the line, or write all times as seconds since 1970, or leave them out: "
            "--columns user=COLUMN,item=COLUMN"
        )
    if "," in text:
        return "write a point instead of the comma"
    return "repair or remove the line"


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
