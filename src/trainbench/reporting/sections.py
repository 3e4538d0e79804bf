"""What a benchmark adds to the report that all of them have: its words, columns and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainbench.reporting.page.drawing import Figure
from trainbench.reporting.page.tables import Table
from trainbench.reporting.records import Epoch, LoggedEpoch, Phase, Results, Trial
from trainbench.reporting.sources import Source
from trainbench.reporting.text import shown
from trainbench.trials.paths import TrialDir
from trainbench.trials.status import Status

Reading = tuple[tuple[Epoch, ...], Any]
"""Epochs of a trial, and what its benchmark alone measured of it: a dataclass or ``None``."""


@dataclass(frozen=True)
class Answer:
    """One line of the verdict box; ``tone`` is good, warn, bad or empty."""

    question: str
    answer: str
    detail: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Measure:
    """A value of a run to be compared, in ``unit`` (empty for a count or a text), and its text."""

    name: str
    label: str
    unit: str
    value: Callable[[Results], float | str | None]
    shown: Callable[[Any], str] = shown


@dataclass(frozen=True)
class Rate:
    """How fast one kind of work went in a trial, and what bounds it.

    Attributes:
        work: in words, and the ``unit`` of which it did ``per_s`` each second.
        flops, bytes: what one of them needs at least.
        flops_per_s, bytes_per_s: what the machine does at best. What is not known is ``None``.
    """

    trial: int
    work: str
    unit: str
    per_s: float
    flops: float | None = None
    bytes: float | None = None
    flops_per_s: float | None = None
    bytes_per_s: float | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The rate that each of the machine's limits allows, as far as both sides are known."""
        sides = {
            "matrix products": (self.flops_per_s, self.flops),
            "memory": (self.bytes_per_s, self.bytes),
        }
        return {
            name: most / each
            for name, (most, each) in sides.items()
            if most is not None and each is not None and most > 0 and each > 0
        }


def logged(source: Source, trial: TrialDir, epochs: tuple[LoggedEpoch, ...]) -> Reading:
    """The epochs that a log names, and nothing else."""
    return epochs, None


@dataclass(frozen=True)
class Sections:
    """A benchmark that says nothing has the page with its quality by epoch, as the logs have it.

    Attributes:
        subject: of the report; empty is the benchmark's title.
        reference: what a configuration is compared with; empty names the preset.
        task: by the content of config.json, which may lack anything; empty is the title.
        status: the fields of status.json, those of ``Status`` and its own.
        read: a trial by its folder and the epochs that its log names.
        epoch_columns: heading and cell; empty has the number and the quality.
        second: heading and field of what is drawn beside the quality.
        curve: label and values of a reference to draw with the quality; no values for none.
        speed: of the verdict box.
        rates: of each trial, beside which stands what the machine allows.
        tables: further ones, by heading.
        figures: further ones, drawn in the report's style.
        trial_columns: further ones of results.csv.
        phases: of a trial, in the order of time, as finely as its benchmark knows them; those
            that say when they were.
        outcomes: further rows of a comparison, the same for every run.
        contradictions: in the trial's own records, in words.
        logged: by setting, the tag of a log that has its value, for runs without config.json.
        behind: by rule, the settings that make a log break it on purpose, as small presets do.
    """

    subject: str = ""
    reference: str = ""
    task: Callable[[Mapping[str, Any]], str] = lambda config: ""
    status: type[Status] = Status
    read: Callable[[Source, TrialDir, tuple[LoggedEpoch, ...]], Reading] = logged
    epoch_columns: Sequence[tuple[str, Callable[[Any], str]]] = ()
    second: tuple[str, str] | None = None
    curve: Callable[[Results], tuple[str, Sequence[float]]] = lambda results: ("", ())
    speed: Callable[[Results], Answer | None] = lambda results: None
    rates: Callable[[Results], Sequence[Rate]] = lambda results: ()
    tables: Callable[[Results], Mapping[str, Table]] = lambda results: {}
    figures: Callable[[Results], Sequence[Figure]] = lambda results: ()
    trial_columns: Callable[[Trial], Mapping[str, Any]] = lambda trial: {}
    phases: Callable[[Trial], Sequence[Phase]] = lambda trial: trial.placed_phases
    outcomes: Sequence[Measure] = ()
    contradictions: Callable[[Trial], Sequence[str]] = lambda trial: ()
    logged: Mapping[str, str] = field(default_factory=dict)
    behind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


PLAIN = Sections()
