"""Logs of MLPerf Training 0.6 and later, scored by ``mlperf_logging``: its rules, not our own.

Which round a log is of does not stand in it. A round's runs end before its results are published,
so it is the first round that was published after ``run_start``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from trainbench.compliance.dialects import mllog, v05
from trainbench.compliance.event import Event, Finding, Line, excerpt
from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.files import parse_json
from trainbench.machine import extras

SECONDS_TOKEN = ":::MLL "
FIRST = "0.6.0"
# The rules of each round, and the Unix time at which its results were published.
PUBLISHED = {
    FIRST: 1_562_716_800,  # 2019-07-10
    "0.7.0": 1_595_980_800,  # 2020-07-29
    "1.0.0": 1_625_011_200,  # 2021-06-30
    "1.1.0": 1_638_316_800,  # 2021-12-01
    "2.0.0": 1_656_460_800,  # 2022-06-29
    "2.1.0": 1_667_952_000,  # 2022-11-09
    "3.0.0": 1_687_824_000,  # 2023-06-27
    "3.1.0": 1_699_401_600,  # 2023-11-08
    "4.0.0": 1_718_150_400,  # 2024-06-12
    "4.1.0": 1_731_456_000,  # 2024-11-13
    "5.0.0": 1_748_995_200,  # 2025-06-04
    "5.1.0": 1_762_905_600,  # 2025-11-12
}
_SECONDS_LINE = re.compile(r":::MLL ([\d.]+) (\w+) ?:\s+(.+)$")
_VERSION = re.compile(r":::MLPv(\d+\.\d+)")
_USAGE = "training"


@dataclass(frozen=True)
class LaterLog:
    """What a log of a later round says of itself; ``None`` where it does not."""

    benchmark: str | None
    start_unix_s: float | None
    rules: str | None


def later_log(lines: Iterable[Line | Finding]) -> LaterLog | None:
    """What a log says, if no line of it is one of v0.5; ``rules`` if they show in its form."""
    text = [line.text for line in lines if isinstance(line, Line)]
    versions = {match[1] for match in map(_VERSION.search, text) if match}
    if not text or "0.5" in versions:
        return None
    if versions:
        events = [
            v05.parse_line(line[line.find(v05.TOKEN) :]) for line in text if v05.TOKEN in line
        ]
        named = next((event.benchmark for event in events if isinstance(event, Event)), None)
        return LaterLog(named, None, FIRST)
    in_seconds = any(SECONDS_TOKEN in line for line in text)
    said = dict(reversed([*filter(None, map(_said, text))]))
    benchmark = said.get("submission_benchmark", (None, None))[0]
    return LaterLog(
        benchmark if isinstance(benchmark, str) else None,
        said.get("run_start", (None, None))[1],
        FIRST if in_seconds else None,
    )


def _said(text: str) -> tuple[str, tuple[Any, float]] | None:
    """Key, value and Unix time of a line."""
    if mllog.TOKEN in text:
        event = mllog.parse_line(text)
        return (event.key, (event.scalar, float(event.time))) if isinstance(event, Event) else None
    match = _SECONDS_LINE.search(text)
    with contextlib.suppress(ValueError, AttributeError):
        value = parse_json(match[3], float).get("value") if match else None
        return (match[2], (value, float(match[1]))) if match else None
    return None


def told(lines: Iterable[Line | Finding]) -> tuple[Event, ...]:
    """What a log of a later round says of its run, in the order of the file and the terms of v0.5.

    What cannot be read is left out: the rules of the round are ``mlperf_logging``'s.
    """
    known = (line for line in lines if isinstance(line, Line))
    return tuple(filter(None, map(_event, known)))


def _event(line: Line) -> Event | None:
    text = line.text
    if mllog.TOKEN in text:
        found = mllog.parse_line(text, line.number)
    elif v05.TOKEN in text:
        found = v05.parse_line(text[text.rfind(v05.TOKEN) :], line.number)
    else:
        return _in_seconds(line)
    return found if isinstance(found, Event) else None


def _in_seconds(line: Line) -> Event | None:
    """A line of 0.6: ``:::MLL TIME key: {"value": ..., "metadata": {...}}``."""
    match = _SECONDS_LINE.search(line.text)
    with contextlib.suppress(ValueError, AttributeError, TypeError, ArithmeticError):
        if match and float(match[1]) >= 0:
            said = parse_json(match[3], float)
            metadata = said.get("metadata") or {}
            return mllog.event(match[2], said.get("value"), dict(metadata), match[1], line)
    return None


@dataclass(frozen=True)
class LaterScore:
    """The score of a folder by the rules of a round, in seconds.

    ``times_s`` are those of the runs that count, by file; ``reasons`` say why the others do not.
    ``wanted`` is how many runs the rules ask for, ``dropped`` how many of the fastest, and of the
    slowest with those that do not count, are left out of the mean. ``failure`` is why there is no
    score.
    """

    rules: str
    package: str
    mean_s: float | None
    times_s: Mapping[str, float]
    reasons: Mapping[str, str]
    wanted: int
    dropped: int
    scaling: float
    failure: str


def score_later(
    folder: Path,
    logs: Mapping[str, Sequence[Line | Finding]],
    benchmark: str,
    rules: str,
) -> LaterScore:
    """The score of the logs by file name, as ``mlperf_logging`` computes it.

    Raises:
        MachineError: it is not installed.
    """
    summarizer = _package("result_summarizer.result_summarizer")
    meta = _package("benchmark_meta")
    # Its summarizer takes the times of every round for milliseconds; 0.6 has seconds.
    unit_s = 60_000.0 if rules == FIRST else 60.0
    with tempfile.TemporaryDirectory() as name, _quiet():
        copy = Path(name)
        for file, lines in logs.items():
            _write(copy / _plain(file), lines)
        with contextlib.suppress(OSError):
            shutil.copyfile(folder / "scaling.json", copy / "scaling.json")
        found, mean, scaling, failure = _summarized(summarizer, copy, benchmark, rules)
        minutes = {Path(path).name: value for path, value in found.items()}
        counted = [file for file in logs if _plain(file) in minutes]
        times = {file: unit_s * minutes[_plain(file)] for file in counted}
        reasons = {f: _reason(copy / _plain(f), rules) for f in logs if f not in times}
    return LaterScore(
        rules=rules,
        package=f"mlperf_logging {metadata.version('mlperf-logging')}",
        mean_s=None if mean is None else unit_s * mean,
        times_s=times,
        reasons=reasons,
        wanted=meta.get_result_file_counts(_USAGE)[benchmark],
        dropped=4 if benchmark == "unet3d" else 1,
        scaling=scaling,
        failure=failure,
    )


def rules_of(logs: Iterable[LaterLog], benchmark: str, *, asked: str | None = None) -> str:
    """The rules for ``logs`` of ``benchmark``: those asked for, or those of their round.

    Where the round did not have the benchmark, it is the newest that did.

    Raises:
        ConfigError: rules that the package does not have. DataIntegrityError: no round has the
        benchmark. MachineError: the package is not installed.
    """
    checker, meta = _package("compliance_checker.mlp_compliance"), _package("benchmark_meta")
    known = sorted(checker.rule_choices(), key=_numbers)
    if asked is not None:
        if asked not in known:
            raise ConfigError(f"unknown rules {asked!r} (known: {', '.join(known)})")
        return asked
    logs = list(logs)
    shown = next((log.rules for log in logs if log.rules), None)
    having = [r for r in known if benchmark in meta.get_allowed_benchmarks(_USAGE, r)]
    if not having:
        raise DataIntegrityError(
            f"logs of {benchmark}, which no round of MLPerf Training in mlperf_logging has"
        )
    start = max((log.start_unix_s for log in logs if log.start_unix_s), default=0.0)
    round_ = shown or next((r for r, at in PUBLISHED.items() if at > start), known[-1])
    if shown is None and round_ == FIRST:
        round_ = "0.7.0"  # The first with this form of a line.
    return round_ if round_ in having else having[-1]


def _numbers(rules: str) -> tuple[int, ...]:
    return tuple(map(int, rules.split(".")))


def _package(name: str) -> Any:
    try:
        return import_module(f"mlperf_logging.{name}")
    except ModuleNotFoundError as error:
        raise MachineError(
            f"logs of MLPerf Training 0.6 and later are scored by mlperf-logging ({error.name} is "
            f"not installed): {extras.advice('mlperf_logging')}"
        ) from None


def _plain(file: str) -> str:
    """The name under which its summarizer looks for a log."""
    return file.removesuffix(".gz")


def _write(path: Path, lines: Iterable[Line | Finding]) -> None:
    """The compliance lines alone: its parser skips all others, and does not unpack files."""
    text = "".join(f"{line.text}\n" for line in lines if isinstance(line, Line))
    path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")


def _summarized(
    summarizer: Any, folder: Path, benchmark: str, rules: str
) -> tuple[Mapping[str, float], float | None, float, str]:
    """Its own minutes by path, mean, scaling factor, and why there is no mean."""
    try:
        # Later versions return the scaling factor as well.
        found, _, mean, *_ = summarizer._compute_strong_score_standalone(
            benchmark, "", False, str(folder), _USAGE, rules, return_full_scores=True
        )
        scaling = float(summarizer._get_scaling_factor(str(folder)))
    except Exception as error:  # noqa: BLE001  its checker ends so on logs that it cannot judge
        _package("compliance_checker.mlp_compliance").enqueued_configs.clear()
        return {}, None, 1.0, f"its summarizer ends with {_told(error)}"
    return found, mean, scaling, "" if mean is not None else "too few runs count"


def _reason(path: Path, rules: str) -> str:
    """The first thing that the rules find in a log, and the number of the others."""
    compliance = _package("compliance_checker.mlp_compliance")
    checker = compliance.make_checker(_USAGE, rules, True, False)
    try:
        compliance.main(str(path), f"{_USAGE}_{rules}/common.yaml", checker)
        messages = [*checker.not_overwritable, *checker.overwritable.values()]
    except Exception as error:  # noqa: BLE001  see above
        compliance.enqueued_configs.clear()
        messages = [f"the checker ends with {_told(error)}"]
    first = excerpt(" ".join(messages[0].split())) if messages else "the rules find nothing in it"
    return first + (f" (and {len(messages) - 1} more)" if len(messages) > 1 else "")


def _told(error: Exception) -> str:
    return excerpt(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the package prints and warns of from the output: it is told per log."""
    root, handler = logging.getLogger(), logging.NullHandler()
    disabled = logging.root.manager.disable
    # With a handler of its own, the root logger is not set up by the first warning.
    root.addHandler(handler)
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        root.removeHandler(handler)
