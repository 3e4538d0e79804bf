"""JSON files as records: what is absent, damaged or of the wrong type is ``None`` and named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from trainbench.display.secrets import without_secrets
from trainbench.files import LARGEST, fill, is_own_file, parse_object, read_file

# What XML 1.0 cannot hold even escaped: control characters, lone surrogates, U+FFFE and U+FFFF.
UNWRITABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What makes a line worth the slow reader, which knows what may be wrong with one.
UNUSUAL = re.compile(r"[^ -~]|[@?%#\\]|\d{19}|\d[eE]\+?\d")
EQUAL: Mapping[str, str] = {}
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """The files below ``root``, and the list of what was not in them."""

    root: Path
    missing: list[str] = field(default_factory=list)

    def mapping(self, path: Path) -> Mapping[str, Any]:
        """The JSON object in ``path``; empty, and noted as missing, when there is none."""
        try:
            return dict(_writable(parse_object(self._read(path))))
        except ValueError as error:
            self.missing.append(f"{self._name(path)}: {error}")
            return {}

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
        try:
            lines = self._read(path).decode(errors="replace").splitlines()
        except ValueError as error:
            self.missing.append(f"{self._name(path)}: {error}")
            return ()
        decode = msgspec.json.Decoder(kind).decode
        for number, line in enumerate(lines, start=1):
            if not UNUSUAL.search(line):
                with suppress(msgspec.MsgspecError, RecursionError):
                    found.append(decode(line))
                    continue
            try:
                found.append(fill(kind, _writable(parse_object(line)), absent))
            except ValueError as error:
                self.missing.append(f"{self._name(path)} line {number}: {error}")
        self._note(path, absent)
        return tuple(found)

    def _read(self, path: Path) -> bytes:
        if path.exists() and not is_own_file(path, self.root):
            raise ValueError("a link, a pipe or a device, not read")
        return read_file(path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _note(self, path: Path, absent: set[str]) -> None:
        if absent:
            self.missing.append(f"{self._name(path)}: {', '.join(sorted(absent))}")


def _writable(value: Any) -> Any:
    """``value`` without passwords and what JSON, XML or UTF-8 cannot hold, at any depth."""
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_writable(item) for item in value]
    if isinstance(value, str):
        return without_secrets(UNWRITABLE.sub("\ufffd", value))
    return None if isinstance(value, int | float) and not abs(value) <= LARGEST else value
