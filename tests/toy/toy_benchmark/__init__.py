"""A third benchmark, in one folder: a line fitted to generated points until R2 is high enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainbench import configuration
from trainbench.benchmark import Benchmark, Option, Quality, Repeated, RunRule

ENDS = ("by itself", "killed", "damaged")


@dataclass(frozen=True)
class ToyConfig:
    """What a run computes; ``ends`` lets a trial die as real ones do."""

    preset: str
    points: int = 200
    learning_rate: float = 0.3
    target_r2: float = 0.9
    max_epochs: int = 20
    drop_caches: bool = True
    ends: str = "by itself"


PRESETS: Mapping[str, Callable[[], ToyConfig]] = {
    "easy": lambda: ToyConfig("easy"),
    "hard": lambda: ToyConfig("hard", target_r2=1.1),
}


def validated(config: ToyConfig) -> ToyConfig:
    """``config`` itself, or a ``ConfigError``."""
    configuration.require_choices(config, {"ends": ENDS})
    configuration.require_positive(config, ("points", "learning_rate", "max_epochs"))
    return config


def with_settings(config: ToyConfig, settings: Sequence[str]) -> ToyConfig:
    """``config`` with each ``key=value`` applied."""
    return validated(replace(config, **configuration.parsed(ToyConfig, settings)))


def from_json(text: str | bytes) -> ToyConfig:
    """The configuration in the text of a config.json."""
    return validated(configuration.from_json(ToyConfig, text))


def _easy(options: Mapping[str, Any]) -> str:
    return "easy"


TOY = Benchmark(
    name="toy",
    command="toy",
    title="Linear regression",
    config=ToyConfig,
    presets=PRESETS,
    with_settings=with_settings,
    from_json=from_json,
    default_preset=_easy,
    default_preset_help="easy",
    reference="easy",
    task=lambda config: f"{config.points} points",
    quality=Quality("R2", best="best_r2", target="target_r2"),
    run_rule=RunRule(runs=3, counted=3),
    gpu_setting="",
    download="toy_benchmark.steps:download",
    prepare_step="prepare",
    prepare="toy_benchmark.steps:prepare",
    inputs="toy_benchmark.steps:inputs",
    trial="toy_benchmark.trial:run_trial",
    strict_rules="toy_benchmark.trial:STRICT",
    options=(Option("ends", ("train",), "How trials end.", choices=ENDS, field="ends"),),
    tags=frozenset({"points"}),
    required_tags=("points",),
    repeated=Repeated(inputs=("points_sha256",), results=("r2",)),
)
