"""Whether the wall clock that a log is written by kept step with the monotonic clock.

A log's times are those of the wall clock, which anybody may set. So every process of a trial also
writes, for each of its compliance lines, what both clocks showed: ``clock.jsonl`` beside the log.
Where the two drift apart by more than ``TOLERANCE_S`` and ``SLEW`` allow, the wall clock was set
in the run, the machine slept, or the times in the log were changed afterwards.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import msgspec

from trainbench.compliance.event import Event, excerpt
from trainbench.compliance.event_index import Breach
from trainbench.compliance.outcome import outcome
from trainbench.compliance.tags import ncf as tags
from trainbench.files import LARGEST, parse_object, read_file
from trainbench.trials.paths import RunDir, TrialDir

SLEW = 500e-6
"""How much faster or slower the wall clock may run: the most by which NTP slews it (``ntp_adjtime``
refuses more). What a crystal is off by itself is a fifth of it."""
TOLERANCE_S = 0.1
"""What is allowed at once: chrony corrects a newly booted machine faster than NTP's limit, and a
process may be stopped between two readings. No printed time to train shows less."""

# The raw monotonic clock: NTP slews CLOCK_MONOTONIC together with the wall clock, and would hide
# what it did. It is the kernel's and equal in all processes. It stands still while the machine
# sleeps, which a run shall not do (CLOCK_BOOTTIME would hide it).
_MONOTONIC = getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC)
_STITCHED = re.compile(r"result_(\d{1,9})\.txt(\.gz)?")


@dataclass(frozen=True)
class Reading:
    """One line of clock.jsonl: what both clocks showed right after a compliance line was dated.

    ``log`` is the name of the raw log, ``time`` the time in the line, ``monotonic_s`` counts from
    an arbitrary instant, the same for all processes of a machine until it is booted again.
    """

    log: str
    tag: str
    time: str
    wall_unix_s: float
    monotonic_s: float

    @property
    def line_monotonic_s(self) -> float:
        """The monotonic time at which the line was dated, a little before the reading."""
        return self.monotonic_s - (self.wall_unix_s - float(self.time))


@dataclass(frozen=True)
class Clocks:
    """A clock.jsonl: its readings in the order of the file, and what of it cannot be read."""

    readings: tuple[Reading, ...]
    damage: tuple[str, ...] = ()


@dataclass(frozen=True)
class Times:
    """A run's time by either clock, in seconds; None where a clock does not say.

    ``agree`` is None where there are no monotonic times.
    """

    wall_s: float | None = None
    monotonic_s: float | None = None
    agree: bool | None = None

    @property
    def sentence(self) -> str:
        """Which clock the official time is from, for a reader."""
        if self.agree is None:
            return "by the log's wall clock; no monotonic times to compare it with"
        if self.agree:
            return "by the log's wall clock; the monotonic clock agrees"
        if self.wall_s and self.monotonic_s and not _apart(self.wall_s, self.monotonic_s):
            return "by the log's wall clock; not all of its lines agree with clock.jsonl"
        other = "no time" if self.monotonic_s is None else f"{self.monotonic_s:.1f} sec."
        return f"by the log's wall clock, but {other} by the monotonic clock"


NOT_TIMED = Times()


def _apart(wall_s: float, monotonic_s: float) -> bool:
    return abs(wall_s - monotonic_s) > TOLERANCE_S + SLEW * abs(monotonic_s)


def read(log: str, tag: str, line_time: str) -> Reading:
    """Both clocks now, for the line of ``log`` with ``tag`` that has just been dated."""
    for _ in range(5):
        before = time.clock_gettime(_MONOTONIC)
        wall = time.time()
        monotonic = time.clock_gettime(_MONOTONIC)
        if monotonic - before < 1e-3:  # else another process ran in between
            break
    return Reading(log, tag, line_time, wall, monotonic)


def to_line(reading: Reading) -> str:
    """The line of clock.jsonl."""
    return json.dumps(vars(reading)) + "\n"


def from_file(path: Path) -> Clocks | None:
    """The content of ``path``; None where there is no such file."""
    if not path.exists():
        return None
    readings, damage = [], []
    try:
        text = read_file(path).decode(errors="replace")
    except ValueError as error:
        return Clocks((), (str(error),))
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            readings.append(_valid(msgspec.convert(parse_object(line), Reading)))
        except ValueError as error:
            damage.append(f"line {number}: {excerpt(str(error))}")
    return Clocks(tuple(readings), tuple(damage))


def _valid(reading: Reading) -> Reading:
    if not re.fullmatch(r"\d{1,12}\.\d{1,12}", reading.time):
        raise ValueError("no time of a line")
    if not all(abs(s) < LARGEST for s in (reading.wall_unix_s, reading.monotonic_s)):
        raise ValueError("no time of a clock")
    return reading


def beside(log: Path) -> Path:
    """Where the readings for a raw log are."""
    return TrialDir(log.parent).clock


def of_log(log: Path) -> Clocks | None:
    """The readings for a log: beside a raw one, in its trial's folder for a stitched one."""
    stitched = _STITCHED.fullmatch(log.name)
    if stitched and len(log.parents) > 3:
        # run/results/<system>/<benchmark>/result_<i>.txt
        return from_file(RunDir(log.parents[3]).trial(int(stitched[1])).clock)
    return of_raw_logs([log])


