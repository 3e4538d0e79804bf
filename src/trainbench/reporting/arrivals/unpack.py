"""Every file in folders and archives, one by one, in memory: nothing of an archive is written.

What arrives comes from anybody. Links, pipes and devices in folders and archives are not read,
archives in archives only to a depth, and all together to a size. What is not read is named with its
reason. A damaged file is read as far as it goes, and its reason says why it ends there.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from trainbench.errors import DataIntegrityError
from trainbench.files import foreign

MAX_LOG_BYTES = 2**28
MAX_ARCHIVE_BYTES = 2**30
MAX_BYTES = 2**32
"""Read and unpacked, of all files together. The public v0.5 logs of all benchmarks are 0.2 GiB."""
MAX_FILES = 100_000
MAX_NAME = 4_096
"""Characters of a name in an archive."""
MAX_DEPTH = 3
"""Archives in archives; a compressed archive counts once."""
IRREGULAR = ("a link, not followed", "no regular file, not read")
_BLOCK_BYTES = 2**20
_XZ_MEMORY_BYTES = 2**27
_DAMAGE = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Arrived:
    """A file: its name with those of folders and archives around it, and its content unpacked.

    ``content`` is ``None`` where it was not read, and ``reason`` says why. With a content,
    ``reason`` says why that ends early. ``named`` is a file that the user named.
    """

    name: str
    content: bytes | None
    reason: str = ""
    named: bool = False


class _Budget:
    """What may still be unpacked."""

    def __init__(self) -> None:
        self.bytes, self.files = MAX_BYTES, MAX_FILES

    def read(self, file: IO[bytes], kind: str = "file") -> tuple[bytes, str]:
        """The content of ``file`` and why it ends early, if it does."""
        blocks: list[bytes] = []
        size, most = 0, MAX_LOG_BYTES
        if self.bytes < 0:
            return b"", _too_much(MAX_BYTES)
        # In small pieces: what comes before the damage is returned.
        read = getattr(file, "read1", file.read)
        try:
            while block := read(_BLOCK_BYTES):
                if not size and (_is_tar(block) or block.startswith(_ARCHIVES)):
                    most = MAX_ARCHIVE_BYTES
                size += len(block)
                self.bytes -= len(block)
                blocks.append(block)
                if size > most or self.bytes < 0:
                    return b"".join(blocks), _too_much(most if size > most else MAX_BYTES)
        except _DAMAGE as error:
            return b"".join(blocks), f"damaged {kind} ({error or type(error).__name__})"
        return b"".join(blocks), ""


def _too_much(most: int) -> str:
    whose = "all files together have " if most == MAX_BYTES else ""
    return f"{whose}more than {most >> 20:,} MiB, the rest was not read"


def arrived(paths: Sequence[Path], without: Path | None = None) -> Iterator[Arrived]:
    """Every file of ``paths`` in the order of paths and names, each under a name of its own.

    The folder ``without`` is left out: a report that is written into the folder that it is made of
    would change it.
    """
    budget, seen = _Budget(), dict[str, int]()
    for path, label in zip(paths, labels(paths), strict=True):
        found = (
            _folder(path, label, budget, without) if path.is_dir() else _given(path, label, budget)
        )
        for item in found:
            seen[item.name] = seen.get(item.name, 0) + 1
            again = seen[item.name] > 1
            yield replace(item, name=f"{item.name} ({seen[item.name]})") if again else item


def labels(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its own; a number behind it where it occurs twice."""
    names = [path.resolve().name or "root" for path in paths]
    return [
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _given(path: Path, label: str, budget: _Budget) -> Iterator[Arrived]:
    """The file that the user named, whatever it is: a pipe will do."""
    try:
        with open(path, "rb") as file:
            content, reason = budget.read(file)
    except OSError as error:
        yield Arrived(label, None, f"cannot be read ({error.strerror or error})", named=True)
        return
    found = _opened(Arrived(label, content, reason), budget, MAX_DEPTH)
    yield from (replace(item, named=item.name == label) for item in found)


def _folder(root: Path, label: str, budget: _Budget, without: Path | None) -> Iterator[Arrived]:
    closed: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=closed.append):
        here = Path(folder)
        below = PurePosixPath(label, *here.relative_to(root).parts)
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in linked)
        if without is not None and here.resolve() == without and here != root:
            folders[:] = []
            continue
        if _is_run(here, folders, files):
            # Everything else in the folder of a run is no result: raw logs, records, reports.
            folders[:] = ["results"] if "results" in folders else []
            continue
        for name in sorted([*files, *linked]):
            yield from _in_folder(here / name, (below / name).as_posix(), budget)
    for error in closed:
        name = PurePosixPath(label, *Path(error.filename).relative_to(root).parts).as_posix()
        yield Arrived(name, None, f"cannot be read ({error.strerror})")


def _is_run(folder: Path, folders: Sequence[str], files: Sequence[str]) -> bool:
    return "run.json" in files and any(name.startswith("trial_") for name in folders)


def _in_folder(path: Path, name: str, budget: _Budget) -> Iterator[Arrived]:
    try:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            yield Arrived(name, None, _irregular(stat.S_ISLNK(mode)))
            return
        budget.files -= 1
        if budget.files < 0:
            yield Arrived(name, None, f"more than {MAX_FILES:,} files")
            return
        with path.open("rb") as file:
            content, reason = budget.read(file)
    except OSError as error:
        yield Arrived(name, None, f"cannot be read ({error.strerror or error})")
        return
    yield from _opened(Arrived(name, content, reason), budget, MAX_DEPTH)


