"""NCF on MovieLens as a benchmark: the record from which everything else works."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainbench.benchmark import Benchmark, Option, Quality, Repeated, RunRule
from trainbench.compliance.tags import ncf as tags
from trainbench.distribution.liveness import JOIN_TIMEOUT_S
from trainbench.machine.system import nvidia_gpus
from trainbench.movielens.own.options import DUPLICATES, FORMATS, HELD_OUT, NAME
from trainbench.ncf import config
from trainbench.ncf.config import CHOICES, NcfConfig, is_own, task_of
from trainbench.ncf.input.former import FORMER
from trainbench.ncf.input.workdir import COME_WITHIN_S

_TRAIN = ("train", "pipeline")
_EVERY = ("download", "preprocess", "train", "pipeline", "evaluate")
_DATA = ("download", "pipeline")


def _default_preset(options: Mapping[str, Any]) -> str:
    if options.get("dataset") or options.get("ratings"):
        return config.preset_of(options.get("dataset") or NAME)
    return "mlperf" if nvidia_gpus() else "quick"


def _choice(field: str, help: str, steps: tuple[str, ...] = _TRAIN) -> Option:
    return Option(field, steps, help, choices=CHOICES[field], field=field)


def _ratings(name: str, help: str, **more: Any) -> Option:
    envvar = "RATINGS" if name == "ratings" else f"RATINGS_{name.upper()}"
    return Option(name, _DATA, help, envvar=envvar, of_source=True, **more)


_RATINGS = (
    _ratings(
        "ratings",
        "Your own ratings: this file becomes the dataset (docs/own_ratings.md).",
        implies=(f"dataset={NAME}",),
    ),
    _ratings("format", "Format of --ratings. Default: by its name.", choices=FORMATS),
    _ratings(
        "columns",
        "user=COLUMN,item=COLUMN[,time=COLUMN][,rating=COLUMN] of --ratings. Default: by the "
        "usual names.",
    ),
    _ratings(
        "header",
        "Whether --ratings has a header; without, columns are positions from 1.",
        declarations=("--header/--no-header",),
        kind=bool,
        default=True,
    ),
    _ratings(
        "duplicates",
        "A pair of user and item in several rows: refuse the file, or keep this row.",
        choices=DUPLICATES,
        default="refuse",
    ),
    _ratings("positive_from", "Only ratings from this number on count. Default: all count."),
    _ratings(
        "held_out",
        "Held out of each user: the latest item by time, the last in the file, or one at random. "
        "Default: latest if there is a column of times, else last.",
        choices=HELD_OUT,
    ),
    _ratings("held_out_seed", "Seed of --held-out random.", kind=int, default=0),
)

_OPTIONS = (
    Option(
        "dataset",
        _EVERY,
        "Use this dataset instead of the preset's; a name for your own (download --ratings).",
        field="dataset",
        envvar="DATASET",
    ),
    *_RATINGS,
    Option(
        "expand",
        _EVERY,
        "Expand the dataset fractally: USERSxITEMS[xSEED] times, 16x32 for MLPerf's factor "
        "(docs/big_data.md).",
        field="expand",
        envvar="EXPAND",
    ),
    _choice("tie_break", "Order of a user's ratings of one second.", ("preprocess", *_TRAIN)),
    _choice("devices", "Train on one device of this kind, or on all."),
    _choice("precision", "Number format of the dense layers."),
    _choice("optimizer", "Adam on all rows, or lazily on those of the batch."),
    _choice("division", "Closed fixes what the rules fix; open says so in the log."),
    Option(
        "xla",
        _TRAIN,
        "Compile the step with XLA, or run it op by op. Default: compile.",
        ("--xla/--no-xla", "--use_xla_for_gpu/--nouse_xla_for_gpu"),
        kind=bool,
        field="xla",
    ),
    Option(
        "deterministic",
        _TRAIN,
        "Bit-equal repeats.",
        ("--deterministic/--no-deterministic",),
        kind=bool,
        field="deterministic",
    ),
    Option("tpu", _TRAIN, "Train on the TPU of this name (untested).", field="tpu"),
    Option("hash_pipeline", _TRAIN, "Print each epoch's input hashes.", kind=bool, default=False),
    Option(
        "profile",
        _TRAIN,
        "Trace some steps of the first epoch into this folder, for TensorBoard.",
        kind=Path,
    ),
    Option(
        "tf_config",
        _TRAIN,
        "JSON that names the machines of the run (docs/multi_machine.md).",
        envvar="TF_CONFIG",
    ),
    Option(
        "slurm",
        _TRAIN,
        "The tasks of a Slurm step (srun -N2) train one model together, or each for itself.",
        ("--slurm/--no-slurm",),
        kind=bool,
        default=True,
        envvar="TRAINBENCH_SLURM",
    ),
    Option(
        "join_timeout_s",
        _TRAIN,
        "Seconds to wait for the other machines of the run.",
        kind=float,
        default=JOIN_TIMEOUT_S,
    ),
    Option(
        "generator_timeout_s",
        _TRAIN,
        "Seconds to wait for a generator that is started by hand (generator=external).",
        kind=float,
        default=COME_WITHIN_S,
    ),
)

NCF = Benchmark(
    name=tags.BENCHMARK,
    command="",
    title="NeuMF",
    config=NcfConfig,
    presets=config.PRESETS,
    with_settings=config.with_settings,
    from_json=config.from_json,
    default_preset=_default_preset,
    default_preset_help="mlperf with a usable GPU, else quick",
    reference="reference",
    task=lambda config: task_of(config.dataset, config.expand),
    label=lambda config: f"own-{config.dataset}" if is_own(config.dataset) else config.preset,
    quality=Quality("HR@10", best="best_hit_rate", target="target_hit_rate"),
    run_rule=RunRule(runs=100, counted=50),
    gpu_setting="devices=gpu",
    download="trainbench.ncf.steps:download",
    verify="trainbench.ncf.steps:verify",
    prepare_step="preprocess",
    prepare="trainbench.ncf.steps:prepare",
    inputs="trainbench.ncf.steps:inputs",
    check_set="trainbench.ncf.steps:check_set",
    choose="trainbench.ncf.lanes.choice:choose",
    work="trainbench.ncf.steps:work",
    generate="trainbench.ncf.input.external:serve",
    trial="trainbench.ncf.trial:run_trial",
    strict_rules="trainbench.compliance.rules.strict:STRICT",
    options=_OPTIONS,
    report="trainbench.ncf.report:NCF",
    prove="trainbench.ncf.proof.prove:prove",
    extras={"train": ("tensorflow",)},
    former=FORMER,
    repeated=Repeated(
        inputs=("candidates_sha256", "first_batch_sha256", "epoch_sha256"),
        results=("hits", "mean_loss", "ndcg"),
        share=("hits", "users"),
    ),
)
