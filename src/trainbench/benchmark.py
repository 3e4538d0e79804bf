"""What a benchmark is: one record that command line, trials, stitch, score and report work from.

None of them knows a benchmark by name. A record imports nothing heavy: what does the work stands in
it as ``module:name`` and is imported when it is called. A benchmark of another package is found by
its entry point in the group ``trainbench.benchmarks``; docs/benchmarks.md adds one step by step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from trainbench.configuration import unknown
from trainbench.errors import ConfigError

ENTRY_POINTS = "trainbench.benchmarks"
_OWN = {
    "ncf": "trainbench.ncf.benchmark:NCF",
    "resnet": "trainbench.image_classification.benchmark:RESNET",
}
DEFAULT = "ncf"
"""Its steps are the commands without a group: ``trainbench train``."""


@dataclass(frozen=True)
class Quality:
    """What training is for: training ends when it is at least the target.

    Attributes:
        name: as people call it, ``HR@10``.
        best: key in status.json of the best value that a trial reached.
        target: key in status.json and config.json of the value wanted.
        every: what it is measured once for: ``epoch``, ``evaluation``.
    """

    name: str
    best: str
    target: str
    every: str = "epoch"

    @property
    def names(self) -> dict[str, str]:
        """What status.json calls ``best`` and ``target``."""
        return {"best": self.best, "target": self.target}


@dataclass(frozen=True)
class RunRule:
    """How many runs the rules ask for, and how many of those that converge are looked at."""

    runs: int
    counted: int


@dataclass(frozen=True)
class Repeated:
    """The fields of epochs.jsonl that a trial has again when it runs again with its seed.

    Attributes:
        inputs: on every machine.
        results: on the same kind of machine, to the last digit.
        share: the one of ``results`` that is a number out of another field; on another kind of
            machine it is judged by its standard error.
    """

    inputs: tuple[str, ...]
    results: tuple[str, ...]
    share: tuple[str, str] | None = None


@dataclass(frozen=True)
class Option:
    """An option of a benchmark's own steps, beside those that every benchmark has.

    Attributes:
        declarations: as click takes them: ``("--xla/--no-xla", "xla")``.
        steps: the commands that have it.
        kind: bool makes a switch, Path a folder.
        field: of the configuration that it sets; ``None``: trials get it under its own name.
        of_source: of where the data come from: ``download`` gets it in ``Source.own``, no trial.
        implies: ``key=value`` of the configuration that it brings, unless they are set otherwise.
    """

    name: str
    steps: tuple[str, ...]
    help: str
    declarations: tuple[str, ...] = ()
    kind: type = str
    choices: tuple[str, ...] = ()
    field: str | None = None
    default: Any = None
    envvar: str | None = None
    of_source: bool = False
    implies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from when it is not its publisher.

    Attributes:
        hash_decides: a server whose certificate does not hold is asked all the same; what it sends
            counts only if its SHA-256 is the known one.
        own: the benchmark's own options of the source (``Option.of_source``), by name.
    """

    mirror: str | None = None
    archive: Path | None = None
    sha256: str | None = None
    hash_decides: bool = False
    own: Mapping[str, Any] = field(default_factory=dict)


PUBLISHER = Source()


@dataclass(frozen=True)
class Inputs:
    """What a run copies of its data: the record of the cache and the manifest of the download."""

    cache_record: Path
    manifest: Path


