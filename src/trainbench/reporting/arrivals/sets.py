"""Which logs are the runs of one result, and what such a set is called.

A set has one benchmark and one round. Its logs lie in one folder, and their names differ in a
number alone (``result_0.txt``, ``intel-run-3.log``); what stands before the number sets the results
of several systems in one folder apart. Names that are nothing but digits of a hash, a date or a
time are one set where their hyperparameters are equal. Every other name is a set of its own: to
average runs of two systems would be worse than to show them side by side.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from trainbench.benchmark import load
from trainbench.compliance.hyperparameters import hyperparameters
from trainbench.compliance.outcome import outcome
from trainbench.compliance.rules.cross_log import check_set
from trainbench.compliance.statistic import ORDER_KEYS, RunScore, run_rule, scored
from trainbench.compliance.statistic import Score as Statistic
from trainbench.reporting.arrivals.benchmarks import benchmark_named
from trainbench.reporting.arrivals.logs import V05, ArrivedLog
from trainbench.reporting.evidence import rules, score_record, with_context
from trainbench.reporting.records import CacheDrop, Results, Trial
from trainbench.reporting.sections import Sections
from trainbench.reporting.sources import Source
from trainbench.trials.paths import TrialDir
from trainbench.trials.spec import Run

_ENDING = re.compile(r"(\.(txt|log|out|err|stdout|gz|xz|bz2))+$", re.IGNORECASE)
_NUMBERED = re.compile(
    r"^(?P<prefix>.*?)"
    r"(?:(?:^|[-_. ])(?:result|run|trial|log|seed)?[-_. ]?|(?<=[A-Za-z])(?=0\d\d|\d{4}))"
    r"(?P<number>\d{1,18})$"
)
_MERE_DIGITS = re.compile(r"[0-9a-fA-F]{4}[-_:.TZ 0-9a-fA-F]*")
# Folders whose names say nothing of a system.
_GENERIC = frozenset({"results", "result", "logs", "log", "submission", "runs", "run", "output"})
_NOWHERE = Path(os.devnull) / "nothing"
"""The folder of a trial of which there is only a log."""


@dataclass(frozen=True)
class LogSet:
    """The runs of one result: their logs, in the order of their numbers, and what they come to.

    ``results`` is the report's record of them, as of a run of which only logs are left: its trials
    have the same order.
    """

    name: str
    benchmark: str
    round: str
    logs: tuple[ArrivedLog, ...]
    results: Results


@dataclass(frozen=True)
class _Key:
    folder: str
    benchmark: str
    round: str
    prefix: str


def sets_of(logs: Sequence[ArrivedLog]) -> tuple[LogSet, ...]:
    """The sets of ``logs``, in the order of their first logs."""
    found: dict[_Key, list[ArrivedLog]] = {}
    for log in logs:
        found.setdefault(_key(log), []).append(log)
    names = _names(list(found))
    return tuple(
        LogSet(name, key.benchmark, key.round, *_collected(key, members))
        for (key, members), name in zip(found.items(), names, strict=True)
    )


def number_of(file: str) -> int | None:
    """The number at the end of a file's name."""
    match = _NUMBERED.match(_stem(file))
    return int(match["number"]) if match else None


def _stem(file: str) -> str:
    return _ENDING.sub("", PurePosixPath(file).name)


def _key(log: ArrivedLog) -> _Key:
    stem, folder = _stem(log.file), str(PurePosixPath(log.file).parent)
    match = _NUMBERED.match(stem)
    if _MERE_DIGITS.fullmatch(stem) and not (match and not match["prefix"]):
        prefix = f"*{json.dumps(hyperparameters([log.events]), sort_keys=True)}"
    else:
        prefix = match["prefix"] if match else stem
    return _Key(folder, log.benchmark, log.round, prefix.strip("-_. "))


