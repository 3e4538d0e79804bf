"""One trial: from caches dropped to the quality target or the epoch cap.

The order is the rule's (docs/rules.md): the producer is alive, the page cache is dropped,
``run_clear_caches``, ``run_start``, the producer may touch data, and everything that depends on the
data or the model happens before ``run_stop``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trainbench
from trainbench.compliance.emit import emit, logging_to
from trainbench.compliance.tags import ncf as tags
from trainbench.distribution.cluster import Cluster
from trainbench.distribution.join import together
from trainbench.distribution.liveness import JOIN_TIMEOUT_S, Liveness, end_process
from trainbench.errors import MachineError
from trainbench.files import write_atomically, write_json
from trainbench.machine import page_cache, system
from trainbench.movielens.cache import RatingsCache, find_cache, open_cache
from trainbench.ncf.config import NcfConfig, from_json
from trainbench.ncf.devices import check_devices, join_workers
from trainbench.ncf.evaluate import Evaluation, Evaluator
from trainbench.ncf.input.epochs import hash_batches
from trainbench.ncf.input.producer import Producer, start_producer
from trainbench.ncf.replicas import Replicas
from trainbench.ncf.train import EpochTrain, StepProgress, Trainer, build, epoch_line
from trainbench.ncf.worker import caches_dropped, same_input, same_run
from trainbench.progress import duration, heartbeat, log_line
from trainbench.trials.clock import TrialClock
from trainbench.trials.paths import DataDir, RunDir, TrialDir
from trainbench.trials.status import (
    Notes,
    applying,
    code_notes,
    degraded_status,
    failed_status,
    write_status,
)

PACKAGE = Path(trainbench.__file__).parent


@dataclass(frozen=True)
class TrialSpec:
    """What one trial needs beside the run's config.json."""

    run: RunDir
    index: int
    seed: int
    data: DataDir
    drop_cache_location: str = page_cache.DROP_CACHES
    hash_pipeline: bool = False
    git: dict[str, Any] | None = None
    cluster: Cluster | None = None
    join_timeout_s: float = JOIN_TIMEOUT_S
    profile: Path | None = None


@dataclass(frozen=True)
class TrialStatus:
    """The content of status.json."""

    state: str
    exit_code: int
    message: str
    seed: int
    target_hit_rate: float
    precision: str
    device: str | None = None
    num_users: int | None = None
    num_items: int | None = None
    num_parameters: int | None = None
    initial_hit_rate: float | None = None
    best_hit_rate: float | None = None
    epochs: int = 0
    time_to_train_s: float | None = None
    degraded: tuple[dict[str, str], ...] = ()


def run_trial(spec: TrialSpec) -> TrialStatus:
    """Run one trial to its end and return its final status, which status.json repeats.

    Raises:
        TrainbenchError: the trial failed; status.json says how.
    """
    trial = spec.run.trial(spec.index)
    trial.root.mkdir(parents=True, exist_ok=True)
    config = from_json(spec.run.config.read_text())
    running = TrialStatus(
        "running", 1, "", spec.seed, config.target_hit_rate, precision=config.precision
    )
    write_status(running, trial.status)
    try:
        with logging_to(trial.compliance_raw, root_dir=PACKAGE):
            final = _Trial(spec, trial, config, running).run()
    except BaseException as error:
        write_status(failed_status(running, error), trial.status)
        raise
    write_status(final, trial.status)
    return final


