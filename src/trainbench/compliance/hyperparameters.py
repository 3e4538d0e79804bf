"""What logs say of how their runs were set: hyperparameters, sizes and target, by tag."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from trainbench.compliance.event import Event, excerpt
from trainbench.compliance.event_index import is_number
from trainbench.compliance.tags import ncf as tags

_SECTIONS = ("eval_hp_", "input_hp_", "lars_", "model_", "opt_", "preproc_", "train_hp_")
_TAGS = frozenset(
    {
        tags.EVAL_SIZE,
        tags.EVAL_TARGET,
        tags.INPUT_BATCH_SIZE,
        tags.INPUT_SIZE,
        tags.PRECISION,
        "input_bn_span",
        "backbone",
    }
)
MOST_VALUES = 100


def hyperparameters(logs: Iterable[Iterable[Event]]) -> Mapping[str, tuple[Any, ...]]:
    """The values of each tag in ``logs``, each value once, in the order of the logs.

    A tag without a value says nothing. Of more than ``MOST_VALUES`` the first is listed, with the
    number and the hash of all.
    """
    found: dict[str, dict[str, Any]] = {}
    for events in logs:
        for event in events:
            if event.scalar is not None and (event.key in _TAGS or event.key.startswith(_SECTIONS)):
                value = _plain(event.scalar)
                found.setdefault(event.key, {}).setdefault(json.dumps(value), value)
    return {key: _listed(values) for key, values in sorted(found.items())}


def _plain(value: Any) -> Any:
    """``value`` as any JSON reader takes it: numbers that are finite, text that can be printed."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None or is_number(value):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return excerpt(text).encode(errors="replace").decode()


def _listed(values: Mapping[str, Any]) -> tuple[Any, ...]:
    if len(values) <= MOST_VALUES:
        return tuple(values.values())
    digest = hashlib.sha256("\n".join(values).encode()).hexdigest()
    return next(iter(values.values())), f"... {len(values):,} values, sha256 {digest[:16]}"
