"""One trial: caches dropped, clock started, trained to its target, everything recorded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainbench.cnn.benchmark import BenchmarkCNN
from trainbench.cnn.flags.params import Params, make_params
from trainbench.cnn.input import datasets
from trainbench.compliance.emit import emit
from trainbench.compliance.outcome import outcome
from trainbench.compliance.parse import read_log
from trainbench.compliance.recorder import Recorder
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.tags import resnet as resnet_tags
from trainbench.errors import ConfigError
from trainbench.files import read_object
from trainbench.image_classification import convert, dataset
from trainbench.image_classification.config import ImagesConfig, from_json
from trainbench.image_classification.live import Live
from trainbench.machine import page_cache, system
from trainbench.progress import duration, log_line
from trainbench.trials.live import Writer
from trainbench.trials.paths import TrialDir
from trainbench.trials.spec import TrialSpec
from trainbench.trials.status import Notes, code_notes, degraded_status

# TensorFlow's seeds are 32-bit numbers.
_SEED_MODULUS = 2**31
LATE = ("collapsed", "easy_task")
"""Degradations that only the evaluations show."""


@dataclass(frozen=True)
class TrialStatus:
    """The content of status.json; docs/outputs.md describes each field."""

    state: str
    exit_code: int
    message: str
    seed: int
    target_top_1: float
    model: str
    precision: str
    device: str | None = None
    num_parameters: int | None = None
    best_top_1: float | None = None
    evaluations: int = 0
    images_per_s: float | None = None
    time_to_train_s: float | None = None
    degraded: tuple[dict[str, str], ...] = ()


def run_trial(spec: TrialSpec) -> TrialStatus:
    """Run one trial to its end and return its final status, which status.json repeats.

    Raises:
        TrainbenchError: the trial failed; status.json says how.
    """
    config = from_json(spec.run_dir.config.read_bytes())
    status = TrialStatus(
        "running", 1, "", spec.seed, config.target_top_1, config.model, config.precision
    )
    trial = _Trial(spec, config, status)
    names = {"benchmark": resnet_tags.BENCHMARK, "raw_prefix": resnet_tags.RAW_PREFIX}
    status = trial.record(trial.run, **names)
    log_line(f"trial {spec.index}: {status.message}")
    return status


class _Trial(Recorder):
    """The stages of one trial, in the order in which they run."""

    def __init__(self, spec: TrialSpec, config: ImagesConfig, status: TrialStatus) -> None:
        super().__init__(spec, status)
        self.config = config
        self.live = Live(Writer(self.trial.progress), config)

    def run(self) -> TrialStatus:
        folder = convert.find(self.config, self.spec.data_dir)
        params = params_of(self.config, self.spec.seed, self.trial.result)
        check_target(folder, self.config)
        self.live.phase("drop_caches")
        with self.clock.phase("drop_caches"):
            location = self.spec.drop_cache_location
            self.caches_dropped(page_cache.drop_if(self.config.drop_caches, location))
        self.clock.start()
        self.live.phase("open_input")
        with self.clock.phase("open_input"):
            benchmark = self._benchmark(folder, params)
            benchmark.start()
        emit(tags.SEED, self.spec.seed)
        emit(tags.PRECISION, self.config.precision)
        self._record_system(benchmark, folder)
        self.live.begins(benchmark.plan, benchmark.dataset.num_examples_per_epoch)
        with self.clock.phase("train_and_evaluate"):
            benchmark.print_info()
            stats = benchmark.run()
        self.clock.stop()
        for note in _notes_of(self.trial.result, LATE):
            self.status = degraded_status(self.status, note["code"], note["text"])
        parameters = benchmark.session.network.model.count_params()
        speed = stats["images_per_sec"]
        return _final(
            replace(self.status, num_parameters=parameters, images_per_s=speed), self.trial
        )

    def _benchmark(self, folder: Path, params: Params) -> BenchmarkCNN:
        model = dataset.model(self.config.model, self.config.dataset)
        images = dataset.opened(folder, model.image_size)
        return BenchmarkCNN(params, dataset=images, model=model, follower=self.live)

    def _record_system(self, benchmark: BenchmarkCNN, folder: Path) -> None:
        device = ",".join(benchmark.printed_devices)
        found = system.record(git=self.spec.git, device=device, images=self.spec.images)
        record = convert.read_record(folder)
        found["data"] = {"dataset": self.config.dataset, "cache": folder.name, **record["counts"]}
        self.status = replace(self.status, device=device)
        partial = datasets.partial(self.config.dataset, record["counts"])
        self.record_system(found, degradations(self.config, found, partial))


def params_of(config: ImagesConfig, seed: int, result_json: Path) -> Params:
    """The flags of the harness that ``config`` means; nothing is off the clock."""
    return make_params(
        model=config.model if config.dataset == "imagenet" else "trivial",
        device=_device(config),
        num_gpus=config.num_gpus,
        variable_update="replicated" if config.num_gpus > 1 else "parameter_server",
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        num_epochs=config.max_epochs,
        num_warmup_batches=0,
        num_eval_epochs=1,
        eval_during_training_every_n_epochs=config.eval_every_epochs,
        stop_at_top_1_accuracy=config.target_top_1,
        optimizer=config.optimizer,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        init_learning_rate=config.learning_rate,
        learning_rate_decay="polynomial",
        end_learning_rate=config.end_learning_rate,
        num_learning_rate_warmup_epochs=config.warmup_epochs,
        distortions=config.distortions,
        ml_perf=config.dataset == "imagenet",
        use_fp16=config.precision == "fp16",
        use_bf16=config.precision == "bf16",
        tf_random_seed=seed % _SEED_MODULUS,
        result_json=str(result_json),
        display_every=20,
    )


def check_target(folder: Path, config: ImagesConfig) -> None:
    """Look whether the target says anything of a network, where the labels are in the cache.

    Raises:
        ConfigError: one answer for all images reaches it.
    """
    images = dataset.opened(folder, dataset.SIDE)
    if not isinstance(images, dataset.Cached):
        return
    share = images.constant_top_1()
    if config.target_top_1 <= share:
        raise ConfigError(
            f"target_top_1={config.target_top_1}: one answer for all validation images gets "
            f"{share:.4f}; wanted a target above it"
        )


def degradations(config: ImagesConfig, machine: dict[str, Any], partial: str | None) -> Notes:
    """Why a result may be less than the benchmark's own; ``partial`` is what its data lack."""
    official = config.dataset == "imagenet" and config.model == "resnet50_v1.5"
    task = f"not the MLPerf task (ResNet-50 v1.5 on ImageNet) but {config.model} on "
    return [
        ("no_gpu", "trained on a CPU, not on a GPU", "gpu" not in str(machine.get("device"))),
        ("generated_data", "the images are drawn here", config.dataset == "generated"),
        ("other_task", f"{task}{config.dataset}", not official),
        ("partial_data", partial or "", partial),
        *code_notes(config.division, machine),
    ]


def _notes_of(result: Path, codes: Collection[str]) -> list[dict[str, str]]:
    return [note for note in read_object(result)["degraded"] if note["code"] in codes]


def _device(config: ImagesConfig) -> str:
    if config.device == "auto":
        return "gpu" if system.nvidia_gpus() else "cpu"
    return config.device


def _final(status: TrialStatus, trial: TrialDir) -> TrialStatus:
    """``status`` with the outcome that the trial's own log tells."""
    told = outcome(read_log(trial.compliance_raw).events)
    best = told.best or 0.0
    if told.converged:
        seconds = told.time_s or 0.0
        text = f"target {status.target_top_1} reached in {duration(seconds)}: top-1 {best:.4f}"
    else:
        text = f"best top-1 {best:.4f} stayed below the target {status.target_top_1}"
    return replace(
        status,
        state="converged" if told.converged else "not_converged",
        exit_code=0 if told.converged else 4,
        message=text,
        best_top_1=best,
        evaluations=told.epochs,
        time_to_train_s=told.time_s if told.converged else None,
    )
