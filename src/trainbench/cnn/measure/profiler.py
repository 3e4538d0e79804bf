"""The profiler of TensorFlow around single steps, and how its records (XSpace) are read."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import tensorflow as tf

# TensorFlow's own description of its profiler's files; no package offers it publicly.
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from trainbench.errors import TrainbenchError

# "conv_1/Conv2D:Conv2D"; other events of the profiler have a space or two colons in their names.
_OPERATION = re.compile(r"(?P<name>[^:\s]+):(?P<type>\w+)")


class Observer(Protocol):
    """Watches single steps; what it does is off the clock of the step, on that of the run."""

    def before_step(self, local_step: int) -> None:
        """Take notice of a step that is about to run."""

    def after_step(self) -> None:
        """Take notice of its end."""

    def close(self) -> None:
        """Write what is left to write: no step follows."""


class ProfilerSession:
    """One session of the profiler; there can be only one at a time."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        tf.profiler.experimental.start(self._folder.name)

    def stop(self) -> bytes:
        """End the session and return what was recorded, a serialized XSpace."""
        tf.profiler.experimental.stop()
        with self._folder as folder:
            found = sorted(Path(folder).rglob("*.xplane.pb"))
            if not found:
                raise TrainbenchError("the profiler of TensorFlow recorded nothing")
            return found[0].read_bytes()


def planes(content: bytes) -> list[Any]:
    """The planes of a serialized XSpace that hold events: the host's, and one for each device."""
    return [plane for plane in xplane_pb2.XSpace.FromString(content).planes if plane.lines]


def name_of(plane: Any, event: Any) -> str:
    """What ``event`` is called."""
    metadata = plane.event_metadata[event.metadata_id]
    return str(metadata.display_name or metadata.name)


def operation_of(plane: Any, event: Any) -> tuple[str, str] | None:
    """Name and type of the operation behind ``event``: its own on the host, noted on a GPU."""
    found = _OPERATION.fullmatch(plane.event_metadata[event.metadata_id].name)
    if found is None:
        noted = dict(facts_of(plane, event)).get("tf_op", "")
        found = _OPERATION.fullmatch(noted) if isinstance(noted, str) else None
    return (found["name"], found["type"]) if found else None


def facts_of(plane: Any, event: Any) -> Iterator[tuple[str, Any]]:
    """Names and values that the profiler noted beside ``event``."""
    for stat in event.stats:
        kind = stat.WhichOneof("value")
        if kind is None:
            continue
        value = getattr(stat, kind)
        if kind == "ref_value":
            value = plane.stat_metadata[value].name
        yield plane.stat_metadata[stat.metadata_id].name, value
