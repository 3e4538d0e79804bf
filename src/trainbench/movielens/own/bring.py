"""Own ratings into the data directory, as a dataset that every later step takes like any other.

    DATA/raw/<name>/ratings.csv        the ratings that count, in ml-20m's layout
    DATA/raw/<name>/users.csv          number and id of each user, where ids are text; items.csv too
    DATA/raw/<name>/description.json   what was read, what was left out and why, with hashes
    DATA/raw/<name>/manifest.json      as of every dataset; it holds the description

The folder appears by one rename. The same file and options give the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainbench.display.visible import one_line
from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.files import sha256_of, whole_folder, write_record, writing
from trainbench.movielens.datasets import (
    CSV,
    Counts,
    Manifest,
    OwnRatings,
    dataset,
    read_manifest,
)
from trainbench.movielens.own.ids import TEXT, WHOLE
from trainbench.movielens.own.options import Request
from trainbench.movielens.own.rows import Kept, Rows, kept_of, read
from trainbench.progress import Progress, heartbeat, log_line
from trainbench.trials.paths import DataDir

DESCRIPTION = "description.json"
MAPPINGS = {"user": "users.csv", "item": "items.csv"}
_BYTES_PER_ROW = 40
_ROWS = 1 << 16


def bring(name: str, asked: Request, data: DataDir, sha256: str | None = None) -> Manifest:
    """The manifest of the dataset ``name``, made of the file that ``asked`` names.

    ``sha256`` is what the user states of the file.

    Raises:
        ConfigError: ``name`` is taken by another dataset, looks like one, or its folder has files
            of somebody else. MachineError: no such file, or a full disk. DataIntegrityError: the
            file is not what was asked for, with the line or row; nothing is left of it.
    """
    if not dataset(name).own:
        raise ConfigError(
            f"--dataset {name} is not a name for own ratings: it is another dataset; choose another"
        )
    before = _looked_at(asked.path)
    _require_replaceable(data, name, asked.path)
    found = sha256_of(asked.path)
    if sha256 and sha256.strip().lower() != found:
        raise DataIntegrityError(
            f"{asked.path}: sha256 is {found}, stated with --sha256 is {sha256}; correct the "
            "statement or use another file"
        )
    present = whole(name, data)
    if (
        present
        and present.own
        and (present.own.sha256, present.own.options)
        == (
            found,
            asked.options,
        )
    ):
        log_line(f"download: {data.raw(name)} is complete and unchanged (own ratings)")
        return present
    rows = read(asked, before[0])
    if _looked_at(asked.path) != before:
        raise DataIntegrityError(f"{asked.path}: changed while it was read; run download again")
    with heartbeat("looking for repeated pairs"):
        kept, left_out = kept_of(asked, rows)
    manifest = _written(name, asked, data, rows, kept, left_out, found)
    _tell(manifest, data)
    return manifest


def whole(name: str, data: DataDir) -> Manifest | None:
    """The manifest of own ratings that are there, complete and unchanged."""
    manifest = read_manifest(data.manifest(name))
    if manifest is None or manifest.own is None:
        return None
    wanted = {manifest.ratings_file: manifest.ratings_sha256, **manifest.own.mappings}
    files = {data.raw(name) / file: sha256 for file, sha256 in wanted.items()}
    same = all(file.is_file() and sha256_of(file) == sha256 for file, sha256 in files.items())
    return manifest if same and (data.raw(name) / DESCRIPTION).is_file() else None


def _looked_at(path: Path) -> tuple[int, int]:
    """Size and time of the last change of a file."""
    if not path.exists():
        raise MachineError(f"{path}: not found; check --ratings (RATINGS)")
    if not path.is_file():
        raise MachineError(f"{path}: not a file; wanted one with a rating on each line (--ratings)")
    return path.stat().st_size, path.stat().st_mtime_ns


def _require_replaceable(data: DataDir, name: str, path: Path) -> None:
    """Raise a ``ConfigError`` if somebody's file stands where the dataset will."""
    folder = data.raw(name)
    if folder.is_symlink() or not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no folder; move it elsewhere, or choose another --dataset")
    if path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{path}: it stands in {folder}, which is replaced by the dataset; move it elsewhere"
        )
    ours = {CSV.ratings_file, *MAPPINGS.values(), DESCRIPTION, data.manifest(name).name}
    others = sorted(one.name for one in folder.iterdir() if one.name not in ours)
    if others:
        raise ConfigError(
            f"{folder}: it is replaced by the dataset, and has a file that is not of one: "
            f"{others[0]}; move it elsewhere, or choose another --dataset"
        )


