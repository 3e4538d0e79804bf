"""What is asked of own ratings: the file, its columns, and what is done with its rows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainbench.configuration import unknown
from trainbench.errors import ConfigError, DataIntegrityError

NAME = "own"
"""The dataset of ratings that were given no name."""
FORMATS = ("csv", "tsv", "parquet")
DUPLICATES = ("refuse", "first", "last")
HELD_OUT = ("latest", "last", "random")
ROLES = ("user", "item", "time", "rating")
NAME_THEM = (
    "name them: --columns user=COLUMN,item=COLUMN,time=COLUMN,rating=COLUMN",
    "check --columns; capitals count",
)
"""Advice on columns that are missing: not asked for by name, and asked for."""
# Names that a column has without being asked for: in small letters, without what joins words.
_KNOWN = {
    "user": ("user", "userid"),
    "item": ("item", "itemid", "movie", "movieid"),
    "time": ("time", "timestamp"),
    "rating": ("rating",),
}


@dataclass(frozen=True)
class Request:
    """What ``download --ratings`` was asked for.

    Attributes:
        format: csv, tsv or parquet. columns: role -> name, or position from 1 where there is no
            header; empty: by the usual names.
        duplicates: what to do with a pair of user and item that stands in several rows: ``refuse``
            the file, keep the ``first`` row or the ``last``, by the order of the file.
        positive_from: only ratings from this one on count; ``None``: all do.
        held_out: each user's ``latest`` item by time, the ``last`` in the file, or one at
            ``random``; empty: latest if there is a time, else last.
        seed: of ``random``.
    """

    path: Path
    format: str
    columns: Mapping[str, str]
    header: bool = True
    duplicates: str = "refuse"
    positive_from: float | None = None
    held_out: str = ""
    seed: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the file, as a record keeps it."""
        return {
            "format": self.format,
            "columns": dict(self.columns),
            "header": self.header,
            "duplicates": self.duplicates,
            "positive_from": self.positive_from,
            "held_out": self.held_out,
            "seed": self.seed,
        }


def request(given: Mapping[str, Any]) -> Request | None:
    """The request that the options of ``download`` make; None where they name no ratings.

    Raises:
        ConfigError: options that are wrong or contradict each other.
    """
    wanted = {name: value for name, value in given.items() if value not in (None, "")}
    if "ratings" not in wanted:
        _require_no_other(wanted)
        return None
    path = Path(str(wanted["ratings"]))
    held_out = wanted.get("held_out")
    asked = Request(
        path=path,
        format=_choice("--format", wanted.get("format") or _format_of(path), FORMATS),
        columns=_columns(str(wanted.get("columns", ""))),
        header=wanted.get("header", True),
        duplicates=_choice("--duplicates", wanted.get("duplicates", "refuse"), DUPLICATES),
        positive_from=_number(wanted.get("positive_from")),
        held_out=_choice("--held-out", held_out, HELD_OUT) if held_out else "",
        seed=int(wanted.get("held_out_seed", 0)),
    )
    _require_consistent(asked)
    return asked


def _require_no_other(wanted: Mapping[str, Any]) -> None:
    """Raise a ``ConfigError`` for an option that would change own ratings, where there are none."""
    as_left = {"header": True, "duplicates": "refuse", "held_out_seed": 0}
    names = ("format", "columns", "duplicates", "positive_from", "held_out", "held_out_seed")
    for name in ("header", *names):
        if name in wanted and wanted[name] != as_left.get(name):
            option = "--no-header" if name == "header" else f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: it is about own ratings; wanted --ratings FILE as well")


