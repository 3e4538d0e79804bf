"""A configuration: ``key=value`` to a frozen dataclass, to JSON and back, whatever it configures.

Every configuration has the field ``preset``: where it comes from, which no setting changes.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from trainbench.errors import ConfigError
from trainbench.files import parse_json

Config = TypeVar("Config", bound=Any)

LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127
SMALLEST_FLOAT32 = 2.0**-126
_NEAR = 0.66
"""Of two names' letters, the share that stands in both in one order: one letter of three."""
_BEGINNING = 3
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def unknown(kind: str, found: str, known: Iterable[str]) -> str:
    """The message for a name that is not one of ``known``, with one that is near suggested."""
    names = list(known)
    near = nearest(found, names)
    hint = f"; did you mean {near!r}?" if near else ""
    return f"unknown {kind} {found!r}{hint} (known: {', '.join(names)})"


def nearest(found: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``found`` was meant to be; ``None`` where it is far from all.

    Near is a slip of the hand (``trian``), the initials (``lr`` of ``learning_rate``), or a word or
    the beginning of a name (``epochs`` of ``max_epochs``, ``eval`` of ``evaluate``).
    """
    names = {_folded(name): name for name in reversed(list(known))}
    wanted = _folded(found)
    slips = difflib.get_close_matches(wanted, names, n=1, cutoff=_NEAR)
    short = [name for name in names if len(wanted) > 1 and _shortens(wanted, name)]
    short = [name for name in short if name.startswith(wanted)] or short
    short = difflib.get_close_matches(wanted, short, n=1, cutoff=0.0)
    best = next(iter((*slips, *short)), None)
    return None if best is None else names[best]


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _shortens(found: str, name: str) -> bool:
    """Whether ``found`` is the initials of ``name``, some of its words, or how it begins."""
    words = name.split("_")
    if found == "".join(word[:1] for word in words) or f"_{found}_" in f"_{name}_":
        return True
    return len(found) >= _BEGINNING and name.startswith(found)


def parsed(kind: type, settings: Iterable[str]) -> dict[str, Any]:
    """The fields of the configuration ``kind`` that the ``key=value`` of ``settings`` name.

    A tuple of numbers is written ``256,128``, a record of numbers ``100x200x3000``, and ``None``,
    where it is allowed, ``none``. Words that stand in place of a number are written as they are.

    Raises:
        ConfigError: a setting without ``=``, an unknown key (the nearest is named), a value of
            the wrong type or a number that is not finite.
    """
    hints = {key: hint for key, hint in get_type_hints(kind).items() if key != "preset"}
    found = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise ConfigError(f"--set {setting!r}: wanted key=value")
        if key not in hints:
            raise ConfigError(unknown("key", key, hints))
        try:
            found[key] = _value(text.strip(), hints[key])
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"--set {key}={text.strip()}: wanted a value of type {_shown(hints[key])}"
            ) from None
        _require_finite(key, found[key])
    return found


def _value(text: str, hint: Any) -> Any:
    kind, words = _kind_and_words(hint)
    if text.lower() in words:
        return words[text.lower()]
    if kind is bool:
        return _BOOLEANS[text.lower()]
    if kind is int:
        return int(text.replace("_", ""))
    if kind in (float, str):
        return kind(text)
    if dataclasses.is_dataclass(kind):
        return kind(*(int(part) for part in text.lower().split("x")))  # type: ignore[operator]
    return tuple(int(part) for part in text.strip("()[]").split(",") if part.strip())


def _require_finite(key: str, value: Any) -> None:
    # Training computes in float32, where what is larger is infinite, and what is smaller is 0: a
    # device may flush denormal numbers.
    if isinstance(value, float) and not abs(value) <= LARGEST_FLOAT32:
        raise ConfigError(f"{key}={value}: wanted a finite number, at most 3.4e38")
    if isinstance(value, float) and 0 < abs(value) < SMALLEST_FLOAT32:
        raise ConfigError(
            f"{key}={value}: wanted 0, or a number from 1.2e-38 on; it is 0 in float32"
        )


def _shown(hint: Any) -> str:
    """How a value of the type ``hint`` is written."""
    kind, words = _kind_and_words(hint)
    if words:
        return " or ".join((_shown(kind), *words))
    if not dataclasses.is_dataclass(kind):
        return "N,N,..." if get_args(kind) else str(kind.__name__)
    fields = dataclasses.fields(kind)
    must = [f.name.upper() for f in fields if f.default is dataclasses.MISSING]
    may = [f"[x{f.name.upper()}]" for f in fields if f.default is not dataclasses.MISSING]
    return "x".join(must) + "".join(may)


def _kind_and_words(hint: Any) -> tuple[Any, dict[str, Any]]:
    """``X`` of the hint ``X | None | Literal["auto"]``, and its words with what each stands for."""
    if not isinstance(hint, types.UnionType) and get_origin(hint) is not Union:
        return hint, {}
    kinds, words = [], dict[str, Any]()
    for part in get_args(hint):
        if part is types.NoneType:
            words["none"] = None
        elif get_origin(part) is Literal:
            words |= {word: word for word in get_args(part)}
        else:
            kinds.append(part)
    (kind,) = kinds
    return kind, words


def require_choices(config: Any, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Raise a ``ConfigError`` for the first field that has none of its ``choices``."""
    for key, allowed in choices.items():
        if getattr(config, key) not in allowed:
            raise ConfigError(unknown(key, str(getattr(config, key)), allowed))


def require_positive(config: Any, keys: Iterable[str]) -> None:
    """Raise a ``ConfigError`` for the first of the fields ``keys`` that is not above 0."""
    for key in keys:
        if getattr(config, key) <= 0:
            raise ConfigError(f"{key}={getattr(config, key)}: wanted a number above 0")


def differences(config: Config, base: Config) -> dict[str, tuple[Any, Any]]:
    """The fields in which ``config`` departs from ``base``: name -> (base's value, own value)."""
    names = [f.name for f in dataclasses.fields(config) if f.name != "preset"]
    pairs = {name: (getattr(base, name), getattr(config, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def settings(config: Any, base: Any) -> list[str]:
    """The ``key=value`` that make ``config`` of ``base``, as ``parsed`` reads them."""
    changed = differences(config, base)
    return [f"{name}={_written(own)}" for name, (_, own) in sorted(changed.items())]


def _written(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return "x".join(str(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def to_json(config: Any) -> str:
    """The text of config.json, stable for equal configurations."""
    return json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True) + "\n"


def from_json(
    kind: type[Config],
    text: str | bytes,
    *,
    former: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Config:
    """The configuration that ``to_json`` wrote; it is not validated.

    Args:
        former: puts the values of an earlier version under today's names.

    Raises:
        ConfigError: not JSON, not the fields of ``kind``, or a number that is not finite.
    """
    try:
        values = parse_json(text, float)
        found = record(kind, former(values) if isinstance(values, dict) else values)
    except ValueError as error:
        raise ConfigError(f"config.json: {error}") from None
    for field in dataclasses.fields(found):
        _require_finite(field.name, getattr(found, field.name))
    return found


def record(kind: type[Config], value: Any) -> Config:
    """The ``kind``, a dataclass, that ``value``, a value of JSON, describes.

    Raises:
        ValueError: an unknown key (the nearest is named), one that is missing or of another type.
    """
    _require_known(kind, value)
    return cast(Config, msgspec.convert(value, kind))


def _require_known(hint: Any, value: Any) -> None:
    # msgspec refuses unknown keys for its own records only.
    for kind in (hint, *get_args(hint)):
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            hints = get_type_hints(kind)
            for key, part in value.items():
                if key not in hints:
                    raise ValueError(unknown("key", key, hints))
                _require_known(hints[key], part)
