"""A trace of one warm-up step, as JSON that a browser's tracing page opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainbench.cnn import console
from trainbench.cnn.flags.params import ParamError, Params
from trainbench.cnn.measure import profiler
from trainbench.cnn.measure.profiler import ProfilerSession
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
        self._recording: ProfilerSession | None = None

    def before_step(self, local_step: int) -> None:
        """Start tracing if it is time to."""
        if local_step == TRACED_STEP:
            self._recording = ProfilerSession()

    def after_step(self) -> None:
        """Write the trace if one is under way."""
        if self._recording is None:
            return
        content, self._recording = self._recording.stop(), None
        console.print_result(f"Dumping trace to {self._path}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps(chrome(content)) if self._chrome else content)

    def close(self) -> None:
        """Nothing: the trace is written as soon as its step has ended."""


def chrome(content: bytes) -> dict[str, Any]:
    """The events of a serialized XSpace in the trace event format; times in microseconds.

    Processes are the host and the devices, threads are numbered from 1 within each: a browser
    cannot hold the profiler's own numbers, which take 64 bits.
    """
    events: list[dict[str, Any]] = []
    for pid, plane in enumerate(profiler.planes(content), start=1):
        events.append(_named("process_name", pid, 0, plane.name))
        for tid, line in enumerate(plane.lines, start=1):
            events.append(_named("thread_name", pid, tid, line.display_name or line.name))
            events += [_event(plane, line, event, pid, tid) for event in line.events]
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _event(plane: Any, line: Any, event: Any, pid: int, tid: int) -> dict[str, Any]:
    # Names that begin with an underscore only link events to one another.
    facts = profiler.facts_of(plane, event)
    args = {name: _shown(value) for name, value in facts if not name.startswith("_")}
    operation = profiler.operation_of(plane, event)
    if operation is not None:
        args |= {"name": operation[0], "op": operation[1]}
    return {
        "ph": "X",
        "pid": pid,
        "tid": tid,
        "name": operation[1] if operation else profiler.name_of(plane, event),
        "ts": line.timestamp_ns / 1e3 + event.offset_ps / 1e6,
        "dur": event.duration_ps / 1e6,
        **({"args": args} if args else {}),
    }


def _shown(value: Any) -> Any:
    """``value`` as a browser can hold it: whole numbers beyond 53 bits become text."""
    if isinstance(value, bytes) or (isinstance(value, int) and abs(value) >= 1 << 53):
        return str(value)
    return value


def _named(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}