def of_raw_logs(logs: Iterable[Path]) -> Clocks | None:
    """The readings for raw logs of one folder, without those for other logs."""
    paths = list(logs)
    found = from_file(beside(paths[0])) if paths else None
    if found is None:
        return None
    names = {path.name for path in paths}
    kept = tuple(reading for reading in found.readings if reading.log in names)
    return replace(found, readings=kept) if kept or found.damage else None


def times(events: Sequence[Event], clocks: Clocks | None) -> Times:
    """``run_stop - run_start`` by either clock, and whether the clocks agree in the whole log."""
    run = outcome(events)
    if clocks is None:
        return Times(run.time_s)
    by_tag = {event.key: reading for event, reading in _pairs(events, clocks)}
    start, stop = by_tag.get(tags.RUN_START), by_tag.get(tags.RUN_STOP)
    monotonic = stop.line_monotonic_s - start.line_monotonic_s if start and stop else None
    agree = not any((*unequal_lines(events, clocks), *steps(events, clocks)))
    return Times(run.time_s, monotonic if run.time_s is not None else None, agree)


def unequal_lines(events: Sequence[Event], clocks: Clocks | None) -> Iterator[Breach]:
    """Lines that clock.jsonl does not have, or has with another time, and the reverse."""
    if clocks is None:
        return
    for damage in clocks.damage[:1]:
        yield f"clock.jsonl {damage}", None
    pairs = _pairs(events, clocks)
    for event, reading in pairs:
        if event.timestamp != reading.time:
            yield f"{event.timestamp}, in clock.jsonl {reading.time}", event
            break
    read = {id(reading) for _, reading in pairs}
    for reading in clocks.readings:
        if id(reading) not in read:
            yield f"no {reading.tag} of {reading.time}, which {reading.log} had", None
            break
    first = min((Decimal(reading.time) for reading in clocks.readings), default=None)
    paired = {id(event) for event, _ in pairs}
    for event in events:
        # Preprocessing, earlier and perhaps on another machine, has no readings.
        if first is not None and event.time >= first and id(event) not in paired:
            yield f"{event.key} without a reading", event
            break


def steps(events: Sequence[Event], clocks: Clocks | None) -> Iterator[Breach]:
    """The first line at which the wall clock has left the monotonic one, counted from run_start."""
    pairs = sorted(
        _pairs(events, clocks) if clocks else (), key=lambda pair: pair[1].line_monotonic_s
    )
    started = (pair for pair in pairs if pair[0].key == tags.RUN_START)
    zero = next(started, pairs[0]) if pairs else None
    for event, reading in pairs:
        assert zero is not None, "pairs have a first one"
        passed = reading.line_monotonic_s - zero[1].line_monotonic_s
        ahead = float(event.time - zero[0].time) - passed
        if _apart(ahead + passed, passed):
            where = "ahead of" if ahead > 0 else "behind"
            yield f"{event.key} {abs(ahead):.3f} s {where} the monotonic clock", event
            return


RULES = (
    ("clock/lines", "the lines and times of clock.jsonl", unequal_lines),
    ("clock/step", "a wall clock within 0.1 s and 0.05 % of the monotonic one", steps),
)
"""Name, what is wanted, and what finds the breaches: of a log of any benchmark."""


def _pairs(events: Sequence[Event], clocks: Clocks) -> list[tuple[Event, Reading]]:
    """Every line with its reading: by tag and time, and what is then left by tag and order."""
    exact: dict[tuple[str, str], list[Reading]] = {}
    for reading in clocks.readings:
        exact.setdefault((reading.tag, reading.time), []).append(reading)
    pairs, left = [], []
    for event in events:
        same = exact.get((event.key, event.timestamp))
        if same:
            pairs.append((event, same.pop(0)))
        else:
            left.append(event)
    by_tag: dict[str, list[Reading]] = {}
    for reading in (reading for same in exact.values() for reading in same):
        by_tag.setdefault(reading.tag, []).append(reading)
    for event in left:
        if by_tag.get(event.key):
            pairs.append((event, by_tag[event.key].pop(0)))
    return pairs
