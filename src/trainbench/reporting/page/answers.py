"""What ran, whether it was fair, and how to run it again: answers for whoever has only the page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from trainbench import configuration
from trainbench.benchmark import DEFAULT
from trainbench.reporting.page.tables import MOST_TRIALS
from trainbench.reporting.records import Results
from trainbench.reporting.sections import Answer
from trainbench.reporting.text import NA, percent, plural, shown

REGENERATE = "python -m trainbench report --run DIR"
"""Makes the page once more, byte for byte."""


def ran(results: Results) -> Answer:
    """What was trained, how often, on what and by which code."""
    record: Mapping[str, Any] = next((t.system for t in results.trials if t.system), {})
    task = results.sections.task(results.config) or results.benchmark.title
    cpu, gpus = record.get("cpu"), record.get("gpus")
    parts = [shown(cpu.get("model"))] if isinstance(cpu, Mapping) and cpu.get("model") else []
    if isinstance(gpus, list) and gpus:
        names = [shown(gpu.get("name")) for gpu in gpus if isinstance(gpu, Mapping)]
        parts = [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)] + parts
    status = [t.status for t in results.trials]
    devices = dict.fromkeys(s.device for s in status if s.device)
    formats = dict.fromkeys(s.precision for s in status if s.precision)
    where = [f"on {', '.join(devices)}"] if devices else []
    detail = ", ".join([*where, *formats, *parts])
    return Answer("What ran", f"{plural(len(results.trials), 'trial')} of {task}", detail)


def fair(results: Results) -> Answer:
    """What speaks for and against the times: page cache, other work, clocks, records."""
    if not results.trials:
        return Answer("Was it fair", NA, "no trial was started")
    doubts, known = list(_doubts(results)), list(_known(results))
    if results.contradictions:
        found = plural(len(results.contradictions), "contradiction")
        return Answer("Was it fair", f"{found} between the files of the run", "", "bad")
    if doubts:
        return Answer("Was it fair", "with reservations", "; ".join(doubts + known), "warn")
    return Answer("Was it fair", "nothing speaks against it", "; ".join(known), "good")


def _doubts(results: Results) -> Iterator[str]:
    trials = results.trials
    kept = sum(t.cache_drop.dropped is False for t in trials)
    unknown = sum(t.cache_drop.dropped is None for t in trials)
    if kept:
        yield f"the page cache was kept before {kept} of {plural(len(trials), 'trial')}"
    if unknown:
        of_how_many = f"{unknown} of {plural(len(trials), 'trial')}"
        yield f"not known of {of_how_many} whether the page cache was dropped"
    busy = [t for t in trials if t.load and t.load.busy]
    if busy:
        worst = max(t.load.foreign_cpu + t.load.steal_cpu for t in busy if t.load)
        of_how_many = f"{len(busy)} of {plural(len(trials), 'trial')}"
        yield f"others took up to {percent(worst)} of the CPUs in {of_how_many}"
    unseen = sum(t.load is None for t in trials)
    if unseen:
        yield f"not known of {unseen} of {plural(len(trials), 'trial')} what else the machine did"
    if any(t.log and t.log.clocks_agree is False for t in trials):
        yield "the wall clock was not right"


def _known(results: Results) -> Iterator[str]:
    trials = results.trials
    if all(t.cache_drop.dropped for t in trials):
        yield "the page cache was dropped before each trial"
    loads = [t.load for t in trials if t.load]
    if len(loads) == len(trials) and not any(load.busy for load in loads):
        worst = max(load.foreign_cpu + load.steal_cpu for load in loads)
        yield f"others took at most {percent(worst)} of the CPUs"
    if all(t.log and t.log.clocks_agree for t in trials):
        yield "both clocks agree"


def again(results: Results) -> list[str]:
    """The commands that make a run like this one; none where its settings are not known."""
    run, benchmark = results.run, results.benchmark
    base = benchmark.presets.get(run.preset or "")
    if base is None or not results.config:
        return []
    preset = base()
    try:
        own = configuration.record(type(preset), results.config)
    except ValueError:
        return []
    group = [] if benchmark.name == DEFAULT else [benchmark.command]
    command = ["python", "-m", "trainbench", *group, "pipeline", "--preset", str(run.preset)]
    for setting in configuration.settings(own, preset):
        command += ["--set", setting]
    command += ["--runs", str(run.runs or len(results.trials) or 1)]
    if run.seed is not None and re.fullmatch("[0-9]+", run.seed):
        command += ["--seed", run.seed]
    return [*_checkout(results), shlex.join(command)]


def _checkout(results: Results) -> list[str]:
    record = next((t.system for t in results.trials if t.system), {})
    git = record.get("git")
    revision = str(git.get("revision")) if isinstance(git, Mapping) else ""
    return [f"git checkout {revision}"] if re.fullmatch("[0-9a-f]{7,64}", revision) else []


def dirty(results: Results) -> bool:
    """Whether the code that ran is more than its revision has."""
    records = [t.system.get("git") for t in results.trials]
    return any(isinstance(git, Mapping) and git.get("dirty") is True for git in records)


def replays(results: Results) -> list[str]:
    """The command that runs each trial again, where its benchmark has one."""
    if results.benchmark.repeated is None:
        return []
    name = results.run.run_id or ""
    # The command is there to be copied into a shell; a name may come from anywhere.
    folder = f"data/runs/{name}" if re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII) else "DIR"
    chosen = results.trials[:MOST_TRIALS]
    return [f"python -m trainbench replay {folder} --trial {t.index}" for t in chosen if t.epochs]
