"""``--tfprof_file``: where the time of the first timed steps goes, by operation and by type."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainbench.cnn import console
from trainbench.cnn.measure import profiler
from trainbench.cnn.measure.profiler import ProfilerSession
from trainbench.files import write_atomically

PROFILED_STEPS = 10
TOP = 20


@dataclass(frozen=True)
class Call:
    """One run of one operation.

    Attributes:
        seconds: without the operations that it called on the same thread.
        accelerator: it ran on a device of its own, not on the host.
    """

    name: str
    type: str
    seconds: float
    accelerator: bool


@dataclass(frozen=True)
class Row:
    """All calls of one operation, or of all operations of one type.

    Attributes:
        share: of the accelerators' time where there are any, otherwise of the host's.
    """

    name: str
    type: str
    calls: int
    accelerator_s: float
    cpu_s: float
    share: float


@dataclass(frozen=True)
class Profile:
    """The rows of ``steps`` steps, the longest first."""

    steps: int
    types: tuple[Row, ...]
    operations: tuple[Row, ...]

    @classmethod
    def of(cls, calls: Sequence[Call], *, steps: int) -> Profile:
        """Add up ``calls``."""
        return cls(steps, _rows(calls, by_type=True), _rows(calls, by_type=False))

    def to_text(self, *, top: int | None = TOP) -> str:
        """The first ``top`` types and operations, times in milliseconds a step."""
        parts = [f"Profile of {self.steps} steps, ms per step"]
        for title, rows in (("Type", self.types), ("Operation", self.operations)):
            parts.append(_table(title, rows[:top], self.steps))
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> str:
        """Everything, times in seconds over all steps."""
        return json.dumps({"schema": 1, **asdict(self)}, indent=1) + "\n"


class StepProfile:
    """Profiles the first timed steps into ``--tfprof_file``: text if its name ends with txt."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._recording: ProfilerSession | None = None
        self._calls: list[Call] = []
        self._steps = 0

    def before_step(self, local_step: int) -> None:
        """Start the profiler for each of the first steps."""
        if 0 <= local_step < PROFILED_STEPS:
            self._recording = ProfilerSession()

    def after_step(self) -> None:
        """Keep what the step did."""
        if self._recording is None:
            return
        content, self._recording = self._recording.stop(), None
        self._calls += calls(content)
        self._steps += 1
        if self._steps == PROFILED_STEPS:
            self._write()

    def close(self) -> None:
        """Write the profile of a run that had fewer steps."""
        if 0 < self._steps < PROFILED_STEPS:
            self._write()

    def _write(self) -> None:
        profile = Profile.of(self._calls, steps=self._steps)
        console.print_result(f"Dumping profile to {self._path}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        as_text = self._path.name.endswith("txt")
        write_atomically(self._path, profile.to_text(top=None) if as_text else profile.to_json())
        console.print_result(profile.to_text().rstrip())


def calls(content: bytes) -> Iterator[Call]:
    """The operations in a serialized XSpace."""
    for plane in profiler.planes(content):
        accelerator = plane.name.startswith("/device:") and "CPU" not in plane.name
        for line in plane.lines:
            spans = [
                (event.offset_ps, event.duration_ps, operation)
                for event in line.events
                if (operation := profiler.operation_of(plane, event))
            ]
            for own_ps, (name, kind) in own_times(spans):
                yield Call(name, kind, own_ps / 1e12, accelerator)


def own_times(spans: Iterable[tuple[int, int, Any]]) -> Iterator[tuple[int, Any]]:
    """Duration of each ``(start, duration, what)`` of one thread without those inside it."""
    open_spans: list[list[Any]] = []
    for start, duration, what in sorted(spans, key=lambda span: (span[0], -span[1])):
        while open_spans and open_spans[-1][0] <= start:
            yield tuple(open_spans.pop()[1:])
        if open_spans:
            open_spans[-1][1] -= duration
        open_spans.append([start + duration, duration, what])
    while open_spans:
        yield tuple(open_spans.pop()[1:])


def _rows(calls: Sequence[Call], *, by_type: bool) -> tuple[Row, ...]:
    groups: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        groups[(call.type if by_type else call.name), call.type].append(call)
    total = {where: sum(c.seconds for c in calls if c.accelerator == where) for where in (0, 1)}
    rows = []
    for (name, kind), group in groups.items():
        cpu, accelerator = (sum(c.seconds for c in group if c.accelerator == w) for w in (0, 1))
        part, whole = (accelerator, total[1]) if total[1] else (cpu, total[0])
        share = part / whole if whole else 0.0
        rows.append(Row(name, kind, len(group), accelerator, cpu, share))
    return tuple(sorted(rows, key=lambda row: (-row.accelerator_s, -row.cpu_s, row.name)))


def _table(title: str, rows: Sequence[Row], steps: int) -> str:
    width = max([len(title), *(len(row.name) for row in rows)])
    lines = [f"{title:<{width}}  calls/step  accelerator         cpu   share"]
    lines += [
        f"{row.name:<{width}}  {row.calls / steps:10.1f}  {row.accelerator_s / steps * 1e3:11.3f}"
        f"  {row.cpu_s / steps * 1e3:10.3f}  {row.share:6.1%}"
        for row in rows
    ]
    return "\n".join(lines)
