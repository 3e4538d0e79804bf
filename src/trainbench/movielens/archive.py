"""Download, verify and unpack a dataset's archive.

    DATA/raw/<dataset>/<archive>       verified: size, checksums, the zip itself
    DATA/raw/<dataset>/<ratings file>  the one member that is needed
    DATA/raw/<dataset>/manifest.json   written last; with it the folder is complete

A step that finds the folder complete and unchanged does nothing.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from trainbench.display.secrets import without_credentials
from trainbench.errors import ConfigError, DataIntegrityError, TrainbenchError
from trainbench.files import read_block, sha256_of
from trainbench.movielens import transfer
from trainbench.movielens.datasets import (
    CHANGES,
    NO_SUM,
    Dataset,
    Manifest,
    read_manifest,
    write_manifest,
)
from trainbench.movielens.formats import check_counts, check_pairs, read_ratings
from trainbench.movielens.large.shards import read_shard, require_whole, shards_of
from trainbench.movielens.unpack import ratings_member, unpack
from trainbench.progress import Progress, log_line
from trainbench.trials.paths import DataDir


@dataclass(frozen=True)
class Digest:
    """Size and checksums of one file."""

    bytes: int
    md5: str
    sha256: str


@dataclass(frozen=True)
class Check:
    """One line of ``verify``: what was compared, whether it holds, what was found."""

    name: str
    ok: bool
    found: str


def download(
    dataset: Dataset,
    data: DataDir,
    *,
    mirror: str | None = None,
    archive: Path | None = None,
    sha256: str | None = None,
    hash_decides: bool = False,
    retry: transfer.Retry | None = None,
) -> Manifest:
    """The manifest of ``dataset`` in ``data``, fetched where it is not there yet.

    ``mirror`` is a base URL (http, https, file) or a folder that has the archive under its
    published name; ``archive`` is the archive itself. ``sha256`` is the checksum that the user
    states for an archive that is not the published one. With ``hash_decides`` a server whose
    certificate does not hold is asked all the same, and the known SHA-256 decides.

    Raises:
        ConfigError: options that contradict each other. MachineError: network or disk.
        DataIntegrityError: an archive that is not what was asked for; it is removed.
    """
    sha256 = _stated(dataset, mirror, archive, sha256)
    folder = data.raw(dataset.name)
    present = _verified(dataset, data, sha256)
    if present:
        log_line(f"download: {folder} is complete and unchanged ({_origin(present)})")
        return present
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / dataset.archive
    source = _source(dataset, mirror, archive)
    digest = _fetched(dataset, target, source, sha256, retry, hash_decides)
    manifest = _unpacked(dataset, target, source, digest)
    write_manifest(manifest, data)
    log_line(f"download: {folder / manifest.ratings_file} is ready ({_origin(manifest)})")
    return manifest


def _unpacked(dataset: Dataset, target: Path, source: str | Path, digest: Digest) -> Manifest:
    """Unpack the ratings beside the archive at ``target``; what the folder has then."""
    ratings = target if dataset.sharded else target.with_name(dataset.layout.ratings_file)
    ratings_sha256 = digest.sha256
    if not dataset.sharded:
        ratings_sha256 = unpack(target, ratings_member(target, dataset.layout), ratings)
    published = _is_published(dataset, digest, from_publisher=source == dataset.url)
    return Manifest(
        dataset=dataset.name,
        source=without_credentials(source) if isinstance(source, str) else "local file",
        ratings_file=ratings.name,
        ratings_bytes=ratings.stat().st_size,
        ratings_sha256=ratings_sha256,
        published=published,
        url=dataset.url,
        archive=dataset.archive,
        bytes=digest.bytes,
        md5=digest.md5,
        sha256=digest.sha256,
        counts=dataset.counts if _matches(dataset, digest) or dataset.sharded * published else None,
        note=CHANGES if dataset.changes else NO_SUM if dataset.sharded else None,
    )


def verify(dataset: Dataset, data: DataDir, *, raw: str = "") -> list[Check]:
    """Everything that can be said about a downloaded or generated dataset, nothing changed.

    ``raw`` names another folder than the dataset's own: that of its expansion.
    """
    folder = raw or dataset.name
    manifest = read_manifest(data.manifest(folder))
    if manifest is None:
        return [Check("manifest", False, f"{data.manifest(folder)} not found; run download")]
    checks = [Check("manifest", True, f"{folder}, {_origin(manifest)}")]
    if manifest.archive:
        checks += _archive_checks(dataset, manifest, data.raw(dataset.name) / manifest.archive)
    ratings = data.raw(folder) / manifest.ratings_file
    if not ratings.exists():
        return [*checks, Check("ratings file", False, f"{ratings} not found; run download")]
    checks.append(_sha256_check("ratings file sha256", ratings, manifest.ratings_sha256))
    for name, sha256 in (manifest.own.mappings if manifest.own else {}).items():
        checks.append(_sha256_check(f"{name} sha256", ratings.with_name(name), sha256))
    return [*checks, _content_check(dataset, manifest, ratings)]


def _sha256_check(name: str, path: Path, wanted: str) -> Check:
    if not path.exists():
        return Check(name, False, f"{path} not found; run download")
    same = sha256_of(path) == wanted
    return Check(name, same, "as in the manifest" if same else "differs")


def _archive_checks(dataset: Dataset, manifest: Manifest, path: Path) -> list[Check]:
    if not path.exists():
        return [Check("archive", False, f"{path} not found; run download")]
    digest = digest_of(path)
    checks = [
        Check(f"archive {name}", found == wanted, f"{found} (manifest: {wanted})")
        for name, found, wanted in (
            ("bytes", digest.bytes, manifest.bytes),
            ("md5", digest.md5, manifest.md5),
            ("sha256", digest.sha256, manifest.sha256),
        )
    ]
    if dataset.stated:
        same = _matches(dataset, digest)
        honest = same == manifest.published
        found = "is the published archive" if same else "is not the published archive, as stated"
        checks.append(Check("published checksum", honest, found if honest else "manifest is wrong"))
    return checks


def _shards_check(path: Path) -> Check:
    try:
        rows = sum(len(block) for shard in shards_of(path) for block in read_shard(path, shard))
    except DataIntegrityError as error:
        return Check("shards", False, str(error))
    return Check("shards", True, f"{rows:,} pairs, none damaged")


def _content_check(dataset: Dataset, manifest: Manifest, path: Path) -> Check:
    if manifest.sharded:
        return _shards_check(path)
    try:
        ratings = read_ratings(path, dataset.layout)
        check_pairs(path, ratings)
        if manifest.counts:
            check_counts(path, ratings, manifest.counts)
    except DataIntegrityError as error:
        return Check("ratings", False, str(error))
    known = "users, items and ratings as known" if manifest.counts else "none twice, none damaged"
    return Check("ratings", True, f"{len(ratings):,} ratings, {known}")


def digest_of(path: Path) -> Digest:
    """Size, MD5 and SHA-256 of a file, in one pass."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file, Progress(size, label=f"verify {path.name}") as progress:
        while block := read_block(path, file):
            md5.update(block)
            sha256.update(block)
            progress.advance(len(block))
    return Digest(size, md5.hexdigest(), sha256.hexdigest())


