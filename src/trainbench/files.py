"""Files on disk: written whole or not at all, hashed, refused early on a full disk; JSON in them.

``read_object`` and ``parse_json`` refuse what is damaged with a ``ValueError`` in words and nothing
else; ``fill`` takes from a JSON object what is usable and names the rest.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import mmap
import os
import shutil
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from trainbench.errors import DataIntegrityError, MachineError, TrainbenchError, system_text

T = TypeVar("T")
BLOCK_BYTES = 4 << 20
PACKAGE = Path(__file__).parent
ON_WINDOWS = os.name == "nt"
MAX_JSON_BYTES = 64 << 20
MAX_DEPTH = 32
# Seeds have up to 64 bits; no count, size or time comes near. Beyond, arithmetic and axes break.
LARGEST = 2**64
UNFINISHED = ".unfinished-"
"""How the name of a folder begins while ``whole_folder`` fills it."""


@contextmanager
def whole_file(path: Path, part: Path | None = None) -> Iterator[Path]:
    """Where to write what becomes ``path`` by one rename when the body ends.

    A reader sees the old file or the new one, never a part. When the body fails, ``path`` is as it
    was and no part is left. ``part`` names the file to write to; a part of a fixed name that a
    killed process left is written over by the next one.
    """
    part = part or path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with named(path):
            yield part
            _sync(part)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, part: Path | None = None, *, durable: bool = True) -> Iterator[Path]:
    """An empty folder to fill; it becomes ``folder`` by a rename when the body ends.

    An older ``folder`` goes. When the body fails, ``folder`` is as it was and no part is left; what
    a killed process left is removed. Without ``durable`` a loss of power may lose the files.
    """
    part = part or folder.with_name(UNFINISHED + folder.name)
    old = folder.with_name(f"{UNFINISHED}old-{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        with named(folder):
            yield part
        for path in (*part.rglob("*"), part) if durable else ():
            _sync(path)
        if folder.is_symlink():
            folder.unlink()
        if folder.exists():
            # A folder cannot be renamed over a full one. Between the two renames there is none,
            # which reads as never made, and never a mixture of both.
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(part, folder)
        shutil.rmtree(old, ignore_errors=True)
        if durable:
            _sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by ``content``; a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the folder is missing, not writable or full; ``path`` is then as it was.
    """
    with whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def is_own_file(path: Path, root: Path) -> bool:
    """Whether ``path`` is a regular file inside ``root``: no link on the way, no pipe, no device.

    A run folder comes from anywhere, and what a link in it names is not the run's.
    """
    return not _linked(path, root) and path.is_file()


def is_own_folder(path: Path, root: Path) -> bool:
    """Whether ``path`` is a folder inside ``root``, without a link on the way."""
    return not _linked(path, root) and path.is_dir()


def require_own_folder(path: Path, root: Path) -> None:
    """Raise if what is written to ``path`` would land outside of ``root``.

    Raises:
        DataIntegrityError: a symbolic link is on the way.
    """
    if _linked(path, root):
        raise DataIntegrityError(
            f"{path}: a symbolic link, or behind one; wanted a folder of {root}: remove the link"
        )


def _linked(path: Path, root: Path) -> bool:
    below = path.relative_to(root).parts
    places = (root.joinpath(*below[: i + 1]) for i in range(len(below)))
    return any(place.is_symlink() for place in places)


