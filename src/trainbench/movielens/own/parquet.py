"""Reads Parquet block by block, through pyarrow; what is wrong is told with its row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainbench.errors import DataIntegrityError
from trainbench.files import foreign
from trainbench.machine import extras
from trainbench.movielens.own.options import NAME_THEM, Request, taken_columns
from trainbench.movielens.own.text import BLOCK_ROWS, Block, Opened

_WANTED = {
    "user": "whole numbers or text (a float above 2^53 is not exact)",
    "item": "whole numbers or text (a float above 2^53 is not exact)",
    "time": "whole numbers, a date or a timestamp",
    "rating": "numbers",
}


def opened(asked: Request, on_bytes: Callable[[int], object] = lambda size: None) -> Opened:
    """The columns and the rows of a Parquet file.

    Args:
        on_bytes: hears about how many further bytes of the file were read.

    Raises:
        MachineError: no pyarrow. DataIntegrityError: not such a file, or without the columns.
    """
    extras.require("pyarrow")
    import pyarrow.parquet  # An extra: 100 MB that few need.

    path = asked.path
    with _told(path):
        file = pyarrow.parquet.ParquetFile(path)
    advice = NAME_THEM[bool(asked.columns)]
    columns = taken_columns(asked, list(file.schema_arrow.names), str(path), advice)
    for role, name in columns.items():
        kind = file.schema_arrow.field(name).type
        if not _fits(role, kind):
            raise DataIntegrityError(
                f"{path}: the column {name} is {kind}, wanted {_WANTED[role]}; convert it"
            )
    size = path.stat().st_size / max(1, file.metadata.num_rows)
    blocks = _Columns(path, columns).blocks(file)
    return Opened(columns, packed=False, unit="row", blocks=_heard(blocks, size, on_bytes))


def _told(path: Path) -> Any:
    return foreign(str(path), "a whole Parquet file", "write it again, or check --format")


def _heard(
    blocks: Iterator[Block], size: float, on_bytes: Callable[[int], object]
) -> Iterator[Block]:
    for block in blocks:
        on_bytes(int(len(block.places) * size))
        yield block


def _fits(role: str, kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _fits(role, kind.value_type)
    if role in ("user", "item"):
        text = any(fits(kind) for fits in _texts_of(types))
        return bool(types.is_integer(kind) or text)
    if role == "time":
        return bool(types.is_integer(kind) or (types.is_temporal(kind) and not types.is_time(kind)))
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _texts_of(types: Any) -> list[Callable[[Any], bool]]:
    """What says that a type is text; that of views is younger than the others."""
    names = ("is_string", "is_large_string", "is_string_view")
    return [getattr(types, name) for name in names if hasattr(types, name)]


@dataclass(frozen=True)
class _Columns:
    path: Path
    names: Mapping[str, str]

    def blocks(self, file: Any) -> Iterator[Block]:
        first = 1
        # A damaged page shows when it is read.
        with _told(self.path):
            batches = file.iter_batches(batch_size=BLOCK_ROWS, columns=list(self.names.values()))
            for batch in batches:
                if batch.num_rows:
                    yield self._block(batch, first)
                first += batch.num_rows

    def _block(self, batch: Any, first: int) -> Block:
        columns = {role: batch.column(name) for role, name in self.names.items()}
        for role, column in columns.items():
            if column.null_count:
                self._fail(role, first + column.is_null().to_pylist().index(True), "nothing")
        times, ratings = columns.get("time"), columns.get("rating")
        return Block(
            users=_texts(columns["user"]),
            items=_texts(columns["item"]),
            times=None if times is None else self._whole(times, first),
            ratings=None if ratings is None else self._finite(ratings, first),
            places=np.arange(first, first + batch.num_rows, dtype=np.int64),
        )

    def _whole(self, column: Any, first: int) -> npt.NDArray[np.int64]:
        import pyarrow

        if pyarrow.types.is_date32(column.type):
            column = column.cast(pyarrow.timestamp("s"))
        try:
            whole = column.cast(pyarrow.int64())
        except pyarrow.ArrowInvalid:
            values = column.to_pylist()
            place = next(i for i, value in enumerate(values) if not -(2**63) <= value < 2**63)
            raise self._error("time", first + place, str(values[place])) from None
        found: npt.NDArray[np.int64] = whole.to_numpy(zero_copy_only=False)
        return found

    def _finite(self, column: Any, first: int) -> npt.NDArray[np.float64]:
        import pyarrow

        # Unsafe, so that a whole number above 2^53 is rounded, as that of a CSV is.
        floats = column.cast(pyarrow.float64(), safe=False)
        found: npt.NDArray[np.float64] = floats.to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~np.isfinite(found))
        if len(bad):
            self._fail("rating", first + int(bad[0]), str(found[bad[0]]))
        return found

    def _fail(self, role: str, row: int, found: str) -> None:
        raise self._error(role, row, found)

    def _error(self, role: str, row: int, found: str) -> DataIntegrityError:
        wanted = {"time": "a whole number of 64 bits", "rating": "a finite number"}
        return DataIntegrityError(
            f"{self.path}, row {row:,}: {self.names[role]}: found {found}, wanted "
            f"{wanted.get(role, 'an id')}; repair or remove the row"
        )


def _texts(column: Any) -> list[str]:
    import pyarrow

    texts: list[str] = column.cast(pyarrow.string()).to_pylist()
    return texts
