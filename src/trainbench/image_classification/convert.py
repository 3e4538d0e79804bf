"""The images as training reads them: arrays on disk under the hash of what they were made of.

    DATA/cache/images-<key>/{train,validation}_{images,labels}.npy, cache.json

TFRecord files are read as they are; their cache is a cache.json alone.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trainbench.benchmark import Inputs
from trainbench.errors import DataIntegrityError, MachineError
from trainbench.files import (
    damage_told,
    read_object,
    sha256_of,
    space_for,
    whole_folder,
    write_json,
)
from trainbench.image_classification.config import ImagesConfig
from trainbench.image_classification.source import ARCHIVE, SUBSETS, raw_name, read_manifest
from trainbench.progress import heartbeat, log_line
from trainbench.trials.paths import DataDir

FORMAT = 1


def convert(config: ImagesConfig, data: DataDir) -> Path:
    """Build the cache of ``config`` unless a valid one is there, and return its folder.

    Raises:
        MachineError: nothing was downloaded, or the disk. DataIntegrityError: damaged images.
    """
    manifest = _manifest(config, data)
    folder = data.cache(_key(manifest))
    if _is_valid(folder):
        log_line(f"convert: {folder} is complete and unchanged")
        return folder
    data.caches.mkdir(parents=True, exist_ok=True)
    raw_bytes = sum(facts["bytes"] for facts in manifest["files"].values())
    with (
        # ImageNet's files stay where they are.
        space_for(data.caches, 0 if config.dataset == "imagenet" else 2 * raw_bytes),
        heartbeat("converting the images"),
        whole_folder(folder) as part,
    ):
        record = _build(config, manifest, data.raw(raw_name(config)), part)
        write_json(part / "cache.json", {"schema": 1, "key": folder.name, **record})
    log_line(f"convert: wrote {folder} ({_counts(record)})")
    return folder


def find(config: ImagesConfig, data: DataDir) -> Path:
    """The folder of the valid cache of ``config``.

    Raises:
        MachineError: there is none.
    """
    folder = data.cache(_key(_manifest(config, data)))
    if not _is_valid(folder):
        raise MachineError(f"{folder}: no valid cache here; run the convert step first")
    return folder


def inputs(config: ImagesConfig, data: DataDir) -> Inputs:
    """What a run copies of its data; the cache is verified.

    Raises:
        MachineError: there is none.
    """
    return Inputs(find(config, data) / "cache.json", data.manifest(raw_name(config)))


def read_record(folder: Path) -> dict[str, Any]:
    """The content of a cache's cache.json.

    Raises:
        DataIntegrityError: it is damaged.
    """
    with damage_told(folder / "cache.json", "a cache record", "run convert again"):
        found = read_object(folder / "cache.json")
        msgspec.convert(found["files"], dict[str, str])
        return found


def _manifest(config: ImagesConfig, data: DataDir) -> dict[str, Any]:
    manifest = read_manifest(data, raw_name(config))
    if manifest is None:
        raise MachineError(
            f"{data.raw(raw_name(config))}: no images here; run the download step first"
        )
    return manifest


def _key(manifest: dict[str, Any]) -> str:
    known = {"files": manifest["files"], "folder": manifest.get("folder"), "format": FORMAT}
    text = json.dumps(known, sort_keys=True)
    return f"images-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _is_valid(folder: Path) -> bool:
    try:
        files = read_record(folder)["files"]
    except DataIntegrityError:
        return False
    return all(
        (folder / name).is_file() and sha256_of(folder / name) == sha256
        for name, sha256 in files.items()
    )


def _build(config: ImagesConfig, manifest: dict[str, Any], raw: Path, part: Path) -> dict[str, Any]:
    if config.dataset == "imagenet":
        counts = {"train": 1_281_167, "validation": 50_000}
        return {"dataset": "imagenet", "folder": manifest["folder"], "counts": counts, "files": {}}
    counts, files = {}, {}
    for subset in SUBSETS:
        images, labels = _read(config, raw, subset)
        counts[subset] = len(labels)
        for kind, array in (("images", images), ("labels", labels)):
            name = f"{subset}_{kind}.npy"
            np.save(part / name, np.ascontiguousarray(array))
            files[name] = sha256_of(part / name)
    return {"dataset": config.dataset, "folder": None, "counts": counts, "files": files}


def _read(config: ImagesConfig, raw: Path, subset: str) -> tuple[Any, Any]:
    """Images uint8[n, 32, 32, 3] and labels int32[n]."""
    if config.dataset == "generated":
        with np.load(raw / f"{subset}.npz") as packed:
            return packed["images"], packed["labels"]
    try:
        with tarfile.open(raw / ARCHIVE) as archive, tempfile.TemporaryDirectory() as folder:
            # Here and not above: it imports TensorFlow, which the generated set does not need.
            from trainbench.cnn.input.cifar10 import read

            archive.extractall(folder, filter="data")
            return read(Path(folder), subset)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataIntegrityError(
            f"{raw / ARCHIVE}: cannot be unpacked ({error}); delete it and run download again"
        ) from None


def _counts(record: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {subset}" for subset, count in record["counts"].items())
