"""Extract the one ratings file from an untrusted zip archive.

Only one member is ever written, under a name of our own; an archive with a hostile member is
refused all the same, because its other members cannot be trusted either.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath

from trainbench.errors import DataIntegrityError
from trainbench.files import foreign, read_block, whole_file, writing
from trainbench.movielens.datasets import Layout
from trainbench.progress import Progress, heartbeat

# ml-25m, the largest, unpacks to 1.2 GB at a ratio of 5.
MAX_TOTAL_BYTES = 8 << 30
MAX_RATIO = 100
MAX_MEMBERS = 1_000
# The others take up to 4 GiB of memory for one member, and no publisher uses them.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SMALL_BYTES = 1 << 20  # below this a high ratio is harmless


def ratings_member(path: Path, layout: Layout, *, shown: str | None = None) -> zipfile.ZipInfo:
    """The member of the zip at ``path`` that is the ratings file, after all members were checked.

    Raises:
        DataIntegrityError: not a zip, damaged, hostile, or without exactly one ratings file; the
            message calls the archive ``shown``.
    """
    name = shown or str(path)
    with _zip_errors_told(name), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        fault = _fault_of_all(members, path.stat().st_size)
        faults = [fault] if fault else [f for f in map(_fault, members) if f]
        if faults:
            raise DataIntegrityError(f"{name}: refused: {faults[0]}; use another archive")
        with heartbeat(f"testing {path.name}"):
            damaged = archive.testzip()
        if damaged:
            raise DataIntegrityError(f"{name}: member {damaged!r} is damaged; download it again")
    found = [m for m in members if _is_file(m) and _path(m.filename).name == layout.ratings_file]
    found = [m for m in found if "__MACOSX" not in m.filename]
    if len(found) != 1:
        raise DataIntegrityError(
            f"{name}: found {len(found)} members called {layout.ratings_file}, wanted one; "
            "check that the archive is of the dataset asked for"
        )
    return found[0]


def unpack(path: Path, member: zipfile.ZipInfo, target: Path) -> str:
    """Write ``member`` as ``target`` by rename; the SHA-256 of its bytes.

    Raises:
        MachineError: the disk is full. DataIntegrityError: the member is damaged.
    """
    digest = hashlib.sha256()
    with (
        whole_file(target, target.with_name(target.name + ".part")) as part,
        writing(target, member.file_size),
        _zip_errors_told(str(path)),
        zipfile.ZipFile(path) as archive,
        archive.open(member) as packed,
        part.open("wb") as out,
        Progress(member.file_size, label=f"unpack {target.name}") as progress,
    ):
        # zipfile stops at the size that was checked and compares the CRC there.
        while block := read_block(path, packed):
            digest.update(block)
            out.write(block)
            progress.advance(len(block))
    return digest.hexdigest()


def _zip_errors_told(name: str) -> AbstractContextManager[None]:
    return foreign(name, "a whole zip archive", "delete it and download it again")


def _fault_of_all(members: list[zipfile.ZipInfo], archive_bytes: int) -> str | None:
    """What is wrong with the members taken together."""
    total = sum(member.file_size for member in members)
    names = {member.filename for member in members}
    if len(members) > MAX_MEMBERS:
        return f"{len(members):,} members, at most {MAX_MEMBERS:,} are accepted"
    if len(names) < len(members):
        return "two members of one name"
    # Overlapping members reach ratios that no single one shows.
    if total > MAX_TOTAL_BYTES or total > max(_SMALL_BYTES, MAX_RATIO * archive_bytes):
        return (
            f"unpacks from {archive_bytes:,} to {total:,} bytes; at most {MAX_TOTAL_BYTES:,} "
            f"and {MAX_RATIO} times its size are accepted"
        )
    return None


def _path(name: str) -> PurePosixPath:
    """The path that a member's name means; some programs on Windows write backslashes."""
    return PurePosixPath(name.replace("\\", "/"))


def _is_file(member: zipfile.ZipInfo) -> bool:
    folder = member.filename.endswith(("/", "\\")) or stat.S_ISDIR(member.external_attr >> 16)
    return not folder


def _fault(member: zipfile.ZipInfo) -> str | None:
    """What is wrong with one member."""
    name = member.orig_filename
    path = _path(name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if path.is_absolute() or name[1:2] == ":":
        return f"member {name!r} has an absolute name"
    if ".." in path.parts or "\0" in name:
        return f"member {name!r} leads out of the archive's folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"member {name!r} is a link or a device"
    if member.compress_type not in _METHODS:
        return f"member {name!r} is packed in another way than the archives of MovieLens"
    if member.flag_bits & 1:
        return f"member {name!r} is encrypted"
    if member.file_size > max(_SMALL_BYTES, MAX_RATIO * member.compress_size):
        return f"member {name!r} unpacks to {member.file_size:,} bytes, over {MAX_RATIO} times"
    return None
