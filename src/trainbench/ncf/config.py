"""The configuration of a run: frozen dataclasses, presets as functions, one validation.

A preset derives from another by ``replace``; ``--set key=value`` changes one field. What comes out
is written beside the results as config.json and is all that later code reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from trainbench import configuration
from trainbench.errors import ConfigError
from trainbench.movielens.datasets import DATASETS, Expansion, SplitSpec, SyntheticSize, dataset
from trainbench.ncf.input.former import refuse_former

LANES = 2
"""Lanes that run at a time: chains of chunks, each on threads of its own."""


@dataclass(frozen=True)
class Lanes:
    """How a step runs in lanes (``ncf.lanes.step``): written CHUNKxTHREADS.

    chunk: samples that pass through the layers at a time; threads: of TensorFlow's operations, in
    the whole process.
    """

    chunk: int
    threads: int

    def __str__(self) -> str:
        return f"{self.chunk}x{self.threads}"


@dataclass(frozen=True)
class NcfConfig:
    """Everything that decides what a run of NCF computes.

    The defaults are the MLPerf v0.5 reference: mlcommons/training@fe17e837 recommendation/pytorch.
    """

    preset: str
    dataset: str = "ml-20m"
    synthetic: SyntheticSize | None = None
    # Fractal expansion of the dataset: so many times its users and its items (docs/big_data.md)
    expand: Expansion | None = None
    # Split (reference convert.py)
    min_ratings: int = 20
    tie_break: str = "reference"
    # Quality (training_rules.adoc@6e02163); None: max_epochs epochs, whatever they reach
    target_hit_rate: float | None = 0.635
    max_epochs: int = 20
    # The rules want every epoch evaluated; the last one always is.
    epochs_between_evals: int = 1
    eval_negatives: int = 999
    # The reference evaluates once before training (ncf.py); its result is not an eval_accuracy.
    # False: only some users are evaluated then, to see that the target is not reached untrained.
    initial_eval: bool = True
    # Model (reference neumf.py)
    mf_dim: int = 64
    mlp_layer_sizes: tuple[int, ...] = (256, 256, 128, 64)
    # Optimizer
    optimizer: str = "adam"
    batch_size: int = 2_048
    learning_rate: float = 5e-4
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    train_negatives: int = 4
    # Execution: changes speed, not the mathematics (precision excepted, which is always logged)
    precision: str = "fp32"
    xla: bool = True
    devices: str = "auto"
    # Logical CPU devices of devices=all: several replicas on a machine without GPUs.
    cpu_devices: int = 1
    # A TPU's name; it compiles with XLA always, so it excludes xla, which is for CPUs and GPUs.
    tpu: str = ""
    # How several replicas hold the tables: divided by rows, or each a copy of all.
    tables: str = "sharded"
    deterministic: bool = False
    # How one CPU runs a step: in lanes of a size, or none; auto: measured once for a set of trials.
    lanes: Lanes | Literal["auto"] | None = "auto"
    steps_per_call: int = 64
    eval_users_per_batch: int = 256
    # Input producer
    epochs_per_cycle: int = 1
    cycles_ahead: int = 2
    last_batch: str = "pad"
    # How a seed becomes bytes (docs/input.md): 2; 1 is for the replay of runs before 0.4.
    stream_format: int = 2
    # auto: three quarters of the CPUs allotted to the producer, so that it starves nobody.
    generator_workers: int | Literal["auto"] = "auto"
    # subprocess: started by the trainer; external: by hand (``trainbench generate``); inline: the
    # trainer makes its input itself.
    generator: str = "subprocess"
    # Rules
    division: str = "closed"
    drop_caches: bool = True

    @property
    def goal(self) -> str:
        """What training is for, in words."""
        return "without a target" if self.target_hit_rate is None else f"to {self.target_hit_rate}"

    @property
    def split_spec(self) -> SplitSpec:
        """The part that decides what training and test set are made of."""
        names = [field.name for field in fields(SplitSpec)]
        return SplitSpec(**{name: getattr(self, name) for name in names})


TOP = 10
"""HR@10: a held-out item among the ten highest scores is a hit."""

MASKED = 2
"""Label of what fills the last batch with ``last_batch=mask``: it does not train."""

STREAM_FORMATS = (1, 2)

# HR@10 to train to, by dataset: the rules' for ml-20m, the others measured (docs/convergence.md).
# A dataset without one has no target.
TARGETS: Mapping[str, float] = {"ml-20m": 0.635, "ml-1m": 0.225, "ml-latest-small": 0.285}

CHOICES: Mapping[str, tuple[str, ...]] = {
    "tie_break": ("stable", "reference"),
    "optimizer": ("adam", "lazy_adam"),
    "precision": ("fp32", "bf16"),
    "devices": ("auto", "cpu", "gpu", "all"),
    "tables": ("sharded", "mirrored"),
    "last_batch": ("pad", "mask", "spillover"),
    "generator": ("subprocess", "external", "inline"),
    "division": ("closed", "open"),
}


def reference() -> NcfConfig:
    """The v0.5 reference's own hyperparameters on ml-20m."""
    return NcfConfig(preset="reference")