def _stated(
    dataset: Dataset, mirror: str | None, archive: Path | None, sha256: str | None
) -> str | None:
    """The user's SHA-256 in lower case, after a check of the options."""
    if dataset.url is None:
        raise ConfigError(f"dataset {dataset.name} is generated, there is nothing to download")
    if mirror and archive:
        raise ConfigError("--mirror and --archive: wanted one of them, found both")
    if not sha256:
        return None
    sha256 = sha256.strip().lower()
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ConfigError(f"--sha256 {sha256!r}: wanted 64 hexadecimal digits")
    return sha256


def _verified(dataset: Dataset, data: DataDir, sha256: str | None) -> Manifest | None:
    """The manifest, if what it promises is there, whole, and what the user asks for."""
    manifest = read_manifest(data.manifest(dataset.name))
    if manifest is None:
        return None
    wanted = sha256 == manifest.sha256 if sha256 else manifest.published
    ratings = data.raw(dataset.name) / manifest.ratings_file
    whole = wanted and ratings.exists() and ratings.stat().st_size == manifest.ratings_bytes
    return manifest if whole and sha256_of(ratings) == manifest.ratings_sha256 else None


def _source(dataset: Dataset, mirror: str | None, archive: Path | None) -> str | Path:
    """Where the archive comes from: a URL or a local path."""
    if archive:
        return archive
    if mirror:
        return transfer.locate(mirror, dataset.archive)
    assert dataset.url is not None
    return dataset.url


