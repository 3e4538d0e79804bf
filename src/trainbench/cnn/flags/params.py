"""The parameters of a run: one value for each flag, checked and immutable."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trainbench.cnn.flags.retired import successor
from trainbench.cnn.flags.spec import Flag, Group
from trainbench.cnn.flags.table import (
    Checkpoints,
    Compiler,
    Data,
    Devices,
    Evaluation,
    Mode,
    Optimizer,
    Output,
    Precision,
    Processes,
    Reduction,
    Schedule,
    Several,
    Traces,
)
from trainbench.configuration import nearest
from trainbench.errors import ConfigError


class ParamError(ConfigError, ValueError):
    """A parameter, or a combination of parameters, that cannot be run."""


@dataclass(frozen=True, repr=False)
class Params(
    # Fields begin with those of the last base.
    Traces,
    Compiler,
    Devices,
    Processes,
    Reduction,
    Precision,
    Schedule,
    Optimizer,
    Checkpoints,
    Output,
    Several,
    Evaluation,
    Data,
    Mode,
):
    """One value for each flag, read as an attribute: ``params.num_gpus``.

    Raises:
        ParamError: (a ``ValueError``) a value of another type, one outside its bounds, or one that
            its enum does not have.
    """

    def __post_init__(self) -> None:
        for name, flag in FLAGS.items():
            object.__setattr__(self, name, _checked(flag, getattr(self, name)))

    def __repr__(self) -> str:
        changed = (f"{name}={value!r}" for name, value in self.changed().items())
        return f"Params({', '.join(changed)})"

    def replace(self, **changes: Any) -> Params:
        """A copy with ``changes``, checked as ``make_params`` checks them."""
        return make_params(**{**vars(self), **changes})

    def without(self, *names: str) -> Params:
        """A copy with the defaults of the flags ``names``."""
        return self.replace(**{name: FLAGS[name].default for name in names})

    def changed(self) -> dict[str, Any]:
        """The values that are not the defaults, in the order of the flags."""
        values = {name: getattr(self, name) for name in FLAGS}
        return {name: value for name, value in values.items() if value != FLAGS[name].default}


RUN_FILES = (
    "train_dir",
    "trace_file",
    "tfprof_file",
    "graph_file",
    "partitioned_graph_file_prefix",
)
"""What a run writes for itself: no two runs or processes can share these."""
GROUPS = tuple(Group.of(concern) for concern in reversed(Params.__bases__))
FLAGS = {flag.name: flag for group in GROUPS for flag in group.flags}


def make_params(**values: Any) -> Params:
    """Parameters with the defaults of the flags wherever ``values`` says nothing.

    Raises:
        ParamError: an unknown name, or a value that ``Params`` refuses.
    """
    for name in values:
        if name not in FLAGS:
            raise ParamError(unknown_flag(name))
    return Params(**values)


def unknown_flag(name: str, known: Iterable[str] = FLAGS) -> str:
    """The message for a flag that does not exist: its successor, or the nearest one that does."""
    now = successor(name)
    if now is not None:
        return f"--{name} is a flag of earlier versions of tf_cnn_benchmarks; {now}"
    near = nearest(name, known)
    hint = f"did you mean --{near}?" if near else "--help lists all of them"
    return f"Unknown flag --{name}; {hint}"


def _checked(flag: Flag, value: Any) -> Any:
    # A script whose variable is unset writes --train_dir= and means no folder.
    if flag.optional and (value is None or (flag.kind == "string" and value == "")):
        return None
    value = _typed(flag, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ParamError(f"Param {flag.name} value of {value} is not a finite number")
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
    if flag.kind == "list" and isinstance(value, Iterable):
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(part.strip() if isinstance(part, str) else part for part in parts)
    if flag.kind == "enum":
        return value
    if flag.kind == "string" and value is not None:
        return str(value)
    raise ParamError(f"Param {flag.name} value of {value!r} is not of type {flag.kind}")
