"""The rows of ``bench ncf --peers``: every geometry, in float32 and bfloat16, and evaluation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainbench.bench.peers.rounds import Form, Row
from trainbench.machine import allotment
from trainbench.ncf import config as configs
from trainbench.ncf.config import Lanes, NcfConfig

ML_1M, ML_20M = (6_040, 3_706), (138_493, 26_744)
SAMPLES_PER_TURN = 65_536
EVALUATED_USERS, LARGEST_CHUNK = 2_048, 8_192
SAMPLE_BY_SAMPLE = "other mathematics: of samples of one row, it adds up their squares"
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
        Row(
            f"train {name} {precision}",
            "samples/s",
            training_forms(config, geometry, precision),
            bf16=precision == "bf16",
        )
        for name, geometry, config in geometries
        for precision in ("fp32", "bf16")
    ]
    evaluated = [
        Row(
            f"eval ml-20m {precision}",
            "pairs/s",
            evaluation_forms(precision),
            bf16=precision == "bf16",
        )
        for precision in ("fp32", "bf16")
    ]
    return [*trained, *evaluated]


def training_forms(
    config: NcfConfig, geometry: tuple[int, int], precision: str, *, steps: int | None = None
) -> tuple[Form, ...]:
    """Ours and the others' training of ``config``; lazy ones where ours goes row by row."""
    config = replace(config, precision=precision, devices="cpu", lanes=None)
    steps = steps or max(2, SAMPLES_PER_TURN // config.batch_size)
    every = {"config": config, "geometry": geometry, "steps": steps}
    make, row_by_row = f"{_TF}:training", geometry == ML_20M
    forms = [Form("ours", make, every, own=True), *_in_lanes(make, every)]
    if precision == "bf16":
        single = {**every, "config": replace(config, precision="fp32")}
        forms.append(Form("ours, fp32", make, single, other="float32"))
    else:
        forms.append(Form("plain TF, XLA", make, {**every, "form": "plain"}))
    forms.append(Form("Keras fit", f"{_TF}:keras_training", every, other=SAMPLE_BY_SAMPLE))
    forms += _torch_training(every, sparse=row_by_row)
    if row_by_row:
        lazy = {**every, "config": replace(config, optimizer="lazy_adam")}
        forms.append(Form("ours, lazy_adam", make, lazy, other=LAZY))
    return tuple(forms)


def _in_lanes(make: str, every: dict[str, Any]) -> list[Form]:
    """Ours in lanes of one thread; in bfloat16 of a thread per CPU too."""
    config: NcfConfig = every["config"]
    chunk = min(LARGEST_CHUNK, config.batch_size // 2)
    threads = {1, allotment.cpus()} if config.precision == "bf16" else {1}
    lanes = [Lanes(chunk, number) for number in sorted(threads)]
    return [
        Form(
            f"ours, lanes={one.chunk}x{one.threads}",
            make,
            {**every, "config": replace(config, lanes=one)},
            own=True,
        )
        for one in lanes
    ]


def _torch_training(every: dict[str, Any], *, sparse: bool) -> list[Form]:
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
    config = config or configs.reference()
    config = replace(config, precision=precision, devices="cpu", lanes=None)
    every = {"config": config, "geometry": geometry, "users": users}
    make, torch = f"{_TORCH}:evaluation", ("torch",)
    single = {**every, "config": replace(config, precision="fp32")}
    own = [Form("ours", f"{_TF}:evaluation", every, own=True)]
    if precision == "bf16":
        # float32 is evaluated without lanes.
        own += _in_lanes(f"{_TF}:evaluation", every)
        own.append(Form("ours, fp32", f"{_TF}:evaluation", single, other="float32"))
    return (
        *own,
        # It has one form: scores in float32.
        Form("plain TF, XLA", f"{_TF}:evaluation", {**single, "form": "plain"}),
        Form("Keras predict", f"{_TF}:keras_evaluation", every),
        Form("PyTorch eager", make, every, torch),
        Form("PyTorch compiled", make, {**every, "compiled": True}, torch, compiles=True),
    )
