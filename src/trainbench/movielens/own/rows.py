"""All rows of a file in memory, and those of them that count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainbench.display.visible import one_line
from trainbench.errors import ConfigError, DataIntegrityError
from trainbench.movielens.own import parquet, text
from trainbench.movielens.own.ids import Ids
from trainbench.movielens.own.options import Request
from trainbench.movielens.own.text import Block
from trainbench.progress import Progress


@dataclass(frozen=True)
class Rows:
    """All rows of a file in their order.

    columns: role -> column, of those that are used; packed: with gzip; unit: what places count;
    users, items: int32[n], numbers of user_ids and item_ids; times: int64[n]; ratings: float64[n];
    places: int64[n], the line or row of each.
    """

    columns: dict[str, str]
    packed: bool
    unit: str
    user_ids: Ids
    item_ids: Ids
    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64] | None
    ratings: npt.NDArray[np.float64] | None
    places: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Kept:
    """What is written: users and items by their number, from 0 in order of first appearance.

    users, items: int64[n]; user_texts, item_texts: the id of each number; times: int64[n];
    ratings: float64[n].
    """

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    user_texts: list[str]
    item_texts: list[str]
    times: npt.NDArray[np.int64]
    ratings: npt.NDArray[np.float64] | None


def read(asked: Request, size: int) -> Rows:
    """All rows of the file, in memory as numbers: at most 32 bytes a row, and the distinct ids."""
    reader = parquet.opened if asked.format == "parquet" else text.opened
    with Progress(size, label=f"read {one_line(asked.path.name)}") as progress:
        opened = reader(asked, progress.advance)
        columns = _held_out_columns(asked, dict(opened.columns))
        source = str(asked.path)
        ids = [Ids(columns[role], source, opened.unit) for role in ("user", "item")]
        parts: list[tuple[npt.NDArray[np.generic], ...]] = []
        for block in opened.blocks:
            parts.append(tuple(_numbered(block, ids, columns)))
    if not parts:
        raise DataIntegrityError(f"{asked.path}: no ratings found, wanted a row for each")
    names = ("users", "items", "places", *(role for role in ("time", "rating") if role in columns))
    found: dict[str, Any] = {
        name: np.concatenate(part)
        for name, part in zip(names, zip(*parts, strict=True), strict=True)
    }
    return Rows(
        columns=columns,
        packed=opened.packed,
        unit=opened.unit,
        user_ids=ids[0],
        item_ids=ids[1],
        users=found["users"],
        items=found["items"],
        times=found.get("time"),
        ratings=found.get("rating"),
        places=found["places"],
    )


def _numbered(
    block: Block, ids: list[Ids], columns: dict[str, str]
) -> Iterator[npt.NDArray[np.generic]]:
    yield ids[0].number(block.users, block.places)
    yield ids[1].number(block.items, block.places)
    yield block.places
    if block.times is not None and "time" in columns:
        yield block.times
    if block.ratings is not None and "rating" in columns:
        yield block.ratings


def _held_out_columns(asked: Request, columns: dict[str, str]) -> dict[str, str]:
    """``columns`` as they are used: a time that the rule for held-out items leaves aside is not.

    Raises:
        ConfigError: a column that the options need, and that the file does not have.
    """
    if asked.held_out == "latest" and "time" not in columns:
        raise ConfigError(
            f"{asked.path}: --held-out latest: no column of times; name it with --columns, or use "
            "--held-out last or random"
        )
    if asked.positive_from is not None and "rating" not in columns:
        raise ConfigError(
            f"{asked.path}: --positive-from {asked.positive_from:g}: no column of ratings; name it "
            "with --columns"
        )
    if asked.held_out in ("last", "random"):
        return {role: name for role, name in columns.items() if role != "time"}
    return columns


def kept_of(asked: Request, rows: Rows) -> tuple[Kept, dict[str, int]]:
    """The rows that count, and how many do not by reason."""
    keep = _first_of_pairs(asked, rows)
    repeated = len(rows) - int(keep.sum())
    low = 0
    if asked.positive_from is not None:
        assert rows.ratings is not None
        positive = rows.ratings >= asked.positive_from
        low = int((keep & ~positive).sum())
        keep &= positive
    if not keep.any():
        raise DataIntegrityError(
            f"{asked.path}: none of {len(rows):,} ratings is {asked.positive_from:g} or more; "
            "lower --positive-from"
        )
    users, user_texts = _ids_of(rows.user_ids, rows.users[keep])
    items, item_texts = _ids_of(rows.item_ids, rows.items[keep])
    times = (_order(asked, len(rows)) if rows.times is None else rows.times)[keep]
    ratings = None if rows.ratings is None else rows.ratings[keep]
    kept = Kept(users, items, user_texts, item_texts, times, ratings)
    return kept, {"repeated_pairs": repeated, "below_positive_from": low}


def _first_of_pairs(asked: Request, rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows stay when of each pair of user and item one is kept.

    Raises:
        DataIntegrityError: there are repeated pairs, and these are refused.
    """
    pairs = rows.users.astype(np.int64) << 32 | rows.items
    order = np.argsort(pairs, kind="stable")
    again = pairs[order[1:]] == pairs[order[:-1]]
    keep = np.ones(len(rows), dtype=np.bool_)
    if not again.any():
        return keep
    if asked.duplicates == "refuse":
        # The pair whose second row comes first in the file.
        at = int(np.flatnonzero(again)[order[1:][again].argmin()])
        first, second = (int(rows.places[order[i]]) for i in (at, at + 1))
        user = rows.user_ids.of(rows.users[order[at : at + 1]])[0]
        item = rows.item_ids.of(rows.items[order[at : at + 1]])[0]
        unit = rows.unit
        raise DataIntegrityError(
            f"{asked.path}, {unit} {second:,}: user {user} and item {item} stand in {unit} "
            f"{first:,} already; rows that repeat a pair: {int(again.sum()):,}; keep one of each "
            "with --duplicates first or last, or remove the others"
        )
    keep[order[1:][again] if asked.duplicates == "first" else order[:-1][again]] = False
    return keep


def _ids_of(ids: Ids, numbers: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Numbers anew, among those that are left, and the id of each."""
    left, first = np.unique(numbers, return_index=True)
    left = left[np.argsort(first)]
    new = np.empty(int(left.max()) + 1, dtype=np.int64)
    new[left] = np.arange(len(left))
    return new[numbers], ids.of(left)


def _order(asked: Request, rows: int) -> npt.NDArray[np.int64]:
    """What stands in place of times: the greatest of a user is held out.

    At random is a hash of seed and row (splitmix64), the same on every machine.
    """
    at = np.arange(rows, dtype=np.uint64)
    if asked.held_out != "random":
        return at.astype(np.int64)
    seed = hashlib.sha256(str(asked.seed).encode()).digest()[:8]
    mixed = (at + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.frombuffer(seed, "<u8")
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: npt.NDArray[np.int64] = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(1)).astype(
        np.int64
    )
    return found