def _written(
    name: str,
    asked: Request,
    data: DataDir,
    rows: Rows,
    kept: Kept,
    left_out: dict[str, int],
    sha256: str,
) -> Manifest:
    """Write the folder of the dataset, whole or not at all."""
    data.raw(name).parent.mkdir(parents=True, exist_ok=True)
    kinds = {"user": rows.user_ids.kind, "item": rows.item_ids.kind}
    texts = {"user": kept.user_texts, "item": kept.item_texts}
    with (
        whole_folder(data.raw(name)) as part,
        writing(data.raw(name), len(kept.users) * _BYTES_PER_ROW),
    ):
        mappings = {
            MAPPINGS[role]: _write_mapping(part / MAPPINGS[role], texts[role])
            for role in ("user", "item")
            if kinds[role] == TEXT
        }
        ratings = part / CSV.ratings_file
        ratings_sha256 = _write_ratings(ratings, kept, kinds)
        own = _described(asked, rows, kept, left_out, sha256, kinds, mappings)
        manifest = Manifest(
            dataset=name,
            source="own ratings",
            ratings_file=ratings.name,
            ratings_bytes=ratings.stat().st_size,
            ratings_sha256=ratings_sha256,
            published=False,
            counts=Counts(own.users, own.items, own.rows_kept),
            own=own,
        )
        write_record(part / DESCRIPTION, {"dataset": name, "own": own})
        write_record(part / data.manifest(name).name, manifest)
    return manifest


def _described(
    asked: Request,
    rows: Rows,
    kept: Kept,
    left_out: dict[str, int],
    sha256: str,
    kinds: dict[str, str],
    mappings: dict[str, str],
) -> OwnRatings:
    return OwnRatings(
        file=asked.path.name,
        bytes=asked.path.stat().st_size,
        sha256=sha256,
        packed=rows.packed,
        options=asked.options,
        columns=rows.columns,
        held_out=_rule(asked, rows),
        rows_read=len(rows),
        rows_kept=len(kept.users),
        **left_out,
        users=len(kept.user_texts),
        items=len(kept.item_texts),
        user_ids=kinds["user"],
        item_ids=kinds["item"],
        mappings=mappings,
    )


def _rule(asked: Request, rows: Rows) -> str:
    """Which item of each user is held out, in words."""
    if rows.times is not None:
        return "the latest by time"
    if asked.held_out == "random":
        return f"one at random, seed {asked.seed}"
    return "the last in the file"


def _write_mapping(path: Path, ids: list[str]) -> str:
    """Write number and id of each, numbers from 1; the SHA-256 of the file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        # In quotes, so that an id may hold whatever ends a line.
        rows = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        rows.writerow(("number", "id"))
        rows.writerows(enumerate(ids, start=1))
    return sha256_of(path)


def _write_ratings(path: Path, kept: Kept, kinds: dict[str, str]) -> str:
    """Write the ratings in ml-20m's layout; the SHA-256 of the file."""
    digest = hashlib.sha256()
    users = _final_ids(kept.user_texts, kinds["user"])
    items = _final_ids(kept.item_texts, kinds["item"])
    with (
        path.open("wb") as file,
        Progress(len(kept.users), unit="ratings", label="write ratings") as progress,
    ):
        for block in _csv(kept, users, items):
            digest.update(block)
            file.write(block)
            progress.advance(block.count(b"\n"))
    return digest.hexdigest()


def _final_ids(texts: list[str], kind: str) -> npt.NDArray[np.int64]:
    if kind == WHOLE:
        return np.array(list(map(int, texts)), dtype=np.int64)
    return np.arange(1, len(texts) + 1, dtype=np.int64)


def _csv(kept: Kept, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> Iterator[bytes]:
    yield b"userId,movieId,rating,timestamp\n"
    for start in range(0, len(kept.users), _ROWS):
        rows = slice(start, start + _ROWS)
        ratings = ["1"] * _ROWS if kept.ratings is None else kept.ratings[rows].tolist()
        columns = (
            users[kept.users[rows]].tolist(),
            items[kept.items[rows]].tolist(),
            ratings,
            kept.times[rows].tolist(),
        )
        yield "".join(map("%d,%d,%s,%d\n".__mod__, zip(*columns, strict=False))).encode()


def _tell(manifest: Manifest, data: DataDir) -> None:
    own = manifest.own
    assert own is not None
    columns = ", ".join(f"{role}={name}" for role, name in own.columns.items())
    file = one_line(f"{own.file}: columns {columns}")
    log_line(f"download: {file}; held out of each user: {own.held_out}")
    left = f"{own.repeated_pairs:,} repeat a pair, {own.below_positive_from:,} are not positive"
    log_line(
        f"download: {own.rows_read:,} rows read, {own.rows_kept:,} kept ({left}), {own.users:,} "
        f"users by {own.user_ids}, {own.items:,} items by {own.item_ids}, sha256 {own.sha256}"
    )
    log_line(
        f"download: {data.raw(manifest.dataset)} is ready (own ratings); the next steps take "
        f"--dataset {manifest.dataset}"
    )
