"""The images as training reads them: arrays on disk under the hash of what they were made of.

    DATA/cache/images-<key>/{train,validation}_{images,labels}.npy, cache.json

TFRecord files are read as they are; their cache is a cache.json alone.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from trainbench.benchmark import Inputs
from trainbench.errors import DataIntegrityError, MachineError
from trainbench.files import (
    damage_told,
    foreign,
    named,
    sha256_of,
    whole_folder,
    write_record,
    writing,
)
from trainbench.files import (
    read_record as read_sealed,
)
from trainbench.image_classification.config import ImagesConfig
from trainbench.image_classification.source import (
    ARCHIVE,
    SUBSETS,
    raw_name,
    read_manifest,
    unchanged,
)
from trainbench.progress import heartbeat, log_line
from trainbench.trials.paths import DataDir

FORMAT = 1
_AGAIN = "delete it and run download again"
_MOST_BYTES = 64 << 20  # of one batch of CIFAR-10, which has 31 MB
# Of records of TFRecord files: before, they held the published numbers in place of the counts.
COUNTED = 2


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
        heartbeat("converting the images"),
        whole_folder(folder) as part,
        # ImageNet's files stay where they are.
        writing(folder, 0 if config.dataset == "imagenet" else 2 * raw_bytes),
    ):
        record = _build(config, manifest, data.raw(raw_name(config)), part)
        write_record(part / "cache.json", {"schema": 1, "key": folder.name, **record})
    log_line(f"convert: wrote {folder} ({_counts(record)})")
    return folder


def find(config: ImagesConfig, data: DataDir) -> Path:
    """The folder of the valid cache of ``config``.

    Raises:
        MachineError: there is none.
    """
    manifest = _manifest(config, data)
    folder = data.cache(_key(manifest))
    if not _is_valid(folder):
        raise MachineError(f"{folder}: no valid cache here; run the convert step first")
    if config.dataset == "imagenet" and not unchanged(manifest, data.raw(raw_name(config))):
        raise MachineError(
            f"{manifest['folder']}: other files than when they were counted; run the download and "
            "the convert step again"
        )
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
        found = read_sealed(folder / "cache.json")
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
    folder = manifest.get("folder")
    version = FORMAT if folder is None else COUNTED
    known = {"files": manifest["files"], "folder": folder, "format": version}
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
        counts = _count(manifest)
        return {"dataset": "imagenet", "folder": manifest["folder"], "counts": counts, "files": {}}
    _require_unchanged(raw, manifest)
    counts, files = {}, {}
    for subset in SUBSETS:
        images, labels = _read(config, raw, subset, part)
        counts[subset] = len(labels)
        for kind, array in (("images", images), ("labels", labels)):
            name = f"{subset}_{kind}.npy"
            np.save(part / name, np.ascontiguousarray(array))
            files[name] = sha256_of(part / name)
    return {"dataset": config.dataset, "folder": None, "counts": counts, "files": files}


def _require_unchanged(raw: Path, manifest: dict[str, Any]) -> None:
    for name, facts in manifest["files"].items():
        if not (raw / name).is_file() or sha256_of(raw / name) != facts.get("sha256"):
            raise DataIntegrityError(
                f"{raw / name}: not as it was downloaded or drawn; run download again"
            )


def _count(manifest: dict[str, Any]) -> dict[str, int]:
    """Images of each subset, counted in the TFRecord files."""
    # Here and not above: it imports TensorFlow, which the other sets do not need.
    from trainbench.cnn.input import tfrecords

    folder = Path(manifest["folder"])
    return {subset: tfrecords.count(tfrecords.files(folder, subset)) for subset in SUBSETS}


def _read(config: ImagesConfig, raw: Path, subset: str, part: Path) -> tuple[Any, Any]:
    """Images uint8[n, 32, 32, 3] and labels int32[n]."""
    if config.dataset == "generated":
        file = raw / f"{subset}.npz"
        with foreign(str(file), "drawn images", _AGAIN), named(file), np.load(file) as packed:
            return packed["images"], packed["labels"]
    # Here and not above: it imports TensorFlow, which the generated set does not need.
    from trainbench.cnn.input.cifar10 import FILES, read

    archive = raw / ARCHIVE
    with foreign(str(archive), "CIFAR-10", _AGAIN), tempfile.TemporaryDirectory(dir=part) as folder:
        _unpack(archive, FILES[subset], Path(folder))
        try:
            return read(Path(folder), subset)
        except DataIntegrityError as error:
            said = str(error).replace(f"{folder}/", "")
            raise DataIntegrityError(f"{archive}: {said}") from None


def _unpack(archive: Path, names: Collection[str], folder: Path) -> None:
    """Write the members of these names to ``folder``, wherever in the archive they lie."""
    with named(archive), tarfile.open(archive, "r:gz") as members:
        for member in members:
            name = PurePosixPath(member.name).name
            if name not in names or not member.isfile():
                continue
            if member.size > _MOST_BYTES:
                raise DataIntegrityError(
                    f"{archive}: {name} has {member.size:,} bytes, at most {_MOST_BYTES:,} are "
                    f"accepted; {_AGAIN}"
                )
            packed = members.extractfile(member)
            assert packed is not None
            (folder / name).write_bytes(packed.read())


def _counts(record: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {subset}" for subset, count in record["counts"].items())