def _fetched(
    dataset: Dataset,
    target: Path,
    source: str | Path,
    sha256: str | None,
    retry: transfer.Retry | None,
    hash_decides: bool,
) -> Digest:
    """Put the archive at ``target``, verified; one that is there and right is left alone."""
    if target.exists():
        digest = digest_of(target)
        if digest.sha256 == sha256 or (sha256 is None and _matches(dataset, digest)):
            return digest
    if hash_decides and not (sha256 or dataset.sha256):
        raise ConfigError(
            f"--hash-decides: no SHA-256 of {dataset.name} is known, and MD5 can be forged; state "
            "the SHA-256 that you trust with --sha256"
        )
    part = target.with_name(target.name + ".part")
    if isinstance(source, Path):
        transfer.copy(source, part)
    else:
        expected = None if sha256 else dataset.bytes
        transfer.fetch(
            source, part, expected_bytes=expected, retry=retry, hash_decides=hash_decides
        )
    try:
        digest = digest_of(part)
        known = sha256 or dataset.sha256
        if hash_decides and digest.sha256 != known:
            # No advice to state the hash that was found: anybody may have sent these bytes.
            raise DataIntegrityError(
                f"{_shown(source)}: sha256 is {digest.sha256}, known is {known}: not the archive "
                "that was asked for, and nothing of it is kept; use another source"
            )
        _require(dataset, digest, source, sha256)
        if dataset.sharded:
            require_whole(part, shown=_shown(source))
        else:
            ratings_member(part, dataset.layout, shown=_shown(source))
    except TrainbenchError:
        transfer.forget(part)
        raise
    os.replace(part, target)
    return digest


def _require(dataset: Dataset, digest: Digest, source: str | Path, sha256: str | None) -> None:
    """Raise ``DataIntegrityError`` unless the archive is the stated or the published one."""
    shown = _shown(source)
    if sha256:
        if digest.sha256 != sha256:
            raise DataIntegrityError(
                f"{shown}: sha256 is {digest.sha256}, stated with --sha256 is {sha256}; "
                "correct the statement or use another archive"
            )
        return
    if _is_published(dataset, digest, from_publisher=source == dataset.url):
        return
    wanted = f"published is {dataset.md5}" if dataset.md5 else "none is published to compare with"
    raise DataIntegrityError(
        f"{shown}: md5 is {digest.md5}, {wanted}; use another source, or run again with --sha256 "
        f"{digest.sha256} (SHA256 in the workflow) if you trust this archive"
    )


def _matches(dataset: Dataset, digest: Digest) -> bool:
    """Whether the checksums that the publisher states, at least one, are those of the file."""
    stated = (
        (dataset.md5, digest.md5),
        (dataset.sha256, digest.sha256),
        (dataset.bytes, digest.bytes),
    )
    return dataset.stated and all(want in (None, have) for want, have in stated)


def _is_published(dataset: Dataset, digest: Digest, *, from_publisher: bool) -> bool:
    return _matches(dataset, digest) or (from_publisher and not dataset.stated)


def _shown(source: str | Path) -> str:
    return without_credentials(source) if isinstance(source, str) else str(source)


def _origin(manifest: Manifest) -> str:
    if manifest.expanded:
        of = manifest.expanded
        return f"{of.dataset} expanded by {of.factor.text}, seed {of.factor.seed}"
    if manifest.generated:
        return "generated here"
    if manifest.own:
        return f"own ratings, made of {manifest.own.file} with sha256 {manifest.own.sha256}"
    said = "the published archive" if manifest.published else "not the published archive"
    return (
        f"{said}; {manifest.note}, this one has sha256 {manifest.sha256}" if manifest.note else said
    )