def mlperf() -> NcfConfig:
    """ml-20m at a batch size with which 92 of 100 public runs converged (models#5572)."""
    return replace(
        reference(),
        preset="mlperf",
        max_epochs=14,
        initial_eval=False,
        batch_size=65_536,
        learning_rate=0.00281936,
        beta1=0.0490852,
        beta2=0.965095,
        epsilon=1.23757e-8,
        steps_per_call=8,
    )


def ml_1m() -> NcfConfig:
    """The reference's hyperparameters on MovieLens 1M: real ratings, minutes on two cores."""
    return replace(
        reference(),
        preset="ml-1m",
        dataset="ml-1m",
        target_hit_rate=TARGETS["ml-1m"],
        max_epochs=12,
    )


def quick() -> NcfConfig:
    """Generated ratings and a small model: every step in minutes, no network."""
    return replace(
        reference(),
        preset="quick",
        dataset="synthetic",
        synthetic=SyntheticSize(users=1_500, items=1_200, ratings=120_000),
        tie_break="stable",
        target_hit_rate=0.40,
        max_epochs=10,
        learning_rate=1e-3,
    )


def rehearsal() -> NcfConfig:
    """The benchmark's own task on generated ratings of ml-20m's geometry: no network."""
    return replace(
        mlperf(),
        preset="rehearsal",
        dataset="rehearsal",
        synthetic=SyntheticSize(users=138_493, items=26_744, ratings=20_000_263),
    )


PRESETS: Mapping[str, Callable[[], NcfConfig]] = {
    "mlperf": mlperf,
    "reference": reference,
    "ml-1m": ml_1m,
    "quick": quick,
    "rehearsal": rehearsal,
}


def preset_of(dataset: str) -> str:
    """The preset made for ``dataset``; the reference's where there is none."""
    made_for = [name for name, make in PRESETS.items() if make().dataset == dataset]
    return made_for[0] if made_for else "reference"


def with_settings(config: NcfConfig, settings: Iterable[str]) -> NcfConfig:
    """``config`` with each ``key=value`` applied and validated.

    Another dataset than the preset's brings its own target, if one was measured. Own ratings are
    of the open division.

    Raises:
        ConfigError: a setting without ``=``, an unknown key (the nearest is named) or a value of
            the wrong type.
    """
    settings = list(settings)
    refuse_former(setting.partition("=")[0].strip().replace("-", "_") for setting in settings)
    given = configuration.parsed(NcfConfig, settings)
    if given.get("dataset", config.dataset) != config.dataset:
        given = {"target_hit_rate": TARGETS.get(given["dataset"]), **given}
    if given.get("expand"):
        given = {"target_hit_rate": None, **given}
    if dataset(given.get("dataset", config.dataset)).own:  # An unknown one ends here.
        given = {"division": "open", **given}
    config = replace(config, **given)
    if config.tpu and "xla" not in given:
        config = replace(config, xla=False)
    return validated(config)


def validated(config: NcfConfig) -> NcfConfig:
    """``config`` itself, or a ``ConfigError`` that names the first field out of bounds."""
    configuration.require_choices(config, CHOICES)
    configuration.require_positive(config, _POSITIVE)
    for key in ("beta1", "beta2"):
        if not 0 <= getattr(config, key) <= _LARGEST_BELOW_1:
            raise ConfigError(f"{key}={getattr(config, key)}: wanted a number from 0 to below 1")
    workers = config.generator_workers
    if workers != "auto" and workers <= 0:
        raise ConfigError(f"generator_workers={workers}: wanted auto or a number above 0")
    if config.stream_format not in STREAM_FORMATS:
        raise ConfigError(f"stream_format={config.stream_format}: wanted 1 or 2")
    _check_task(config)
    _check_expansion(config)
    sizes = config.mlp_layer_sizes
    if len(sizes) < 2 or sizes[0] % 2 or min(sizes) <= 0:
        raise ConfigError(
            f"mlp_layer_sizes={sizes}: wanted two or more positive sizes, the first one even "
            "(half of it is the user's embedding, half the item's)"
        )
    _check_devices(config)
    _check_division(config)
    return config


def _check_expansion(config: NcfConfig) -> None:
    factor = config.expand
    if factor is None:
        return
    small = min(factor.users, factor.items) >= 1 and max(factor.users, factor.items) <= 512
    if not small or factor.users * factor.items < 2 or factor.seed < 0:
        raise ConfigError(
            f"expand={factor.text}x{factor.seed}: wanted USERSxITEMS[xSEED], how many times the "
            "users and the items, from 1 to 512 each and not both 1, and a seed from 0 up"
        )
    if dataset(config.dataset).sharded:
        raise ConfigError(
            f"expand={factor.text}: {config.dataset} is an expansion already; wanted ratings"
        )


