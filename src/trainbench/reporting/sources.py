"""JSON files as records: what is absent, damaged or of the wrong type is ``None`` and named."""

from __future__ import annotations

import functools
import json
import math
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from trainbench.reporting.records import Degradation

MAX_FILE_BYTES = 64 * 2**20
# Seeds have up to 64 bits; no count, size or time comes near. Beyond, arithmetic and axes break.
LARGEST = 2**64
# What XML 1.0 cannot hold even escaped: control characters, lone surrogates, U+FFFE and U+FFFF.
UNWRITABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
EQUAL: Mapping[str, str] = {}
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """The files below ``root``, and the list of what was not in them."""

    root: Path
    missing: list[str] = field(default_factory=list)

    def mapping(self, path: Path) -> Mapping[str, Any]:
        """The JSON object in ``path``; empty, and noted as missing, when there is none."""
        text = self._text(path)
        if text is None:
            return {}
        value = self._json(text, self._name(path))
        return value if isinstance(value, dict) else {}

    def record(self, path: Path, kind: type[T], keys: Mapping[str, str] = EQUAL) -> T:
        """The JSON object in ``path`` as a ``kind``, with ``None`` for what it lacks.

        ``keys`` names fields that have another name in the file.
        """
        record, absent = self.mapping(path), set[str]()
        result = fill(kind, record, absent, keys)
        if record:
            self._note(path, absent)
        return result

    def records(self, path: Path, kind: type[T]) -> tuple[T, ...]:
        """The JSON lines of ``path``, each as a ``kind``; an unreadable line is noted, not kept."""
        absent, found = set[str](), []
        for number, line in enumerate((self._text(path) or "").splitlines(), start=1):
            value = self._json(line, f"{self._name(path)} line {number}")
            if isinstance(value, dict):
                found.append(fill(kind, value, absent))
        self._note(path, absent)
        return tuple(found)

    def _text(self, path: Path) -> str | None:
        if not path.is_file():
            self.missing.append(f"{self._name(path)}: file not there")
            return None
        if path.stat().st_size > MAX_FILE_BYTES:
            self.missing.append(f"{self._name(path)}: over {MAX_FILE_BYTES >> 20} MiB, not read")
            return None
        return path.read_text(encoding="utf-8", errors="replace")

    def _json(self, text: str, name: str) -> Any:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            self.missing.append(f"{name}: not JSON")
            return None
        if not isinstance(value, dict):
            self.missing.append(f"{name}: not a JSON object")
        return _writable(value)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _note(self, path: Path, absent: set[str]) -> None:
        if absent:
            self.missing.append(f"{self._name(path)}: {', '.join(sorted(absent))}")


def fill(
    kind: type[T], record: Mapping[str, Any], absent: set[str], keys: Mapping[str, str] = EQUAL
) -> T:
    """``record`` as a ``kind``: a value of the wrong type is ``None``, an absent key is noted."""
    wanted = {keys.get(name, name): (name, hint) for name, hint in _wanted(cast(Any, kind)).items()}
    absent.update(wanted.keys() - record.keys())
    return kind(**{name: _coerced(record.get(key), hint) for key, (name, hint) in wanted.items()})


@functools.cache
def _wanted(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _coerced(value: Any, hint: Any) -> Any:
    """``value`` if it has the type that ``hint`` (``X | None``) names, else ``None``."""
    (kind,) = [part for part in get_args(hint) if part is not types.NoneType]
    if get_origin(kind) is tuple:
        return tuple(_members(value, get_args(kind)[0])) if isinstance(value, list) else None
    return _scalar(value, kind)


def _scalar(value: Any, kind: Any) -> Any:
    if isinstance(value, int | float) and abs(value) > LARGEST:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, bool) and kind is not bool:
        return None
    return value if isinstance(value, kind) else None


def _members(values: list[Any], kind: Any) -> Iterator[Any]:
    for value in values:
        if kind is Degradation and isinstance(value, dict):
            yield fill(Degradation, value, set())
        elif (member := _scalar(value, kind)) is not None:
            yield member


def _writable(value: Any) -> Any:
    """``value`` without what JSON, XML or UTF-8 cannot hold, at any depth."""
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_writable(item) for item in value]
    if isinstance(value, str):
        return UNWRITABLE.sub("\ufffd", value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
