"""What one flag is: its type, its bounds and what it means under TensorFlow 2."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

KEEP = "KEEP"
"""The same meaning as in the TensorFlow 1 program."""
MAP = "MAP"
"""The same purpose, reached by another mechanism."""
NOTE = "NOTE"
"""Accepted; one warning says that it has no effect, and why."""
DROP = "DROP"
"""Refused, with the replacement named."""
OURS = "OURS"
"""Not in tf_cnn_benchmarks."""

VERDICTS = (KEEP, MAP, NOTE, DROP, OURS)


T = TypeVar("T")
_KINDS = {
    bool: "boolean",
    int: "integer",
    float: "float",
    str: "string",
    tuple: "list",
    Literal: "enum",
}


def flag(
    default: T,
    verdict: str,
    help: str,
    remark: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    refused: tuple[Any, ...] = (),
) -> T:
    """The field of a flag in the class of its concern; the arguments are attributes of ``Flag``.

    The field's annotation says the rest: the kind, the values of an enum (``Literal``), and
    whether the flag may be unset (``None``).
    """
    metadata = {"verdict": verdict, "help": help, "remark": remark}
    return field(
        default=default, metadata={**metadata, "low": low, "high": high, "refused": refused}
    )


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        kind: boolean, integer, float, string, enum or list.
        optional: whether it may be None.
        values: what an enum may be.
        remark: for MAP what does the work now, for NOTE why there is no effect, for DROP what to
            use instead.
        low, high: inclusive bounds of a number.
        refused: for DROP, the values that are refused; none given means every value but the
            default.
    """

    name: str
    kind: str
    default: Any
    optional: bool
    values: tuple[str, ...]
    verdict: str
    help: str
    remark: str
    low: float | None
    high: float | None
    refused: tuple[Any, ...]

    def is_refused(self, value: Any) -> bool:
        """Whether ``value`` is one that no longer exists."""
        if self.refused:
            return value in self.refused
        return self.verdict == DROP and value != self.default

    def is_noted(self, value: Any) -> bool:
        """Whether ``value`` was set although nothing depends on it."""
        return self.verdict == NOTE and value != self.default


@dataclass(frozen=True)
class Group:
    """Flags of one concern, in the order in which ``--help`` lists them."""

    title: str
    flags: tuple[Flag, ...]

    @classmethod
    def of(cls, concern: type[Any]) -> Group:
        """The fields of a dataclass; its docstring is the title."""
        hints = get_type_hints(concern)
        title = (concern.__doc__ or "").rstrip(".")
        return cls(title, tuple(_flag(each, hints[each.name]) for each in fields(concern)))


def _flag(each: Field[Any], hint: Any) -> Flag:
    types = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kind = _KINDS[get_origin(types[0]) or types[0]]
    values = get_args(hint) if kind == "enum" else ()
    return Flag(each.name, kind, each.default, NoneType in types, values, **each.metadata)