def _check_task(config: NcfConfig) -> None:
    target = config.target_hit_rate
    if target is not None and not 0 < target <= 1:
        raise ConfigError(
            f"target_hit_rate={target}: wanted a number above 0, at most 1, or none for a run of "
            "max_epochs epochs without a target"
        )
    if config.eval_negatives < TOP:
        raise ConfigError(f"eval_negatives={config.eval_negatives}: {few_candidates()}")


def few_candidates() -> str:
    """The message for a task in which no item can be missed."""
    return (
        f"among {TOP} candidates or fewer every item is one of the first {TOP}, so HR@{TOP} is 1 "
        "without training; use more items, and eval_negatives of 99 or more"
    )


def _check_devices(config: NcfConfig) -> None:
    if config.tpu and config.xla:
        raise ConfigError("--use_xla_for_gpu is incompatible with --tpu")
    if isinstance(config.lanes, Lanes):
        _check_lanes(config, config.lanes)
    if config.cpu_devices > 1 and config.devices != "all":
        raise ConfigError(
            f"cpu_devices={config.cpu_devices}: several devices train with devices=all only; "
            f"it is {config.devices}"
        )
    if config.batch_size % config.cpu_devices:
        raise ConfigError(indivisible(config.batch_size, config.cpu_devices))


def _check_lanes(config: NcfConfig, lanes: Lanes) -> None:
    if min(lanes.chunk, lanes.threads) <= 0:
        raise ConfigError(f"lanes={lanes}: wanted two numbers above 0, CHUNKxTHREADS")
    if config.tpu or config.devices in ("gpu", "all"):
        raise ConfigError(
            lanes_refused(lanes, "--tpu" if config.tpu else f"devices={config.devices}")
        )


def lanes_refused(lanes: Lanes, beside: str) -> str:
    """The message for ``lanes`` with something that is not one CPU alone."""
    return (
        f"lanes={lanes}: lanes are for one CPU; leave it out, or use --set lanes=none, with "
        f"{beside}"
    )


def indivisible(batch_size: int, replicas: int) -> str:
    """The message for a batch that has not the same number of samples for each replica."""
    near = divisible(batch_size, replicas)
    return (
        f"batch_size={batch_size} cannot be divided among {replicas} replicas; "
        f"try --set batch_size={near}"
    )


def divisible(batch_size: int, replicas: int) -> int:
    """The batch nearest to ``batch_size`` with the same number of samples for each replica."""
    return max(replicas, round(batch_size / replicas) * replicas)


def is_own(name: str) -> bool:
    """Whether the dataset ``name`` is somebody's own ratings."""
    return name not in DATASETS


def task_of(name: str, expand: Expansion | None = None) -> str:
    """The dataset ``name`` in words: own ratings and expansions look like no published ones."""
    text = f"own ratings {name!r}" if is_own(name) else name
    return f"{text} expanded by {expand.text}, seed {expand.seed}" if expand else text


def _check_division(config: NcfConfig) -> None:
    if config.division == "closed" and is_own(config.dataset):
        raise ConfigError(
            f"dataset {config.dataset}: the closed division has MovieLens alone, and these are own "
            "ratings; leave --division closed out"
        )
    # training_rules.adoc@6e02163, "Hyperparameters and Optimizer": closed NCF may change learning
    # rate, betas, batch size and Adam's variant (epsilon by the decision in training_policies#82).
    base = reference()
    changed = [key for key in _FIXED_IN_CLOSED if getattr(config, key) != getattr(base, key)]
    if config.division == "closed" and changed:
        key = changed[0]
        raise ConfigError(
            f"{key}={getattr(config, key)}: the closed division fixes it at {getattr(base, key)}; "
            "add --set division=open to run it anyway"
        )


# In float32, in which they are computed.
_LARGEST_BELOW_1 = 1 - 2.0**-24
_FIXED_IN_CLOSED = (
    "min_ratings",
    "eval_negatives",
    "train_negatives",
    "mf_dim",
    "mlp_layer_sizes",
)
_POSITIVE = (
    "min_ratings",
    "max_epochs",
    "eval_negatives",
    "train_negatives",
    "mf_dim",
    "batch_size",
    "learning_rate",
    "epsilon",
    "steps_per_call",
    "eval_users_per_batch",
    "cpu_devices",
    "epochs_per_cycle",
    "cycles_ahead",
    "epochs_between_evals",
)


def from_json(text: str | bytes) -> NcfConfig:
    """The configuration in the text of a config.json, validated; of runs before 0.3 too."""
    return validated(configuration.from_json(NcfConfig, text, former=_today))


def _today(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` of a config.json under today's names; of old ones with what there was."""
    # What runs before lanes and divided tables had is what they have without.
    values = {"stream_format": 1, "lanes": None, "tables": "mirrored"} | values
    if "use_subprocess" not in values:
        return values
    started = "subprocess" if values["use_subprocess"] else "inline"
    return {"generator": started} | {k: v for k, v in values.items() if k != "use_subprocess"}