class _Trial:
    """The stages of one trial, in the order in which they run."""

    def __init__(
        self, spec: TrialSpec, trial: TrialDir, config: NcfConfig, status: TrialStatus
    ) -> None:
        self.spec, self.trial, self.config, self.status = spec, trial, config, status
        self.clock = TrialClock(trial.phases)
        self.replicas: Replicas | None = None

    def run(self) -> TrialStatus:
        check_devices(self.config, self.spec.cluster)
        with self._joined():
            trainer, converged, seconds = self._run()
        with self.clock.phase("save_model"):
            trainer.save(self.trial.model)
        return self._final(converged, seconds)

    @contextlib.contextmanager
    def _joined(self) -> Iterator[None]:
        """The part of the trial that needs the other machines, where there are any."""
        spec = self.spec
        if spec.cluster is None:
            yield
            return
        watch = Liveness(
            spec.cluster, timeout_s=spec.join_timeout_s, option="--join-timeout-s", lost=self._lost
        )
        with self.clock.phase("join_workers"):
            self.replicas = join_workers(self.config, watch)
        with together(watch, self.replicas.meet):
            yield

    def _lost(self, error: MachineError) -> None:
        write_status(failed_status(self.status, error), self.trial.status)
        end_process(error)

    def _run(self) -> tuple[Trainer, bool, float]:
        cache = self._open_cache()
        with self.clock.phase("start_producer"):
            producer = start_producer(
                cache,
                self.config,
                seed=self.spec.seed,
                work_dir=self.spec.data.work,
                log_file=self.trial.generator_log,
                compliance_file=self.trial.compliance_generator,
            )
        with producer:
            self._drop_caches()
            self.clock.start()
            emit(tags.RUN_START)
            emit(tags.SEED, self.spec.seed)
            if self.replicas:
                # The others wait here, too, so that no producer reads before run_start.
                self.replicas.require_agreement(*same_run(self.config, self.spec.seed, cache))
            producer.release()
            trainer = self._build(cache)
            evaluator = self._build_evaluator(trainer, producer)
            converged = self._train_to_target(trainer, evaluator, producer)
            emit(tags.RUN_STOP, {"success": converged})
            seconds = self.clock.stop()
            emit(tags.RUN_FINAL)
        return trainer, converged, seconds

    def _open_cache(self) -> RatingsCache:
        folder = find_cache(self.config.split_spec, self.spec.data)
        shutil.copyfile(folder / "compliance_raw.log", self.trial.compliance_preprocess)
        # Headers only: the arrays are read after run_start, from a page cache that was dropped.
        return open_cache(folder, verify=False)

    def _drop_caches(self) -> None:
        with self.clock.phase("drop_caches"):
            drop = caches_dropped(self.config, self.spec.drop_cache_location, self.replicas)
            write_atomically(self.trial.cache_drop, drop.to_json())
            log_line(drop.sentence())
            if not drop.dropped:
                self._degrade(
                    "caches_not_dropped", f"the page cache was not dropped: {drop.reason}"
                )
        if drop.dropped:
            emit(tags.RUN_CLEAR_CACHES)

    def _degrade(self, code: str, text: str) -> None:
        emit(tags.DEGRADED, code)
        self.status = degraded_status(self.status, code, text)

    def _build(self, cache: RatingsCache) -> Trainer:
        config = self.config
        with self.clock.phase("build_model"):
            emit(tags.MODEL_HP_MF_DIM, config.mf_dim)
            emit(tags.MODEL_HP_MLP_LAYER_SIZES, list(config.mlp_layer_sizes))
            emit(tags.OPT_NAME, config.optimizer)
            emit(tags.OPT_LR, config.learning_rate)
            emit(tags.OPT_HP_ADAM_BETA1, config.beta1)
            emit(tags.OPT_HP_ADAM_BETA2, config.beta2)
            emit(tags.OPT_HP_ADAM_EPSILON, config.epsilon)
            emit(tags.MODEL_HP_LOSS_FN, tags.BCE)
            emit(tags.PRECISION, config.precision)
            size = (cache.num_users, cache.num_items)
            trainer = build(config, *size, seed=self.spec.seed, replicas=self.replicas)
        with self.clock.phase("compile"), heartbeat("compiling the training step"):
            trainer.warm_up()
        self.status = replace(
            self.status,
            device=trainer.device,
            num_users=cache.num_users,
            num_items=cache.num_items,
            num_parameters=trainer.geometry.num_parameters,
        )
        self._record_system(trainer.device, cache)
        return trainer

    def _record_system(self, device: str, cache: RatingsCache) -> None:
        manifest = _manifest(self.spec.run)
        found = system.record(git=self.spec.git, device=device)
        if self.spec.cluster:
            found["workers"] = self.spec.cluster.num_workers
        found["data"] = {
            "dataset": self.config.dataset,
            "ratings_sha256": manifest.get("ratings_sha256"),
            "cache": cache.folder.name,
            "test_set_sha256": cache.record["test_set_sha256"],
        }
        write_json(self.trial.system, found, sort_keys=False)
        for code, text in degradations(self.config, found, manifest):
            self._degrade(code, text)
        if self.spec.profile:
            self._degrade("profiled", f"some steps were traced into {self.spec.profile}")
        write_status(self.status, self.trial.status)
        log_line(
            f"{cache.num_users:,} users, {cache.num_items:,} items, "
            f"{self.status.num_parameters:,} parameters on {device}, {self.config.precision}"
        )

    def _build_evaluator(self, trainer: Trainer, producer: Producer) -> Evaluator:
        with self.clock.phase("wait_eval_candidates"), heartbeat("waiting for eval candidates"):
            candidates = producer.eval_candidates()
        with self.clock.phase("build_evaluator"):
            evaluator = Evaluator(trainer, candidates)
        if self.config.initial_eval:
            with self.clock.phase("initial_eval"), heartbeat("evaluating the untrained model"):
                untrained = evaluator.evaluate()
            log_line(f"untrained  hr@10 {untrained.hit_rate:.4f}")
            self.status = replace(self.status, initial_hit_rate=untrained.hit_rate)
        return evaluator

    def _train_to_target(self, trainer: Trainer, evaluator: Evaluator, producer: Producer) -> bool:
        emit(tags.TRAIN_LOOP)
        for epoch in range(self.config.max_epochs):
            emit(tags.TRAIN_EPOCH, epoch)
            with self.clock.phase("wait_input", epoch=epoch), heartbeat("waiting for input"):
                batches = producer.next_epoch()
            if self.spec.hash_pipeline:
                # From what was received, not from what the producer says it wrote.
                first_batch, all_batches = hash_batches(batches)
                print(f"epoch {epoch} first batch {first_batch}", flush=True)
                print(f"epoch {epoch} all batches {all_batches}", flush=True)
            if self.replicas:
                self.replicas.require_agreement(*same_input(batches))
            profile = self.spec.profile if epoch == 0 else None
            with self.clock.phase("train_epoch", epoch=epoch):
                steps = StepProgress(epoch, producer)
                trained = trainer.train_epoch(batches, on_progress=steps, profile=profile)
            evaluation = self._evaluate(evaluator, producer, epoch)
            self._record_epoch(batches, trained, evaluation)
            if evaluation.hit_rate >= self.config.target_hit_rate:
                return True
        return False

    def _evaluate(self, evaluator: Evaluator, producer: Producer, epoch: int) -> Evaluation:
        config = self.config
        emit(tags.EVAL_START, epoch)
        with self.clock.phase("eval", epoch=epoch), heartbeat("evaluating"):
            evaluation = evaluator.evaluate(on_progress=lambda done, total: producer.check())
        emit(tags.EVAL_TARGET, {"epoch": epoch, "value": config.target_hit_rate})
        emit(tags.EVAL_ACCURACY, {"epoch": epoch, "value": evaluation.hit_rate})
        emit(tags.EVAL_HITS, {"epoch": epoch, "value": evaluation.hits})
        emit(tags.EVAL_HP_NUM_NEG, {"epoch": epoch, "value": config.eval_negatives})
        # The producer counts the users it drew candidates for; stitch fills the number in.
        emit(tags.EVAL_HP_NUM_USERS, deferred=True)
        emit(tags.EVAL_STOP, epoch)
        return evaluation

    def _record_epoch(self, batches: Any, trained: EpochTrain, evaluation: Evaluation) -> None:
        line = {
            "epoch": batches.epoch,
            "mean_loss": trained.mean_loss,
            "hit_rate": evaluation.hit_rate,
            "ndcg": evaluation.ndcg,
            "hits": evaluation.hits,
            "users": evaluation.users,
            "samples": trained.samples,
            "train_s": trained.seconds,
            "eval_s": evaluation.seconds,
            "input_wait_s": batches.wait_s,
            "samples_per_s": trained.samples / trained.seconds,
            "eval_pairs_per_s": evaluation.pairs / evaluation.seconds,
            "epoch_sha256": batches.epoch_sha256,
            "first_batch_sha256": batches.first_batch_sha256,
            "elapsed_s": self.clock.elapsed_s,
            "end_unix_s": time.time(),
        }
        with open(self.trial.epochs, "a") as out:
            out.write(json.dumps(line) + "\n")
        best = max(evaluation.hit_rate, self.status.best_hit_rate or 0.0)
        self.status = replace(self.status, epochs=batches.epoch + 1, best_hit_rate=best)
        write_status(self.status, self.trial.status)
        log_line(epoch_line(line, self.config))

    def _final(self, converged: bool, seconds: float) -> TrialStatus:
        best, target = self.status.best_hit_rate or 0.0, self.config.target_hit_rate
        if converged:
            text = f"target {target} reached in {duration(seconds)}, {self.status.epochs} epochs"
        else:
            text = f"best hr@10 {best:.4f} stayed below the target {target} for all epochs"
        log_line(f"trial {self.spec.index}: {text}")
        return replace(
            self.status,
            state="converged" if converged else "not_converged",
            exit_code=0 if converged else 4,
            message=text,
            time_to_train_s=seconds if converged else None,
        )


def degradations(
    config: NcfConfig, machine: dict[str, Any], manifest: dict[str, Any]
) -> list[tuple[str, str]]:
    """Why a result is less than the benchmark's own, as (code, sentence); empty when it is not."""
    on_cpu = "CPU" in (machine.get("device") or "CPU")
    notes: Notes = [
        ("no_gpu", "trained on a CPU, not on a GPU", on_cpu),
        ("generated_data", "the ratings are generated, not MovieLens", manifest.get("generated")),
        ("other_task", _other_task(config), _other_task(config)),
        (
            "not_published_archive",
            "the archive differs from the published one (its checksum was stated by the user)",
            not manifest.get("generated") and not manifest.get("published"),
        ),
        *code_notes(config.division, machine),
    ]
    return applying(notes)


def _other_task(config: NcfConfig) -> str:
    if config.dataset == "ml-20m" and config.target_hit_rate == 0.635:
        return ""
    return (
        f"not the MLPerf task (ml-20m to HR@10 0.635) but {config.dataset} "
        f"to {config.target_hit_rate}"
    )


def _manifest(run: RunDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.manifest.read_text()) if run.manifest.exists() else {}
    return found