@dataclass(frozen=True)
class Benchmark:
    """Everything that is different from benchmark to benchmark.

    Attributes:
        name: in compliance logs and as the folder of results.
        command: the group of its commands; empty for the default benchmark.
        title: what is trained, for a heading.
        config: the configuration's type; ``with_settings`` and ``from_json`` make valid ones.
        default_preset: by the options of a command.
        extras: step -> the modules that it needs of extras of this package (``machine.extras``);
            they are looked for before anything is made.
        reference: the preset that a report compares a configuration with.
        task: ``ml-20m``, ``resnet50 on imagenet``: what a configuration trains.
        label: of a run's id: the preset, or what else a configuration is.
        gpu_setting: the setting that demands a GPU.
        download: ``(config, data, source) -> None``; ``verify``: ``(config, data) -> None``.
        prepare: ``(config, data) -> None``, the step ``prepare_step``.
        inputs: ``(config, data) -> Inputs``: verified, or a ``MachineError``.
        check_set: ``(set_spec) -> set_spec``: as it runs, or a ``ConfigError``; empty for none.
        choose: ``(set_spec) -> mapping``: what this machine decides for all trials of a set, as
            JSON; ``run.json`` and every ``spec.json`` have it as ``choice``. Empty for none.
        work: ``(set_spec) -> bool``: do this machine's part in the run of another one, if it is not
            the one whose run it is; empty where runs are of one machine.
        generate: ``(data, timeout_s) -> None``: make the input of a run whose trainer waits for it;
            empty where no trainer does.
        trial: ``(trial_spec) -> status``, in a process of its own.
        tags: of its own in the compliance log, beside those of NCF.
        required_tags: that level 2 asks for, where v0.5 has no list of its own.
        strict_rules: a tuple of ``compliance.rules.rule.Rule``.
        report: ``reporting.sections.Sections``.
        prove: ``(run, trial, data) -> proof``: computes the quality of a trial that has ended a
            second time, by other code; ``str(proof)`` says what was found, ``proof.proved`` whether
            it holds. ``data`` may be ``None``: the data directory of the run. Empty for none.
        former: names of options that are not there any more, each with what to do instead.
        repeated: what a replay compares; ``None`` where trials cannot be replayed.
    """

    name: str
    command: str
    title: str
    config: type
    presets: Mapping[str, Callable[[], Any]]
    with_settings: Callable[[Any, Sequence[str]], Any]
    from_json: Callable[[bytes], Any]
    default_preset: Callable[[Mapping[str, Any]], str]
    reference: str
    task: Callable[[Any], str]
    quality: Quality
    run_rule: RunRule
    gpu_setting: str
    download: str
    prepare_step: str
    prepare: str
    inputs: str
    trial: str
    strict_rules: str
    verify: str = ""
    check_set: str = ""
    choose: str = ""
    label: Callable[[Any], str] = lambda config: str(config.preset)
    work: str = ""
    generate: str = ""
    default_preset_help: str = "quick"
    options: tuple[Option, ...] = ()
    tags: frozenset[str] = frozenset()
    required_tags: tuple[str, ...] = ()
    report: str = "trainbench.reporting.sections:PLAIN"
    prove: str = ""
    repeated: Repeated | None = None
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    former: Mapping[str, str] = field(default_factory=dict)

    def preset(self, name: str) -> Any:
        """The configuration called ``name``; a ``ConfigError`` names the nearest otherwise."""
        if name not in self.presets:
            raise ConfigError(unknown("preset", name, self.presets))
        return self.presets[name]()


def load(path: str) -> Any:
    """What ``module:name`` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


@functools.cache
def registered() -> dict[str, Benchmark]:
    """Every benchmark by its name: this package's, then those of other packages.

    Raises:
        ConfigError: two of one name.
    """
    paths = list(_OWN.values())
    paths += [point.value for point in metadata.entry_points(group=ENTRY_POINTS)]
    found: dict[str, Benchmark] = {}
    for path in dict.fromkeys(paths):
        benchmark: Benchmark = load(path)
        if benchmark.name in found:
            raise ConfigError(f"{path}: a benchmark called {benchmark.name!r} is there already")
        found[benchmark.name] = benchmark
    return found


def find(name: str) -> Benchmark:
    """The benchmark called ``name``; a ``ConfigError`` names the nearest one otherwise."""
    if name not in registered():
        raise ConfigError(unknown("benchmark", name, registered()))
    return registered()[name]
