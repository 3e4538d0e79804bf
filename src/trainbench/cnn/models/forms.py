"""Forms of layers that are faster on a CPU, and with which network they are used.

They compute the same. On a GPU nothing is known of them, so a network that runs on one has none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

FOLDED = "folded_16_bit_normalization"
"""Inference in 16 bits multiplies normalizations into the weights, as TensorFlow does in 32."""

_chosen: ContextVar[tuple[str, ...]] = ContextVar("forms", default=())


def of(devices: Sequence[str]) -> tuple[str, ...]:
    """The forms for ``devices``, TensorFlow's names: none if one of them is no CPU."""
    return (FOLDED,) if all("cpu:" in name.lower() for name in devices) else ()


@contextlib.contextmanager
def chosen(forms: Sequence[str]) -> Iterator[None]:
    """Layers that are made in the body use ``forms``."""
    before = _chosen.set(tuple(forms))
    try:
        yield
    finally:
        _chosen.reset(before)


def current() -> tuple[str, ...]:
    """The forms for a layer that is being made."""
    return _chosen.get()
