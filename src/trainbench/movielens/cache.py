"""The cache between preprocessing and training: ``.npy`` arrays and the cache.json that names them.

A cache is a folder that appears by one rename and never changes. Its name is a hash of everything
that decides its content, so that changed ratings, options or format make another folder; the hash
of every array stands in cache.json, and one of cache.json itself, so that damage is found.
cache.json holds no time and no path: equal inputs give equal bytes.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from trainbench.errors import DataIntegrityError, MachineError
from trainbench.files import (
    UNFINISHED,
    damage_told,
    forget_pages,
    named,
    read_record,
    sha256_of,
    whole_folder,
    write_record,
    writing,
)
from trainbench.movielens.datasets import Manifest, SplitSpec, dataset, no_own, read_manifest
from trainbench.trials import chain
from trainbench.trials.paths import DataDir

FORMAT = 1
RECORD = "cache.json"
COMPLIANCE_LOG = "compliance_raw.log"
LOG_SUM = "compliance_raw.log.sha256"
_BLOCK = 1 << 22
# These say nothing about the file, and another cache would not help.
_OF_THE_SYSTEM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EACCES)

# Name of every array -> its type. Little-endian everywhere, so that hashes travel.
ARRAYS: Mapping[str, str] = {
    "users": "<i4",
    "items": "<i4",
    "row_starts": "<i8",
    "test_items": "<i4",
    "user_ids": "<i8",
    "item_ids": "<i8",
}


@dataclass(frozen=True)
class RatingsCache:
    """An open cache; its arrays are read-only memory maps.

    users, items: int32[n_train], the training pairs grouped by user in ascending order, within a
    user by time; row_starts: int64[num_users + 1], user ``u`` has the pairs from ``row_starts[u]``
    to ``row_starts[u + 1]``; test_items: int32[num_users], each user's held-out item; user_ids,
    item_ids: int64, the dataset's own id of each number; record: the content of cache.json.
    """

    folder: Path
    key: str
    num_users: int
    num_items: int
    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    row_starts: npt.NDArray[np.int64]
    test_items: npt.NDArray[np.int32]
    user_ids: npt.NDArray[np.int64]
    item_ids: npt.NDArray[np.int64]
    record: dict[str, Any]

    def forget_pages(self) -> None:
        """Let go of the memory that holds what was read of the pairs; they are read again."""
        for array in (self.users, self.items):
            forget_pages(array)

    @property
    def num_train(self) -> int:
        """Number of training pairs."""
        return len(self.users)


def cache_key(manifest: Manifest, options: Mapping[str, Any]) -> str:
    """Name of the cache folder: dataset and 16 digits of a hash over ratings, options, format."""
    inputs = {"ratings": manifest.ratings_sha256, "options": dict(options), "format": FORMAT}
    text = json.dumps(inputs, sort_keys=True)
    return f"{manifest.dataset}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def find_cache(spec: SplitSpec, data: DataDir) -> Path:
    """The folder of the cache that ``spec`` describes.

    Raises:
        MachineError: the dataset was not downloaded, or not preprocessed with these options.
    """
    folder = data.cache(cache_key(require_manifest(spec, data), spec.options))
    if not (folder / RECORD).exists():
        raise MachineError(
            f"{folder}: no cache for dataset {spec.dataset} with {spec.options}; "
            "run preprocess with the same --preset, --dataset and --set first"
        )
    return folder


def require_manifest(spec: SplitSpec, data: DataDir) -> Manifest:
    """The manifest of the dataset that ``spec`` names, at the size that it names.

    Raises:
        ConfigError: no such dataset. MachineError: it is not there yet.
    """
    known = dataset(spec.dataset)
    path = data.manifest(spec.raw)
    manifest = read_manifest(path)
    if manifest is None and known.own and not spec.expand:
        raise no_own(known.name)
    advice = "run download with the same --preset, --dataset and --set first"
    if manifest is None:
        raise MachineError(f"{path}: not found; {advice}")
    found = manifest.expanded.factor if manifest.expanded else None
    if found != spec.expand:
        raise MachineError(
            f"{path}: found an expansion by {found}, wanted one by {spec.expand}; {advice}"
        )
    if manifest.generated and not found and manifest.generator != spec.synthetic:
        raise MachineError(
            f"{path}: found ratings of {manifest.generator}, wanted {spec.synthetic}; {advice}"
        )
    return manifest


class CacheFiles:
    """Writes the arrays of a cache, whole or block after block, and hashes them on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.described: dict[str, dict[str, Any]] = {}

    def save(self, name: str, array: npt.NDArray[Any]) -> None:
        """Write the whole array ``name``."""
        with self.growing(name, len(array)) as add:
            for start in range(0, len(array), _BLOCK):
                add(array[start : start + _BLOCK])

    @contextmanager
    def growing(self, name: str, length: int) -> Iterator[Callable[[npt.NDArray[Any]], object]]:
        """What takes the blocks of the array ``name``, which has ``length`` elements in all."""
        path, kind, digest = self.folder / f"{name}.npy", ARRAYS[name], hashlib.sha256()
        header = io.BytesIO()
        described = {"descr": kind, "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(header, described)
        with named(path), path.open("wb") as file:

            def put(data: Any) -> None:
                digest.update(data)
                file.write(data)

            put(header.getbuffer())
            yield lambda block: put(np.ascontiguousarray(block, dtype=kind).data)
        assert path.stat().st_size == len(header.getbuffer()) + length * np.dtype(kind).itemsize
        self.described[name] = {"dtype": kind, "shape": [length], "sha256": digest.hexdigest()}


@contextmanager
def new_cache(
    folder: Path,
    record: dict[str, Any],
    needed_bytes: int,
    *,
    finish: Callable[[Path], object] = lambda part: None,
) -> Iterator[CacheFiles]:
    """Where to write the arrays of a cache that appears as ``folder`` by one rename.

    What ``record`` holds when the body ends is completed with the schema and each array's type,
    shape and SHA-256. ``finish`` may add the compliance log to the folder before it is published.
    An older ``folder`` goes, and so does what a killed run left half-written.

    Raises:
        MachineError: not enough space; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder.parent)
    with whole_folder(folder) as part, writing(folder, needed_bytes):
        files = CacheFiles(part)
        yield files
        if set(files.described) != set(ARRAYS):
            raise ValueError(f"wanted the arrays {sorted(ARRAYS)}, got {sorted(files.described)}")
        arrays = {name: files.described[name] for name in ARRAYS}
        write_record(
            part / RECORD, {**record, "schema": FORMAT, "key": folder.name, "arrays": arrays}
        )
        finish(part)
        # Not in cache.json, which is the same for the same ratings: the log's lines have times.
        chain.write(part / LOG_SUM, [part / COMPLIANCE_LOG])


def write_cache(
    folder: Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    record: Mapping[str, Any],
    *,
    finish: Callable[[Path], object] = lambda part: None,
) -> None:
    """Publish ``arrays`` and cache.json as ``folder``: ``new_cache`` with arrays in memory.

    Raises:
        MachineError: not enough space; nothing is left behind.
    """
    if set(arrays) != set(ARRAYS):
        raise ValueError(f"wanted the arrays {sorted(ARRAYS)}, got {sorted(arrays)}")
    needed = sum(array.nbytes for array in arrays.values())
    with new_cache(folder, dict(record), needed, finish=finish) as files:
        for name, array in arrays.items():
            files.save(name, array)


def remove_unfinished(caches: Path) -> None:
    """Remove what killed runs left in the folder of all caches; the caller holds the data lock."""
    for left in caches.glob(UNFINISHED + "*"):
        shutil.rmtree(left, ignore_errors=True)


def open_cache(folder: Path, *, verify: bool) -> RatingsCache:
    """The cache in ``folder``; with ``verify`` every file is hashed (about 1 s per GB).

    Raises:
        DataIntegrityError: cache.json, an array or the log is missing, damaged or of another
            format.
    """
    record = _read_record(folder)
    if verify:
        _require_log(folder)
    arrays = {name: _open_array(folder, name, record, verify) for name in ARRAYS}
    return RatingsCache(
        folder=folder,
        key=folder.name,
        num_users=len(arrays["test_items"]),
        num_items=len(arrays["item_ids"]),
        record=record,
        **arrays,
    )


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    with damage_told(path, "readable as a cache record", "run preprocess again"):
        record = read_record(path)
        schema = record["schema"]
        described = msgspec.convert(record["arrays"], dict[str, dict[str, Any]])
    if schema != FORMAT or set(described) != set(ARRAYS):
        raise DataIntegrityError(
            f"{path}: found cache format {schema} with {', '.join(sorted(described))}, wanted "
            f"format {FORMAT} with {', '.join(sorted(ARRAYS))}; run preprocess again"
        )
    return record


def _require_log(folder: Path) -> None:
    """Compare the log with its sum; caches of before 0.3 have none."""
    sums = folder / LOG_SUM
    for broken in chain.compare(folder, sums).breaks if sums.exists() else ():
        raise DataIntegrityError(
            f"{folder / broken.file}: found {broken.found}, wanted {broken.wanted} ({LOG_SUM}); "
            "run preprocess again"
        )


def _open_array(
    folder: Path, name: str, record: Mapping[str, Any], verify: bool
) -> npt.NDArray[Any]:
    path, wanted = folder / f"{name}.npy", record["arrays"][name]
    try:
        with named(path):
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
            raise
        raise DataIntegrityError(f"{path}: {error}; run preprocess again") from None
    found = {"dtype": array.dtype.str, "shape": list(array.shape)}
    if verify:
        found["sha256"] = sha256_of(path)
    for what, value in found.items():
        if value != wanted.get(what):
            raise DataIntegrityError(
                f"{path}: {what} is {value}, wanted {wanted.get(what)} ({RECORD}); "
                "run preprocess again"
            )
    return array
