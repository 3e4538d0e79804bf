"""A trace of one warm-up step, as JSON that a browser's tracing page opens."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from trainbench.cnn import output
from trainbench.cnn.params import ParamError, Params
from trainbench.errors import TrainbenchError
from trainbench.files import write_atomically

TRACED_STEP = -2
"""The last warm-up step but one: compiled and warm, and not yet timed."""


class StepTrace:
    """Traces local step ``TRACED_STEP`` into ``--trace_file``."""

    def __init__(self, params: Params, first_step: int) -> None:
        """Prepare for a run that begins with local step ``first_step``.

        Raises:
            ParamError: the run has no such step.
        """
        if first_step > TRACED_STEP:
            raise ParamError(
                f"--trace_file={params.trace_file}: the last warm-up step but one is traced and "
                f"this run has {max(-first_step, 0)}; add --num_warmup_batches=2"
                + (" and a new --train_dir" if first_step > 0 else "")
            )
        self._path, self._chrome = Path(params.trace_file), params.use_chrome_trace_format
        self._folder: tempfile.TemporaryDirectory | None = None

    def before_step(self, local_step: int) -> None:
        """Start tracing if it is time to."""
        if local_step == TRACED_STEP:
            self._folder = tempfile.TemporaryDirectory()
            tf.profiler.experimental.start(self._folder.name)

    def after_step(self) -> None:
        """Write the trace if one is under way."""
        if self._folder is None:
            return
        tf.profiler.experimental.stop()
        with self._folder as folder:
            found = sorted(Path(folder).rglob("*.xplane.pb"))
            if not found:
                raise TrainbenchError(f"{self._path}: the profiler of TensorFlow wrote no trace")
            content = found[0].read_bytes()
        self._folder = None
        output.say(f"Dumping trace to {self._path}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps(chrome(content)) if self._chrome else content)


def chrome(content: bytes) -> dict[str, Any]:
    """The events of a serialized XSpace in the trace event format; times in microseconds."""
    space = xplane_pb2.XSpace.FromString(content)
    events: list[dict[str, Any]] = []
    for pid, plane in enumerate(space.planes):
        if plane.lines:
            events.append(_named("process_name", pid, 0, plane.name))
        for line in plane.lines:
            events.append(_named("thread_name", pid, line.id, line.display_name or line.name))
            events += [_event(plane, line, event, pid) for event in line.events]
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _event(plane: Any, line: Any, event: Any, pid: int) -> dict[str, Any]:
    metadata = plane.event_metadata[event.metadata_id]
    return {
        "ph": "X",
        "pid": pid,
        "tid": line.id,
        "name": metadata.display_name or metadata.name,
        "ts": line.timestamp_ns / 1e3 + event.offset_ps / 1e6,
        "dur": event.duration_ps / 1e6,
    }


def _named(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}
