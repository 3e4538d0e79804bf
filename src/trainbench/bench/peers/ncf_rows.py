"""The rows of ``bench ncf --peers``: every geometry, in float32 and bfloat16, and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainbench.bench.peers.rounds import Form, Row
from trainbench.ncf import config as configs
from trainbench.ncf.config import NcfConfig

ML_1M, ML_20M = (6_040, 3_706), (138_493, 26_744)
SAMPLES_PER_TURN = 131_072
EVALUATED_USERS = 2_048
LAZY = "other mathematics: rows that no sample names do not move"
_TF, _TORCH = "trainbench.bench.peers.tensorflow_ncf", "trainbench.bench.peers.torch_ncf"


def rows() -> list[Row]:
    """Every row, in the order of the table."""
    geometries = (
        ("ml-1m 2,048", ML_1M, configs.reference()),
        ("ml-20m 2,048", ML_20M, configs.reference()),
        ("ml-20m 65,536", ML_20M, configs.mlperf()),
    )
    trained = [
        Row(f"train {name} {precision}", "samples/s", training_forms(config, geometry, precision))
        for name, geometry, config in geometries
        for precision in ("fp32", "bf16")
    ]
    evaluated = [
        Row(f"eval ml-20m {precision}", "pairs/s", evaluation_forms(precision))
        for precision in ("fp32", "bf16")
    ]
    return [*trained, *evaluated]


def training_forms(
    config: NcfConfig, geometry: tuple[int, int], precision: str, *, steps: int | None = None
) -> tuple[Form, ...]:
    """Ours and the others' training of ``config``; lazy ones where ours goes row by row."""
    config = replace(config, precision=precision, devices="cpu")
    steps = steps or max(2, SAMPLES_PER_TURN // config.batch_size)
    every = {"config": config, "geometry": geometry, "steps": steps}
    forms = [
        Form("ours", f"{_TF}:training", every),
        Form("plain TF, XLA", f"{_TF}:training", {**every, "form": "plain"}),
        Form("Keras fit", f"{_TF}:keras_training", every),
        *_torch_training(every, sparse=geometry == ML_20M),
    ]
    if precision == "bf16":
        single = replace(config, precision="fp32")
        forms.insert(1, Form("ours, fp32", f"{_TF}:training", {**every, "config": single}))
    if geometry == ML_20M:
        lazy = replace(config, optimizer="lazy_adam")
        forms.append(
            Form("ours, lazy_adam", f"{_TF}:training", {**every, "config": lazy}, other=LAZY)
        )
    return tuple(forms)


def _torch_training(every: dict[str, object], *, sparse: bool) -> list[Form]:
    make, torch = f"{_TORCH}:training", ("torch",)
    forms = [
        Form("PyTorch eager", make, every, torch),
        Form("PyTorch compiled", make, {**every, "compiled": True}, torch, compiles=True),
    ]
    if sparse:
        arguments = {**every, "compiled": True, "sparse": True}
        name = "PyTorch SparseAdam, compiled"
        forms.append(Form(name, make, arguments, torch, compiles=True, other=LAZY))
    return forms


def evaluation_forms(
    precision: str,
    geometry: tuple[int, int] = ML_20M,
    *,
    config: NcfConfig | None = None,
    users: int = EVALUATED_USERS,
) -> tuple[Form, ...]:
    """Ours and the others' scores of every candidate of ``users`` users."""
    config = replace(config or configs.reference(), precision=precision, devices="cpu")
    every = {"config": config, "geometry": geometry, "users": users}
    make, torch = f"{_TORCH}:evaluation", ("torch",)
    single = {**every, "config": replace(config, precision="fp32")}
    return (
        Form("ours", f"{_TF}:evaluation", every),
        *([Form("ours, fp32", f"{_TF}:evaluation", single)] if precision == "bf16" else []),
        # It has one form: scores in float32.
        Form("plain TF, XLA", f"{_TF}:evaluation", {**single, "form": "plain"}),
        Form("Keras predict", f"{_TF}:keras_evaluation", every),
        Form("PyTorch eager", make, every, torch),
        Form("PyTorch compiled", make, {**every, "compiled": True}, torch, compiles=True),
    )


def chosen(found: Sequence[Row], only: str) -> list[Row]:
    """The rows whose name contains ``only``."""
    return [row for row in found if only in row.name]
