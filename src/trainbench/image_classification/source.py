"""The images as published: downloaded, found on a disk, or generated here.

    DATA/raw/<dataset>/manifest.json   what lies there and where it came from; written last

A step that finds the folder complete and unchanged does nothing.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trainbench.benchmark import PUBLISHER, Source
from trainbench.display.secrets import without_credentials
from trainbench.errors import ConfigError, DataIntegrityError, TrainbenchError
from trainbench.files import damage_told, read_record, sha256_of, write_atomically, write_record
from trainbench.image_classification import generated
from trainbench.image_classification.config import ImagesConfig
from trainbench.movielens import transfer
from trainbench.movielens.archive import digest_of
from trainbench.progress import log_line
from trainbench.trials.paths import DataDir

SCHEMA = 1
GENERATOR_VERSION = 1
ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
# Size and checksums of the published archive.
BYTES = 170_498_071
MD5 = "c58f30108f718f92721af3b95e74349a"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
SUBSETS = ("train", "validation")


_OR_STATE = ", or state --sha256 (SHA256 in the workflow) if you trust this archive"


def raw_name(config: ImagesConfig) -> str:
    """Name of the folder below ``raw``: generated sets of several sizes stand side by side."""
    if config.dataset == "generated":
        return f"images-{config.generated_train}-{config.generated_eval}"
    return config.dataset


def download(config: ImagesConfig, data: DataDir, source: Source = PUBLISHER) -> dict[str, Any]:
    """The manifest of the images of ``config``, fetched or drawn where they are not there yet.

    Args:
        source: the mirror is a base URL or a folder with the archive, for ImageNet the folder of
            its TFRecords; the checksum is of an archive that is not the published one.

    Raises:
        MachineError: network or disk. ConfigError: ImageNet without a folder; an archive.
        DataIntegrityError: files that are not what was asked for.
    """
    if source.archive is not None:
        raise ConfigError(f"--archive {source.archive}: give its folder as --mirror")
    name = raw_name(config)
    found = read_manifest(data, name)
    if found and found.get("sha256_stated") == source.sha256 and unchanged(found, data.raw(name)):
        log_line(f"download: {data.raw(name)} is complete and unchanged")
        return found
    data.raw(name).mkdir(parents=True, exist_ok=True)
    if config.dataset == "generated":
        manifest = _generate(config, data.raw(name))
    elif config.dataset == "cifar10":
        manifest = _fetch(data.raw(name), source)
    else:
        manifest = _imagenet(source.mirror)
    manifest = {
        "schema": SCHEMA,
        "dataset": config.dataset,
        "sha256_stated": source.sha256,
        **manifest,
    }
    write_record(data.manifest(name), manifest)
    log_line(f"download: {data.raw(name)} is ready ({manifest['source']})")
    return manifest


def read_manifest(data: DataDir, name: str) -> dict[str, Any] | None:
    """The manifest of a raw folder; ``None`` where there is none of this version."""
    path = data.manifest(name)
    if not path.exists():
        return None
    with damage_told(path, "a manifest", "delete it and run download again"):
        found = read_record(path)
        msgspec.convert(found["files"], dict[str, dict[str, Any]])
        return found if found["schema"] == SCHEMA else None


def unchanged(manifest: dict[str, Any], folder: Path) -> bool:
    """Whether the files of ``manifest`` in ``folder``, or where it says, are as they were."""
    if manifest.get("generator_version", GENERATOR_VERSION) != GENERATOR_VERSION:
        return False
    folder = Path(manifest.get("folder") or folder)
    for name, facts in manifest["files"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != facts.get("bytes"):
            return False
        if facts.get("sha256") and sha256_of(file) != facts["sha256"]:
            return False
    return True


def _generate(config: ImagesConfig, folder: Path) -> dict[str, Any]:
    files = {}
    for seed, (subset, count) in enumerate(
        zip(SUBSETS, (config.generated_train, config.generated_eval), strict=True)
    ):
        images, labels = generated.draw(count, seed=seed)
        packed = io.BytesIO()
        np.savez(packed, images=images, labels=labels)
        write_atomically(folder / f"{subset}.npz", packed.getvalue())
        files[f"{subset}.npz"] = _facts(folder / f"{subset}.npz")
    return {
        "source": "drawn here",
        "generated": True,
        "generator_version": GENERATOR_VERSION,
        "published": False,
        "files": files,
    }


def _fetch(folder: Path, asked: Source) -> dict[str, Any]:
    """Put the archive into ``folder``, verified."""
    sha256, target = asked.sha256, folder / ARCHIVE
    source = transfer.locate(asked.mirror, ARCHIVE) if asked.mirror else URL
    shown = without_credentials(str(source))
    part = target.with_name(target.name + ".part")
    if isinstance(source, Path):
        transfer.copy(source, part)
    else:
        transfer.fetch(
            source,
            part,
            expected_bytes=None if sha256 else BYTES,
            hash_decides=asked.hash_decides,
        )
    digest = digest_of(part)
    published = (digest.bytes, digest.md5, digest.sha256) == (BYTES, MD5, SHA256)
    try:
        if not published and digest.sha256 != (sha256 or "").strip().lower():
            # Without verification anybody may have sent these bytes.
            trusted = "" if asked.hash_decides else _OR_STATE
            raise DataIntegrityError(
                f"{shown}: sha256 is {digest.sha256}, wanted {sha256 or SHA256}; use another "
                f"source{trusted}"
            )
    except TrainbenchError:
        transfer.forget(part)
        raise
    os.replace(part, target)
    files = {ARCHIVE: {"bytes": digest.bytes, "sha256": digest.sha256, "md5": digest.md5}}
    origin = shown if isinstance(source, str) else "local file"
    return {"source": origin, "url": URL, "published": published, "files": files}


def _imagenet(mirror: str | None) -> dict[str, Any]:
    """The TFRecord files that are there: ImageNet's licence forbids to fetch them."""
    if not mirror:
        raise ConfigError(
            "dataset imagenet: name the folder of its TFRecord files with --mirror DIR (MIRROR in "
            "the workflow); its licence does not allow this program to fetch it"
        )
    folder = Path(mirror.removeprefix("file://"))
    found = [file for subset in SUBSETS for file in sorted(folder.glob(f"{subset}-*-of-*"))]
    if {file.name.split("-")[0] for file in found} != set(SUBSETS):
        raise DataIntegrityError(f"{folder}: wanted files train-*-of-* and validation-*-of-*")
    # Not hashed: 140 GB would take longer than many a training.
    files = {file.name: {"bytes": file.stat().st_size} for file in found}
    return {"source": "local files", "folder": str(folder), "published": False, "files": files}


def _facts(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
