"""The configuration of a run: frozen dataclasses, presets as functions, one validation.

A preset derives from another by ``replace``; ``--set key=value`` changes one field. What comes out
is written beside the results as config.json and is the only thing the later code looks at.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

from trainbench.errors import ConfigError


@dataclass(frozen=True)
class SyntheticSize:
    """Geometry of generated ratings."""

    users: int
    items: int
    ratings: int
    seed: int = 0


@dataclass(frozen=True)
class NcfConfig:
    """Everything that decides what a run of NCF computes.

    The defaults are the MLPerf v0.5 reference: mlcommons/training@fe17e837 recommendation/pytorch.
    """

    preset: str
    dataset: str = "ml-20m"
    synthetic: SyntheticSize | None = None
    # Split (reference convert.py)
    min_ratings: int = 20
    tie_break: str = "stable"
    # Quality (training_rules.adoc@6e02163)
    target_hit_rate: float = 0.635
    max_epochs: int = 20
    eval_negatives: int = 999
    # The reference evaluates once before training (ncf.py); its result is not an eval_accuracy.
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
    deterministic: bool = False
    steps_per_call: int = 64
    eval_users_per_batch: int = 256
    # Input producer
    epochs_per_cycle: int = 1
    cycles_ahead: int = 2
    last_batch: str = "pad"
    generator_workers: int = 2
    use_subprocess: bool = True
    # Rules
    division: str = "closed"
    drop_caches: bool = True


CHOICES: Mapping[str, tuple[str, ...]] = {
    "tie_break": ("stable", "reference"),
    "optimizer": ("adam", "lazy_adam"),
    "precision": ("fp32", "bf16"),
    "devices": ("auto", "cpu", "gpu", "all"),
    "last_batch": ("pad", "spillover"),
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
    """The reference's hyperparameters on MovieLens 1M: the real thing in minutes on two cores."""
    return replace(
        reference(), preset="ml-1m", dataset="ml-1m", target_hit_rate=0.225, max_epochs=12
    )


def quick() -> NcfConfig:
    """Generated ratings and a small model: every step in minutes, no network."""
    return replace(
        reference(),
        preset="quick",
        dataset="synthetic",
        synthetic=SyntheticSize(users=1_500, items=1_200, ratings=120_000),
        target_hit_rate=0.40,
        max_epochs=10,
        learning_rate=1e-3,
    )


PRESETS: Mapping[str, Callable[[], NcfConfig]] = {
    "mlperf": mlperf,
    "reference": reference,
    "ml-1m": ml_1m,
    "quick": quick,
}


def preset(name: str) -> NcfConfig:
    """The configuration called ``name``; a ``ConfigError`` names the nearest one otherwise."""
    if name not in PRESETS:
        raise ConfigError(unknown("preset", name, PRESETS))
    return PRESETS[name]()


def preset_of(dataset: str) -> str:
    """The preset made for ``dataset``; the reference's where there is none."""
    made_for = [name for name, make in PRESETS.items() if make().dataset == dataset]
    return made_for[0] if made_for else "reference"


def unknown(kind: str, found: str, known: Iterable[str]) -> str:
    """The message for a name that is not one of ``known``, with the nearest one suggested."""
    names = list(known)
    near = difflib.get_close_matches(found, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {found!r}{hint} (known: {', '.join(names)})"


def with_settings(config: NcfConfig, settings: Iterable[str]) -> NcfConfig:
    """``config`` with each ``key=value`` applied and validated.

    Raises:
        ConfigError: a setting without ``=``, an unknown key (the nearest is named) or a value of
            the wrong type.
    """
    given = parsed(NcfConfig, settings)
    config = replace(config, **given)
    if config.tpu and "xla" not in given:
        config = replace(config, xla=False)
    return validated(config)


def parsed(kind: type, settings: Iterable[str]) -> dict[str, Any]:
    """The fields of the configuration ``kind`` that the ``key=value`` of ``settings`` name.

    Raises:
        ConfigError: as ``with_settings``.
    """
    hints = {key: hint for key, hint in get_type_hints(kind).items() if key != "preset"}
    found = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise ConfigError(f"--set {setting!r}: wanted key=value")
        if key not in hints:
            raise ConfigError(unknown("key", key, hints))
        found[key] = _parse(key, text.strip(), hints[key])
    return found


def _parse(key: str, text: str, kind: Any) -> Any:
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                text.lower()
            ]
        if kind is int:
            return int(text.replace("_", ""))
        if kind is float:
            return float(text)
        if kind is str:
            return text
        if key == "synthetic":
            return SyntheticSize(*(int(part) for part in text.lower().split("x")))
        return tuple(int(part) for part in text.strip("()[]").split(",") if part.strip())
    except (ValueError, KeyError, TypeError):
        names = {"synthetic": "USERSxITEMSxRATINGS[xSEED]", "mlp_layer_sizes": "N,N,..."}
        name = names.get(key, getattr(kind, "__name__", ""))
        raise ConfigError(f"--set {key}={text}: wanted a value of type {name}") from None