def append_line(path: Path, text: str) -> None:
    """Add a line to ``path``, whole or not at all.

    Raises:
        OSError: with the name of the file, which is then as it was.
    """
    line = f"{text}\n".encode()
    with named(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        if file.write(line) != len(line):
            file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := read_block(path, file):
            digest.update(block)
    return digest.hexdigest()


def read_block(path: Path, file: IO[bytes]) -> bytes:
    """The next 4 MiB of ``file``; an error of the disk names ``path``."""
    with named(path):
        return file.read(BLOCK_BYTES)


def forget_pages(array: Any) -> None:
    """Let go of the memory that holds what was read of a mapped file; of another array nothing.

    The system would let go of it when memory is short. Until then it counts as this process's.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


@contextmanager
def writing(path: Path, needed_bytes: int = 0, *, option: str = "--data-dir") -> Iterator[None]:
    """Tell what keeps ``path`` from being written as a ``MachineError`` that names it.

    A disk with fewer than ``needed_bytes`` free is refused at once; a disk that turns out full,
    broken or read-only is told when it does. ``option`` is what names another folder. Stands inside
    ``whole_file``, whose end frees what was written.
    """
    folder = next(p for p in (path, *path.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise MachineError(
            f"{path}: disk full: {needed_bytes:,} bytes needed, {free:,} bytes free; free some "
            f"space, or choose another disk with {option}, then run again"
        )
    try:
        with named(path):
            yield
    except OSError as error:
        if error.errno is None and "requested and" in str(error):
            # NumPy says how many bytes it could not write, and not why.
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise MachineError(system_text(error, needed_bytes)) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise MachineError(
                f"{error.filename}: not allowed to write here ({error.strerror}); "
                f"give the folder to this user or choose another with {option}"
            ) from None
        raise


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Give an ``OSError`` of a read or a write, which names no file, the name ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def write_json(path: Path, value: Any, *, sort_keys: bool = True) -> None:
    """Write ``value``, records too, as indented JSON; a reader sees the old or the whole new file.

    Without ``sort_keys`` what a person looks for first stands first.
    """
    write_atomically(path, json.dumps(value, indent=2, sort_keys=sort_keys, default=asdict) + "\n")


RECORD_SUM = "record_sha256"
"""The field of a record that is the SHA-256 of all its other fields."""


def write_record(path: Path, value: Any) -> None:
    """Write ``value`` as JSON with a sum of its own, which ``read_record`` compares."""
    record = json.loads(json.dumps(value, default=asdict))
    write_json(path, {**record, RECORD_SUM: _record_sum(record)})


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object in ``path`` without its sum; a ``ValueError`` says in words why not.

    Records of earlier versions have no sum.
    """
    record = read_object(path)
    wanted, found = record.pop(RECORD_SUM, None), _record_sum(record)
    if wanted not in (None, found):
        raise ValueError(f"changed: its fields have the sum {found}, wanted {wanted}")
    return record


def _record_sum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Make a file, or the names inside a folder, durable."""
    if ON_WINDOWS and path.is_dir():
        return  # Windows opens no folder.
    # Windows makes durable only what was opened for writing.
    descriptor = os.open(path, os.O_RDWR if ON_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems refuse for folders; a rename is atomic all the same.
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def parse_json(text: str | bytes, not_finite: Callable[[str], Any] = lambda name: None) -> Any:
    """The value of a JSON text; of NaN and infinity, which JSON has not, what ``not_finite`` says.

    Raises:
        ValueError: not UTF-8, not JSON, or nested deeper than ``MAX_DEPTH``.
    """
    text = text if isinstance(text, str) else text.decode()
    try:
        value = _decoder(not_finite).decode(text)
        if text.count("[") + text.count("{") <= MAX_DEPTH or _depth(value) <= MAX_DEPTH:
            return value
    except RecursionError:
        pass
    raise ValueError(f"nested deeper than {MAX_DEPTH}")


@functools.cache
def _decoder(not_finite: Callable[[str], Any]) -> json.JSONDecoder:
    # json.loads makes a decoder for every text, which costs as much as a log's line itself.
    return json.JSONDecoder(parse_constant=not_finite)


def _depth(value: Any) -> int:
    """Of containers in containers; an empty one counts with its holder."""
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(v) for v in inner if v and isinstance(v, dict | list)), default=0)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object ``text``; a ``ValueError`` says in words why it is none."""
    try:
        value = parse_json(text)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def read_file(path: Path) -> bytes:
    """The content of a file that should be small; a ``ValueError`` says in words why not."""
    try:
        if not path.is_file():
            raise ValueError("file not there")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"over {MAX_JSON_BYTES >> 20} MiB, not read")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None


def text_or_empty(path: Path) -> str:
    """The text of a file of the system without white space around it; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; a ``ValueError`` says in words why there is none."""
    return parse_object(read_file(path))


@contextmanager
def damage_told(path: Path, kind: str, advice: str) -> Iterator[None]:
    """Turn a wrong or missing value met in ``path``, no ``kind``, into ``DataIntegrityError``."""
    try:
        yield
    except (ValueError, KeyError) as error:
        raise DataIntegrityError(f"{path}: not {kind} ({error}); {advice}") from None


@contextmanager
def foreign(name: str, kind: str, advice: str) -> Iterator[None]:
    """Turn whatever a parser of foreign bytes raises into ``DataIntegrityError``: ``name`` is none.

    What the system says of a disk or a file stays an ``OSError``.
    """
    try:
        yield
    except TrainbenchError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        said = str(error) or type(error).__name__
        raise DataIntegrityError(f"{name}: not {kind} ({said}); {advice}") from None


def object_or_empty(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; empty where there is none that can be read."""
    with suppress(ValueError):
        return read_object(path)
    return {}


def fill(
    kind: type[T],
    record: Mapping[str, Any],
    absent: set[str] | None = None,
    keys: Mapping[str, str] = types.MappingProxyType({}),
) -> T:
    """``record`` as a ``kind``, all of whose fields may be ``None``; it never fails.

    A value of the wrong type is ``None``, as is an absent key, which is added to ``absent``.
    ``keys`` names fields that have another name in ``record``.
    """
    wanted = {keys.get(name, name): (name, hint) for name, hint in _wanted(cast(Any, kind)).items()}
    if absent is not None:
        absent.update(wanted.keys() - record.keys())
    return kind(**{name: _usable(record.get(key), hint) for key, (name, hint) in wanted.items()})


@functools.cache
def _wanted(kind: Any) -> dict[str, Any]:
    """Field -> ``X`` of its type ``X | None``."""
    hints = get_type_hints(kind)
    return {f.name: get_args(hints[f.name])[0] for f in fields(kind)}


def _usable(value: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        of = get_args(kind)[0]
        members = (_usable(member, of) for member in value) if isinstance(value, list) else None
        return None if members is None else tuple(m for m in members if m is not None)
    if is_dataclass(kind):
        return fill(cast(type, kind), value) if isinstance(value, dict) else None
    if kind is str and type(value) is int:
        # Seeds are text, which JavaScript and spreadsheets keep; up to 0.2 they were numbers.
        return str(value) if abs(value) <= LARGEST else None
    try:
        value = msgspec.convert(value, kind)
    except ValueError:  # Of the wrong type, or a text with half a surrogate pair.
        return None
    # A NaN is no number that JSON has, and none that compares.
    number = isinstance(value, int | float)
    return None if number and not abs(value) <= LARGEST else value