def _require_consistent(asked: Request) -> None:
    columns = asked.columns
    if asked.seed < 0:
        raise ConfigError(f"--held-out-seed {asked.seed}: wanted 0 or more")
    if asked.seed and asked.held_out != "random":
        raise ConfigError(f"--held-out-seed {asked.seed}: wanted --held-out random as well")
    if columns and "time" not in columns and asked.held_out == "latest":
        raise ConfigError("--held-out latest: wanted a time=COLUMN in --columns; found none")
    if "time" in columns and asked.held_out in ("last", "random"):
        raise ConfigError(
            f"--held-out {asked.held_out} and time={columns['time']}: wanted one of them; the time "
            "would not be used"
        )
    if columns and "rating" not in columns and asked.positive_from is not None:
        raise ConfigError(
            f"--positive-from {asked.positive_from:g}: wanted a rating=COLUMN in --columns; found "
            "none"
        )
    if asked.header or asked.format == "parquet":
        return
    if not columns or not all(re.fullmatch("[1-9][0-9]{0,3}", name) for name in columns.values()):
        raise ConfigError(
            "--no-header: wanted the positions of the columns from 1 on: "
            "--columns user=1,item=2,rating=3,time=4"
        )


def _format_of(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    for kind in FORMATS:
        if name.endswith(f".{kind}"):
            return kind
    raise ConfigError(
        f"--ratings {path}: its name does not tell the format; add --format {'|'.join(FORMATS)}"
    )


def _choice(option: str, found: str, known: Sequence[str]) -> str:
    if found not in known:
        raise ConfigError(unknown(f"value of {option}:", str(found), known))
    return found


def _number(value: Any) -> float | None:
    if value is None:
        return None
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ConfigError(f"--positive-from {value}: wanted a number")
    return found


def _columns(text: str) -> dict[str, str]:
    """Role -> column of ``user=U,item=I,time=T,rating=R``."""
    found: dict[str, str] = {}
    for word in text.split(",") if text.strip() else ():
        role, equals, name = (part.strip() for part in word.partition("="))
        if not equals or not name:
            raise ConfigError(f"--columns {word.strip()!r}: wanted ROLE=COLUMN, as in user=userId")
        if role not in ROLES:
            raise ConfigError(unknown("role in --columns:", role, ROLES))
        if role in found or name in found.values():
            raise ConfigError(
                f"--columns {text}: {word.strip()}: a role or a column twice; use each once"
            )
        found[role] = name
    missing = [role for role in ("user", "item") if role not in found]
    if found and missing:
        raise ConfigError(f"--columns {text}: wanted {' and '.join(missing)} as well")
    return found


def taken_columns(asked: Request, names: Sequence[str], place: str, advice: str) -> dict[str, str]:
    """Role -> column of the file whose columns are ``names``: as asked, or by the usual names.

    Raises:
        DataIntegrityError: at ``place``, a column that is missing, or that stands there twice.
    """
    columns = dict(asked.columns) or usual_columns(names)
    wanted = list(columns.values()) if asked.columns else ["user", "item"]
    missing = [name for name in wanted if name not in (names if asked.columns else columns)]
    if missing:
        raise DataIntegrityError(
            f"{place}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; found "
            f"{', '.join(names)[:200] or 'nothing'}; {advice}"
        )
    twice = [name for name in columns.values() if list(names).count(name) > 1]
    if twice:
        raise DataIntegrityError(
            f"{place}: the column {twice[0]} stands there twice; rename one of them"
        )
    return columns


def usual_columns(names: Sequence[str]) -> dict[str, str]:
    """Role -> column of ``names``, by the usual names; roles that none has are left out.

    Raises:
        ConfigError: two columns of one role.
    """
    found: dict[str, str] = {}
    for role, known in _KNOWN.items():
        # One that stands there twice is told later.
        mine = [name for name in dict.fromkeys(names) if re.sub("[_ -]", "", name).lower() in known]
        if len(mine) > 1:
            raise ConfigError(
                f"columns {' and '.join(mine)} may both be the {role}; say which: --columns "
                f"user=...,item=...,{'' if role in ('user', 'item') else role + '=...'}".rstrip(",")
            )
        found.update({role: mine[0]} if mine else {})
    return found