def _irregular(link: bool) -> str:
    return IRREGULAR[0] if link else IRREGULAR[1]


def _opened(item: Arrived, budget: _Budget, depth: int) -> Iterator[Arrived]:
    """``item``, or what is in it if its first bytes are those of an archive."""
    content = item.content or b""
    packed = next((kind for kind in _PACKED if content.startswith(kind.magic)), None)
    archive = zip_members if content.startswith(_ZIP) else None
    if packed:
        content, reason = budget.read(packed.opened(io.BytesIO(content)), packed.kind)
        item = Arrived(item.name, content, item.reason or reason)
    if archive is None and _is_tar(content):
        archive = tar_members
    nested = packed and content.startswith(_ARCHIVES)
    if archive is None and not nested:
        yield item
    elif depth == 0:
        yield Arrived(item.name, None, f"archives in archives, deeper than {MAX_DEPTH}")
    elif archive is None:
        yield from _opened(item, budget, depth - 1)
    else:
        if item.reason:
            yield Arrived(item.name, None, item.reason)
        member = None
        for member in archive(item, budget):
            whole = member.content is None
            yield from [member] if whole else _opened(member, budget, depth - 1)
        if member is None and not item.reason:
            yield Arrived(item.name, None, "an archive without files")


@dataclass(frozen=True)
class _Packed:
    kind: str
    magic: bytes
    opened: Callable[[IO[bytes]], Any]


class _Xz(io.RawIOBase):
    """An xz file; a dictionary of more than ``_XZ_MEMORY_BYTES`` is refused."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._decoder = file, self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, of one stream after another."""
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data.lstrip(b"\0") or self._file.read(_BLOCK_BYTES)
                if not rest:
                    return 0
                self._decoder = self._new()
            else:
                rest = self._file.read(_BLOCK_BYTES) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not rest:
                    raise EOFError("it ends before its end was marked")
            data = self._decoder.decompress(rest, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)


_PACKED = (
    _Packed("gzip", b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    _Packed("xz", b"\xfd7zXZ\x00", _Xz),
    _Packed("bzip2", b"BZh", bz2.BZ2File),
)
_ZIP = b"PK\x03\x04"
_ARCHIVES = (*(kind.magic for kind in _PACKED), _ZIP)


def _is_tar(content: bytes) -> bool:
    """Whether the first block is a header: with the name of the format, or with its right sum."""
    if content[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(content[:512], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def zip_members(archive: Arrived, budget: _Budget) -> Iterator[Arrived]:
    """The files of a zip archive."""
    try:
        with foreign(archive.name, "a zip archive", "make it again"):
            opened = zipfile.ZipFile(io.BytesIO(archive.content or b""))
    except DataIntegrityError as error:
        yield Arrived(archive.name, None, f"damaged zip ({_said(error)})")
        return
    for info in sorted(opened.infolist(), key=lambda info: info.filename):
        if info.is_dir():
            continue
        # Some programs on Windows write the names as they have them.
        name = info.filename.replace("\\", "/")
        refused = _refused(name, budget) or _unread(info)
        if refused:
            yield Arrived(f"{archive.name}/{name[:MAX_NAME]}", None, refused)
            continue
        yield _member(archive, name, partial(opened.open, info), "zip", budget)


def _unread(info: zipfile.ZipInfo) -> str:
    """Why a member of a zip archive is not read; see docs/decisions.md on methods."""
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return _irregular(stat.S_ISLNK(mode))
    if info.flag_bits & 1:
        return "encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compression method {info.compress_type}; wanted stored or deflated"
    return ""


def tar_members(archive: Arrived, budget: _Budget) -> Iterator[Arrived]:
    """The files of a tar archive, in its order."""
    try:
        with foreign(archive.name, "a tar archive", "make it again"):
            opened = tarfile.TarFile(fileobj=io.BytesIO(archive.content or b""))
    except DataIntegrityError as error:
        yield Arrived(archive.name, None, f"damaged tar ({_said(error)})")
        return
    while True:
        try:
            with foreign(archive.name, "a tar archive", "make it again"):
                info = opened.next()
        except DataIntegrityError as error:
            if not archive.reason:
                yield Arrived(archive.name, None, f"damaged tar ({_said(error)})")
            return
        if info is None:
            return
        if info.isdir():
            continue
        refused = _refused(info.name, budget)
        if not refused and not info.isreg():
            refused = _irregular(info.issym() or info.islnk())
        if refused:
            yield Arrived(f"{archive.name}/{info.name[:MAX_NAME]}", None, refused)
            continue
        yield _member(archive, info.name, partial(_of_tar, opened, info), "tar", budget)


def _of_tar(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = opened.extractfile(info)
    assert file is not None, "only regular files are opened"
    return file


def _member(
    archive: Arrived, name: str, opened: Callable[[], IO[bytes]], kind: str, budget: _Budget
) -> Arrived:
    full = f"{archive.name}/{name}"
    try:
        with foreign(full, f"a file of a {kind} archive", "make it again"), opened() as file:
            content, reason = budget.read(file, kind)
    except DataIntegrityError as error:
        return Arrived(full, None, f"damaged {kind} ({_said(error)})")
    return Arrived(full, content, reason)


def _refused(name: str, budget: _Budget) -> str:
    budget.files -= 1
    if budget.files < 0:
        return f"more than {MAX_FILES:,} files"
    if len(name) > MAX_NAME:
        return f"its name has more than {MAX_NAME:,} characters"
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return "its name leads out of the archive"
    return ""


def _said(error: DataIntegrityError) -> str:
    """What a parser said of foreign bytes."""
    text = str(error)
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text else text
