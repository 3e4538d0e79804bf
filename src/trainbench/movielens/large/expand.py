"""Write the fractal expansion of a data set: a tar of shards in the published form, by seed.

    DATA/raw/<dataset>-by-16x32/<dataset>-by-16x32.tar
    DATA/raw/<dataset>-by-16x32/manifest.json           written last

The memory that it takes is that of the ratings and of one row of blocks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from trainbench.errors import DataIntegrityError, MachineError
from trainbench.files import sha256_of, whole_folder, write_record, writing
from trainbench.movielens.datasets import (
    Counts,
    Expanded,
    Expansion,
    Manifest,
    SplitSpec,
    dataset,
    read_manifest,
)
from trainbench.movielens.formats import read_ratings
from trainbench.movielens.large.expansion import Seeds, expanded, rates
from trainbench.movielens.large.shards import BLOCK_ROWS, LARGEST_ID, ShardWriter
from trainbench.progress import Progress, heartbeat, log_line, scaled
from trainbench.trials.paths import DataDir

VERSION = 1
BYTES_PER_PAIR = 8
_THREADS = 2
HELD_OUT = "the lowest of the expanded items of the user's last time"

Later = Callable[[int, int], Mapping[str, int]]
"""Bytes of what later steps write for so many users and so many training pairs, by its name."""


def expand(spec: SplitSpec, data: DataDir, later: Later = lambda users, pairs: {}) -> Manifest:
    """The manifest of the expansion that ``spec`` names, made of its dataset, which is there.

    Raises:
        MachineError: the disk is too small, with the bytes of each part, or full.
        DataIntegrityError: the ratings are not those of their manifest, or cannot be expanded.
    """
    factor, base = spec.expand, read_manifest(data.manifest(spec.dataset))
    assert factor is not None
    assert base is not None, "the dataset was downloaded"
    known = Expanded(spec.dataset, base.ratings_sha256, factor, VERSION, HELD_OUT)
    path = data.raw(spec.raw) / f"{spec.raw}.tar"
    present = read_manifest(data.manifest(spec.raw))
    if present and present.expanded == known and _is_whole(present, path):
        log_line(f"download: {path} is complete and unchanged ({_told(present)})")
        return present
    seeds = _seeds(data, base)
    _require_numbers(path, seeds, factor)
    with heartbeat("finding the rates of the blocks"):
        kept = rates(seeds, factor)
    pairs = int(kept.sum() * len(seeds.train_rows))
    parts = {"pairs": pairs * BYTES_PER_PAIR, **later(seeds.rows * factor.users, pairs)}
    require_disk(path, parts)
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(path.parent) as part, writing(path, parts["pairs"]):
        counts = _write(part / path.name, seeds, factor, kept, pairs)
        if not counts.users:
            raise DataIntegrityError(
                f"{path}: of {seeds.rows:,} users expanded by {factor.text}, seed {factor.seed}, "
                "none kept a pair to train on and a held-out item; use more ratings"
            )
        manifest = Manifest(
            dataset=spec.raw,
            source="expansion",
            ratings_file=path.name,
            ratings_bytes=(part / path.name).stat().st_size,
            ratings_sha256=sha256_of(part / path.name),
            published=False,
            generated=True,
            counts=counts,
            expanded=known,
        )
        write_record(part / data.manifest(spec.raw).name, manifest)
    log_line(f"download: {path} is ready ({_told(manifest)})")
    return manifest


def require_disk(path: Path, parts: Mapping[str, int]) -> None:
    """Raise a ``MachineError`` unless all ``parts`` find room, and say what each takes."""
    folder = next(p for p in path.absolute().parents if p.is_dir())
    free = shutil.disk_usage(folder).free
    each = ", ".join(f"{name} {scaled(size, 'B')}" for name, size in parts.items())
    if sum(parts.values()) > free:
        raise MachineError(
            f"{folder}: disk full: {sum(parts.values()):,} bytes needed ({each}), {free:,} bytes "
            "free; free some space, or choose another disk with --data-dir, then run again"
        )
    log_line(f"disk: {each}; {scaled(free, 'B')} free")


def _seeds(data: DataDir, base: Manifest) -> Seeds:
    path = data.raw(base.dataset) / base.ratings_file
    with Progress(path.stat().st_size, label=f"read {path.name}") as progress:
        ratings = read_ratings(path, dataset(base.dataset).layout, on_block=progress.advance)
    return Seeds.of(ratings)


def _require_numbers(path: Path, seeds: Seeds, factor: Expansion) -> None:
    """Raise a ``DataIntegrityError`` where users or items have no number that a shard can hold."""
    most = max(seeds.rows * factor.users, seeds.columns * factor.items)
    if most > LARGEST_ID + 1:
        raise DataIntegrityError(
            f"{path}: {seeds.rows:,} users and {seeds.columns:,} items expanded by {factor.text} "
            f"are up to {most:,}, wanted {LARGEST_ID + 1:,} at most; use a smaller factor"
        )


def _write(path: Path, seeds: Seeds, factor: Expansion, kept: np.ndarray, expected: int) -> Counts:
    """Write the tar; what is in it."""
    counts, tests = Counts(0, 0, 0), []
    label = f"expand by {factor.text}"
    with (
        closing(ShardWriter(path, factor.text)) as writer,
        Progress(expected, unit="pairs", label=label) as progress,
    ):
        for number in range(factor.users):
            row = expanded(seeds, factor, kept, number, _THREADS)
            writer.add("train", number, row.pairs(BLOCK_ROWS), len(row.keys))
            tests.append(row.held_out())
            largest = max(int((row.keys % row.width).max(initial=0)), int(row.items.max(initial=0)))
            counts = Counts(
                counts.users + len(row.users),
                max(counts.items or 0, largest + 1),
                counts.ratings + len(row.keys),
            )
            progress.advance(len(row.keys))
            del row
        for number, test in enumerate(tests):
            writer.add("test", number, iter([test]), len(test))
    return counts


def _is_whole(manifest: Manifest, path: Path) -> bool:
    same = path.is_file() and path.stat().st_size == manifest.ratings_bytes
    return same and sha256_of(path) == manifest.ratings_sha256


def _told(manifest: Manifest) -> str:
    counts, of = manifest.counts, manifest.expanded
    assert counts is not None
    assert of is not None
    factor = f"{of.factor.text}, seed {of.factor.seed}"
    return (
        f"{of.dataset} expanded by {factor}: {counts.users:,} users, {counts.items:,} items, "
        f"{counts.ratings:,} training pairs, sha256 {manifest.ratings_sha256}"
    )
