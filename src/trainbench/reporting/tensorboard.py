"""The trials of a run as scalars for TensorBoard: their epochs, and the machine meanwhile.

Like the report, the files are a pure function of the run's folder: times are the run's own, and no
name of a host is in them. TensorFlow is not needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainbench import files
from trainbench.benchmark import Benchmark
from trainbench.machine.load import Sample
from trainbench.reporting.collect import collect
from trainbench.reporting.records import Results, Trial
from trainbench.reporting.sources import Source
from trainbench.trials.paths import RunDir

# What says where a point lies, and not what was measured there.
_PLACES = ("epoch", "step", "elapsed_s", "unix_s", "end_unix_s", "interval_s", "trial")
LARGEST_STEP = 2**63 - 1


@dataclass(frozen=True)
class Point:
    """Values by tag at one step, measured at ``unix_s``."""

    step: int
    unix_s: float
    values: Mapping[str, float]


def export(run: RunDir, folder: Path, *, benchmark: Benchmark) -> list[Path]:
    """Write an event file for each trial of ``run`` into ``folder``/<run>/trial_<i>.

    Raises:
        DataIntegrityError: ``run`` is not the folder of a run.
    """
    results, written = collect(run, benchmark), []
    for trial in results.trials:
        samples = Source(run.root).records(run.trial(trial.index).machine, Sample)
        points = [*of_epochs(results, trial), *of_machine(samples)]
        if points:
            written.append(_write(folder, run, results, trial, points))
    return written


def of_epochs(results: Results, trial: Trial) -> Iterator[Point]:
    """The numbers of each epoch, or evaluation; a step is one of training where that is known."""
    for number, epoch in enumerate(trial.epochs):
        elapsed_s = trial.elapsed_s(epoch)
        step = getattr(epoch, "step", None)
        yield Point(
            step=min(max(number if step is None else step, 0), LARGEST_STEP),
            unix_s=(trial.zero_s or results.run.created_unix_s or 0.0) + (elapsed_s or 0.0),
            values=dict(_numbers(vars(epoch), f"{results.quality.every}/")),
        )


def of_machine(samples: Iterable[Sample]) -> Iterator[Point]:
    """What the machine did; a step is a second since the first look."""
    first = None
    for sample in samples:
        if sample.unix_s is None:
            continue
        first = sample.unix_s if first is None else first
        values = dict(_numbers(vars(sample), "machine/"))
        for index, gpu in enumerate(sample.gpus or ()):
            values |= _numbers(asdict(gpu), f"machine/gpu_{index}/")
        yield Point(min(max(round(sample.unix_s - first), 0), LARGEST_STEP), sample.unix_s, values)


def _numbers(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if name not in _PLACES and isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def _write(
    folder: Path, run: RunDir, results: Results, trial: Trial, points: Iterable[Point]
) -> Path:
    from tensorboardX.proto import event_pb2, summary_pb2
    from tensorboardX.record_writer import RecordWriter

    created_s = results.run.created_unix_s or 0.0
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "events"
        writer = RecordWriter(str(made))
        begin = event_pb2.Event(wall_time=created_s, file_version="brain.Event:2")
        writer.write(begin.SerializeToString())
        for point in points:
            values = [
                summary_pb2.Summary.Value(tag=tag, simple_value=value)
                for tag, value in point.values.items()
            ]
            summary = summary_pb2.Summary(value=values)
            event = event_pb2.Event(wall_time=point.unix_s, step=point.step, summary=summary)
            writer.write(event.SerializeToString())
        writer.close()
        content = made.read_bytes()
    # TensorBoard finds files by "tfevents".
    target = folder / run.root.name / f"trial_{trial.index}"
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"events.out.tfevents.{round(created_s)}.trainbench"
    files.write_atomically(path, content)
    return path