def validated(config: NcfConfig) -> NcfConfig:
    """``config`` itself, or a ``ConfigError`` that names the first field out of bounds."""
    for key, allowed in CHOICES.items():
        if getattr(config, key) not in allowed:
            raise ConfigError(unknown(key, str(getattr(config, key)), allowed))
    for key in _POSITIVE:
        if getattr(config, key) <= 0:
            raise ConfigError(f"{key}={getattr(config, key)}: wanted a number above 0")
    for key in ("beta1", "beta2", "target_hit_rate"):
        if not 0 <= getattr(config, key) <= 1:
            raise ConfigError(f"{key}={getattr(config, key)}: wanted a number from 0 to 1")
    sizes = config.mlp_layer_sizes
    if len(sizes) < 2 or sizes[0] % 2 or min(sizes) <= 0:
        raise ConfigError(
            f"mlp_layer_sizes={sizes}: wanted two or more positive sizes, the first one even "
            "(half of it is the user's embedding, half the item's)"
        )
    _check_devices(config)
    _check_division(config)
    return config


def _check_devices(config: NcfConfig) -> None:
    if config.tpu and config.xla:
        raise ConfigError("--use_xla_for_gpu is incompatible with --tpu")
    if config.cpu_devices > 1 and config.devices != "all":
        raise ConfigError(
            f"cpu_devices={config.cpu_devices}: several devices train with devices=all only; "
            f"it is {config.devices}"
        )
    if config.batch_size % config.cpu_devices:
        raise ConfigError(indivisible(config.batch_size, config.cpu_devices))


def indivisible(batch_size: int, replicas: int) -> str:
    """The message for a batch that has not the same number of samples for each replica."""
    near = max(replicas, round(batch_size / replicas) * replicas)
    return (
        f"batch_size={batch_size} cannot be divided among {replicas} replicas; "
        f"try --set batch_size={near}"
    )


def _check_division(config: NcfConfig) -> None:
    # training_rules.adoc@6e02163, "Hyperparameters and Optimizer": closed NCF may change learning
    # rate, betas, batch size and Adam's variant (epsilon by the decision in training_policies#82).
    base = reference()
    changed = [key for key in _FIXED_IN_CLOSED if getattr(config, key) != getattr(base, key)]
    if config.division == "closed" and changed:
        key = changed[0]
        raise ConfigError(
            f"{key}={getattr(config, key)}: the closed division fixes it at {getattr(base, key)}; "
            "add --division open to run it anyway"
        )


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
    "generator_workers",
)


def differences(config: NcfConfig, base: NcfConfig) -> dict[str, tuple[Any, Any]]:
    """The fields in which ``config`` departs from ``base``: name -> (base's value, own value)."""
    names = [f.name for f in dataclasses.fields(NcfConfig) if f.name != "preset"]
    pairs = {name: (getattr(base, name), getattr(config, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def to_json(config: NcfConfig) -> str:
    """The text of config.json, stable for equal configurations."""
    return json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> NcfConfig:
    """The configuration that ``to_json`` wrote."""
    fields = json.loads(text)
    size = fields.pop("synthetic", None)
    fields["mlp_layer_sizes"] = tuple(fields["mlp_layer_sizes"])
    try:
        config = NcfConfig(**fields, synthetic=SyntheticSize(**size) if size else None)
    except TypeError as error:
        raise ConfigError(f"config.json: {error}") from None
    return validated(config)
