"""The parameters of a run: one value for each flag, checked and immutable."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable, Iterator
from typing import Any

from trainbench.cnn.flags import FLAGS, Flag
from trainbench.errors import ConfigError


class ParamError(ConfigError, ValueError):
    """A parameter, or a combination of parameters, that cannot be run."""


class Params:
    """One value for each flag, read as an attribute: ``params.batch_size``."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getattr__(self, name: str) -> Any:
        # Copying and pickling ask for their own names before there are any values.
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(unknown_flag(name)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"parameters do not change; use replace({name}={value!r})")

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._values)

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "_values", state)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Params) and self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        changed = (f"{name}={value!r}" for name, value in self.changed().items())
        return f"Params({', '.join(changed)})"

    def replace(self, **changes: Any) -> Params:
        """A copy with ``changes``, checked as ``make_params`` checks them."""
        return make_params(**{**self._values, **changes})

    def changed(self) -> dict[str, Any]:
        """The values that are not the defaults."""
        return {name: v for name, v in self._values.items() if v != FLAGS[name].default}


def make_params(**values: Any) -> Params:
    """Parameters with the defaults of the flags wherever ``values`` says nothing.

    Raises:
        ParamError: (a ``ValueError``) an unknown name, a value of another type, one outside its
            bounds, or one that its enum does not have.
    """
    for name in values:
        if name not in FLAGS:
            raise ParamError(unknown_flag(name))
    every = {name: values.get(name, flag.default) for name, flag in FLAGS.items()}
    return Params({name: _checked(FLAGS[name], value) for name, value in every.items()})


def unknown_flag(name: str, known: Iterable[str] = FLAGS) -> str:
    """The message for a flag that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Unknown flag --{name}" + (f"; did you mean --{near[0]}?" if near else "")


def _checked(flag: Flag, value: Any) -> Any:
    if value is None:
        return None
    value = _typed(flag, value)
    if flag.low is not None and value < flag.low:
        raise ParamError(
            f"Param {flag.name} value of {value} is lower than the lower bound of {flag.low}"
        )
    if flag.high is not None and value > flag.high:
        raise ParamError(
            f"Param {flag.name} value of {value} is higher than the upper bound of {flag.high}"
        )
    if flag.kind == "enum" and value not in flag.values:
        raise ParamError(f"Param {flag.name} of value {value} is not in {flag.values}")
    return value


def _typed(flag: Flag, value: Any) -> Any:
    """``value`` as the type of ``flag``; lists become tuples, numbers of NumPy become Python's."""
    if flag.kind == "integer" and isinstance(value, numbers.Integral):
        return int(value)
    if flag.kind == "float" and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if flag.kind == "boolean" and value in (True, False):
        return bool(value)
    if flag.kind == "list" and not isinstance(value, numbers.Number):
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(part.strip() if isinstance(part, str) else part for part in parts)
    if flag.kind == "enum":
        return value
    if flag.kind == "string":
        return str(value)
    raise ParamError(f"Param {flag.name} value of {value!r} is not of type {flag.kind}")
