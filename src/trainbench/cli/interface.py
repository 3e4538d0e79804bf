"""The public interface: what ``import trainbench`` offers to a notebook or a script."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainbench.benchmark import PUBLISHER, Source, find
from trainbench.cli import pipeline
from trainbench.compliance import check
from trainbench.compliance import score as scoring
from trainbench.compliance.event import Finding
from trainbench.compliance.reading import NEWEST_CHECKER
from trainbench.compliance.rules.levels import ruleset
from trainbench.compliance.score import Score
from trainbench.errors import MachineError, system_text
from trainbench.files import damage_told, read_object
from trainbench.machine import extras
from trainbench.trials.paths import DataDir, RunDir
from trainbench.trials.spec import SetSpec

PAGE = "report.html"


@dataclass(frozen=True)
class Run:
    """A run that has ended: its folder, its report's page and the exit code of its verdict."""

    folder: Path
    report: Path
    exit_code: int

    @property
    def results(self) -> dict[str, Any]:
        """results.json of the report, as results.schema.json describes it."""
        path = self.report.with_name("results.json")
        with damage_told(path, "the results of a report", "write the report again"):
            return read_object(path)


@contextlib.contextmanager
def _files_told() -> Iterator[None]:
    """Turn what the system says of a file or folder into a ``MachineError`` that names it."""
    try:
        yield
    except OSError as error:
        raise MachineError(system_text(error)) from error


@_files_told()
def run(
    benchmark: str = "ncf",
    *,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    data_dir: str | Path = "data",
    runs: int = 1,
    seed: int | None = None,
    source: Source = PUBLISHER,
) -> Run:
    """Download, prepare, train, stitch and report, as ``trainbench pipeline`` does.

    Args:
        benchmark: ``ncf``, ``resnet`` or the name of another registered one.
        preset: a configuration's name; by default the benchmark's choice for this machine.
        settings: fields of the configuration to change, by name.
        data_dir: the data directory; made if it is not there.
        runs: trials, each in a process of its own.
        seed: of the set; by default each trial's comes from the system's entropy.
        source: where the dataset comes from, if not from its publisher.

    Raises:
        TrainbenchError: with the documented exit code as ``exit_code``.

    Example:
        >>> run = trainbench.run("ncf", preset="quick", data_dir="data")  # doctest: +SKIP
        >>> run.results["verdict"]["headline"]                            # doctest: +SKIP
        'Target reached'
    """
    record = find(benchmark)
    pipeline.require_extras(record)
    config = record.preset(preset or record.default_preset({}))
    words = [f"{key}={_word(value)}" for key, value in (settings or {}).items()]
    data = DataDir(Path(data_dir).resolve())
    spec = SetSpec(
        benchmark=record,
        config=record.with_settings(config, words),
        data=data,
        runs=runs,
        seed=seed,
        command=["trainbench.run", benchmark],
        options={o.name: o.default for o in record.options if not (o.field or o.of_source)},
        pipeline=True,
    )
    data.root.mkdir(parents=True, exist_ok=True)
    folder, exit_code = pipeline.run_all(spec.checked(), source)
    return Run(folder.root, folder.report / PAGE, exit_code)


@_files_told()
def check_log(
    path: str | Path, *, level: str = "2", checker: str = NEWEST_CHECKER
) -> list[Finding]:
    """What in a compliance log breaks the rules of ``level`` (1, 2 or strict); empty if nothing.

    Raises:
        MachineError: the file cannot be read.
        ConfigError: an unknown level or checker.
    """
    return check.check_file(Path(path), ruleset(level, checker=checker))


@_files_told()
def score(folder: str | Path) -> Score:
    """The v0.5 statistic of a folder of ``result_<i>.txt``.

    Raises:
        DataIntegrityError: no log there, or logs of several benchmarks.
    """
    return scoring.score(Path(folder))


@_files_told()
def report(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    compare: str | Path | Sequence[str | Path] = (),
) -> Run:
    """Write the report of a run's folder, or of its stitched logs alone.

    Args:
        out: the report's folder; by default the run's own.
        compare: the folder of a further run, shown beside this one, or several.

    Raises:
        DataIntegrityError: not the folder of a run.
        MachineError: ``out`` cannot be written.
    """
    extras.require(*extras.REPORT)
    paths = [compare] if isinstance(compare, str | Path) else compare
    others = tuple(RunDir(Path(path).resolve()) for path in paths)
    run_dir = RunDir(Path(folder).resolve())
    code = pipeline.report(run_dir, out=Path(out) if out else None, compare=others)
    return Run(run_dir.root, (Path(out) if out else run_dir.report) / PAGE, code)


def _word(value: Any) -> str:
    """``value`` as ``--set key=value`` has it."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