def _names(keys: Sequence[_Key]) -> list[str]:
    """A name for each set: the prefix of its files, or its folder; with parents until unique."""
    shared = Counter(key.folder for key in keys)
    places = [_places(key, shared[key.folder] > 1) for key in keys]
    lengths = [1] * len(keys)
    while True:
        names = ["/".join(p[-n:]) for p, n in zip(places, lengths, strict=True)]
        pairs = [(key.benchmark, name) for key, name in zip(keys, names, strict=True)]
        count = Counter(pairs)
        short = [i for i, p in enumerate(pairs) if count[p] > 1 and lengths[i] < len(places[i])]
        if not short:
            return _numbered(pairs)
        for i in short:
            lengths[i] += 1


def _places(key: _Key, several: bool) -> list[str]:
    """The parts of a set's name, from what is most general to what is most special."""
    parts = [part for part in PurePosixPath(key.folder).parts if part != "."]
    if parts and parts[-1].lower() in (key.benchmark, "ncf", "resnet") and len(parts) > 1:
        parts = parts[:-1]
    named = [part for part in parts if part.lower() not in _GENERIC] or parts
    prefix = "" if key.prefix.startswith("*") else key.prefix
    return [*named, prefix] if prefix and (several or not named) else named or [key.benchmark]


def _numbered(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The second of each pair; pairs that are equal get a number."""
    return [
        f"{name} ({pairs[: i + 1].count((of, name))})" if pairs.count((of, name)) > 1 else name
        for i, (of, name) in enumerate(pairs)
    ]


def _collected(key: _Key, members: Sequence[ArrivedLog]) -> tuple[tuple[ArrivedLog, ...], Results]:
    numbers = [number_of(log.file) for log in members]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbered = list(enumerate(members))
    else:
        numbered = sorted(zip((n or 0 for n in numbers), members, strict=True), key=_first)
    benchmark = benchmark_named(key.benchmark)
    sections: Sections = load(benchmark.report)
    found = check_set({log.file: log.events for log in members}) if key.round == V05 else ()
    results = Results(
        **{
            **_nothing(Results),
            "run": Run(**_nothing(Run)),
            "config": _printed(members),
            "dataset": {},
            "cache": {},
            "trials": tuple(_trial(index, log, sections) for index, log in numbered),
            "rules": rules(key.benchmark) if key.round == V05 else (),
            "logged": hyperparameters(log.events for log in members),
            "set_findings": tuple(with_context(finding, []) for finding in found),
            "contradictions": (),
            "chain": "",
            "score": _score(key, numbered),
            "set_aside": (),
            "missing": (),
            "benchmark": benchmark,
        }
    )
    return tuple(log for _, log in numbered), results


def _printed(members: Sequence[ArrivedLog]) -> dict[str, Any]:
    """The batch size of logs that have no line for it, where all print the same."""
    sizes = {log.facts["batch_size"].value for log in members if "batch_size" in log.facts}
    return {"batch_size": sizes.pop()} if len(sizes) == 1 else {}


def _first(pair: tuple[int, ArrivedLog]) -> int:
    return pair[0]


def _nothing(kind: Any) -> dict[str, Any]:
    return {field.name: None for field in fields(kind)}


def _trial(index: int, log: ArrivedLog, sections: Sections) -> Trial:
    """A trial of which there is only its log."""
    source, folder = Source(_NOWHERE), TrialDir(_NOWHERE / f"trial_{index}")
    epochs, measured = sections.read(source, folder, log.epochs)
    return Trial(
        index=index,
        status=sections.status(**_nothing(sections.status)),
        epochs=epochs,
        phases=(),
        cache_drop=CacheDrop(**_nothing(CacheDrop)),
        system={},
        log=log.check,
        measured=measured,
    )


def _score(key: _Key, numbered: Sequence[tuple[int, ArrivedLog]]) -> Any:
    """The v0.5 statistic; logs of later rounds are scored by other rules (``trainbench score``)."""
    rule = run_rule(key.benchmark) if key.round == V05 else None
    if rule is None:
        return None
    runs = [
        RunScore(log.file, index, outcome(log.events), "", log.damage) for index, log in numbered
    ]
    runs.sort(key=ORDER_KEYS["run_start"])
    found: Statistic = scored(key.folder, key.benchmark, "run_start", runs, rule)
    return score_record(found)
