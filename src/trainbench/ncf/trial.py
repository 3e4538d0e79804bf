"""One trial on the machine that records it: the course of training, logged, timed and judged.

``run_clear_caches`` is logged before ``run_start``, and everything that depends on the data or the
model happens between ``run_start`` and ``run_stop`` (docs/rules.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainbench.compliance.emit import emit
from trainbench.compliance.recorder import Recorder
from trainbench.compliance.tags import ncf as tags
from trainbench.distribution.join import together
from trainbench.distribution.liveness import Liveness, end_process
from trainbench.errors import MachineError
from trainbench.files import append_line, object_or_empty
from trainbench.machine import system
from trainbench.movielens.cache import RatingsCache, find_cache, open_cache
from trainbench.ncf.config import TOP, NcfConfig, from_json
from trainbench.ncf.degradations import data_degradations, degradations
from trainbench.ncf.devices import check_devices, join_workers
from trainbench.ncf.evaluation.evaluator import Evaluation
from trainbench.ncf.evaluation.rivals import Rivals
from trainbench.ncf.input.producer import EvalCandidates, start_producer
from trainbench.ncf.input.stream.pieces import BatchHashes, EpochData, SliceHashes, epoch_hashes
from trainbench.ncf.input.stream.slices import SLICES
from trainbench.ncf.lanes.choice import chosen
from trainbench.ncf.loop import Course, Observer, agreed_seed
from trainbench.ncf.replicas import Replicas
from trainbench.ncf.roofline.record import SeenSteps, write_limits
from trainbench.ncf.sharded.agreement import slices_of
from trainbench.ncf.sharded.traffic import traffic_line
from trainbench.ncf.steps import Options
from trainbench.ncf.train import EpochTrain, Trainer, epoch_line
from trainbench.ncf.weights import save_ranks, save_weights
from trainbench.progress import duration, log_line
from trainbench.trials.live import Writer
from trainbench.trials.paths import DataDir
from trainbench.trials.spec import TrialSpec
from trainbench.trials.status import failed_status, write_status


@dataclass(frozen=True)
class TrialStatus:
    """The content of status.json."""

    state: str
    exit_code: int
    message: str
    seed: int
    target_hit_rate: float | None
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
    config = chosen(from_json(spec.run_dir.config.read_bytes()), spec.choice)
    target = config.target_hit_rate
    running = TrialStatus("running", 1, "", spec.seed, target, precision=config.precision)
    recorder = _Recorder(spec, config, running)
    return recorder.record(lambda: _run(recorder))


def run_worker(arguments: Mapping[str, Any]) -> int:
    """Work for the chief until the trial ends; nothing is written but a log.

    Args:
        arguments: of ``steps.work``: config (as JSON), data, seed, log_file,
            drop_cache_location, options.

    Raises:
        MachineError: another worker is gone, or the workers differ in what they train on.
    """
    # Of several machines none trains in lanes, so nothing was chosen.
    config, options = chosen(from_json(arguments["config"]), {}), Options(**arguments["options"])
    data, cluster = DataDir(Path(arguments["data"])), options.cluster
    assert cluster is not None, "a worker is one of several"
    check_devices(config, cluster)
    watch = Liveness(cluster, timeout_s=options.join_timeout_s, option="--join-timeout-s")
    replicas = join_workers(config, watch)
    cache = open_cache(find_cache(config.split_spec, data), verify=False)
    with tempfile.TemporaryDirectory() as scratch, together(watch, replicas.meet):
        given = arguments["seed"]
        seed = agreed_seed(None if given is None else int(given), replicas)
        producer = start_producer(
            cache,
            config,
            seed=seed,
            work_dir=data.work,
            log_file=Path(arguments["log_file"]),
            compliance_file=Path(scratch) / "compliance.log",
            slices=slices_of(config, cluster),
        )
        with producer:
            trainer, _ = Course(
                config=config,
                seed=seed,
                cache=cache,
                producer=producer,
                replicas=replicas,
                observer=Observer(),
                drop_cache_location=arguments["drop_cache_location"],
            ).run()
            trainer.lend()
    return 0


def _run(recorder: _Recorder) -> TrialStatus:
    spec, config, trial = recorder.spec, recorder.config, recorder.trial
    check_devices(config, recorder.options.cluster)
    with _joined(recorder) as replicas:
        cache = recorder.open_cache()
        with recorder.phase("start_producer"):
            producer = start_producer(
                cache,
                config,
                seed=spec.seed,
                work_dir=spec.data_dir.work,
                log_file=trial.generator_log,
                compliance_file=trial.compliance_generator,
                come_within_s=recorder.options.generator_timeout_s,
                slices=slices_of(config, recorder.options.cluster),
            )
        recorder.elsewhere = producer.elsewhere
        with producer:
            course = Course(
                config=config,
                seed=spec.seed,
                cache=cache,
                producer=producer,
                replicas=replicas,
                observer=recorder,
                drop_cache_location=spec.drop_cache_location,
                profile=recorder.options.profile,
            )
            trainer, converged = course.run()
            seconds = recorder.stops(converged)
            # While the other machines are there: each may have rows that it alone has.
            weights = trainer.weights()
    with recorder.phase("save_model"):
        save_weights(trial.model, trainer.geometry, weights)
        save_ranks(trial.model, recorder.ranks)
    with recorder.phase("measure_limits"):
        write_limits(trial.limits, trainer, recorder.seen)
    return recorder.final(converged, seconds)


@contextlib.contextmanager
def _joined(recorder: _Recorder) -> Iterator[Replicas | None]:
    """The part of the trial that needs the other machines, where there are any."""
    options = recorder.options
    if options.cluster is None:
        yield None
        return
    watch = Liveness(
        options.cluster,
        timeout_s=options.join_timeout_s,
        option="--join-timeout-s",
        lost=recorder.lost,
    )
    with recorder.phase("join_workers"):
        replicas = join_workers(recorder.config, watch)
    with together(watch, replicas.meet):
        agreed_seed(recorder.spec.seed, replicas)
        yield replicas


class _Recorder(Recorder, Observer):
    """Logs, times and records a trial."""

    def __init__(self, spec: TrialSpec, config: NcfConfig, status: TrialStatus) -> None:
        super().__init__(spec, status)
        self.options, self.config = Options(**spec.options), config
        self._cache: RatingsCache | None = None
        self.seen: SeenSteps | None = None
        self.ranks = np.empty(0, np.int64)
        self._candidates_sha256, self.elsewhere = "", False
        self._live, self._epoch_s = Writer(self.trial.progress), 0.0
        self._live.tell(epochs=config.max_epochs, name="HR@10", target=config.target_hit_rate)
        self._received: SliceHashes | BatchHashes | None = None

    def open_cache(self) -> RatingsCache:
        """The cache, of which nothing but headers is read before ``run_start``."""
        folder = find_cache(self.config.split_spec, self.spec.data_dir)
        shutil.copyfile(folder / "compliance_raw.log", self.trial.compliance_preprocess)
        self._cache = open_cache(folder, verify=False)
        return self._cache

    def lost(self, error: MachineError) -> None:
        """End this process, because another one is gone."""
        write_status(failed_status(self.status, error), self.trial.status)
        end_process(error)

    def phase(
        self, name: str, *, epoch: int | None = None, beside_s: float | None = None
    ) -> AbstractContextManager[Any]:
        self._live.tell(phase=name, epoch=None if epoch is None else epoch + 1)
        return self.clock.phase(name, epoch=epoch, beside_s=beside_s)

    def progressed(self, done: int, total: int, rate_per_s: float) -> None:
        after = max(0, self.config.max_epochs - self.status.epochs - 1)
        rate = max(rate_per_s, 1e-9)
        eta_s = (total - done) / rate + after * (self._epoch_s or total / rate)
        self._live.tell(done=done, total=total, rate_per_s=rate_per_s, eta_s=eta_s)

    def starts(self) -> None:
        self.clock.start()
        emit(tags.RUN_START)
        emit(tags.SEED, self.spec.seed)

    def builds(self) -> None:
        config = self.config
        emit(tags.MODEL_HP_MF_DIM, config.mf_dim)
        emit(tags.MODEL_HP_MLP_LAYER_SIZES, list(config.mlp_layer_sizes))
        emit(tags.OPT_NAME, config.optimizer)
        emit(tags.OPT_LR, config.learning_rate)
        emit(tags.OPT_HP_ADAM_BETA1, config.beta1)
        emit(tags.OPT_HP_ADAM_BETA2, config.beta2)
        emit(tags.OPT_HP_ADAM_EPSILON, config.epsilon)
        emit(tags.MODEL_HP_LOSS_FN, tags.BCE)
        emit(tags.PRECISION, config.precision)

    def built(self, trainer: Trainer) -> None:
        cache = self._cache
        assert cache is not None, "open_cache comes first"
        self.status = replace(
            self.status,
            device=trainer.device,
            num_users=cache.num_users,
            num_items=cache.num_items,
            num_parameters=trainer.geometry.num_parameters,
        )
        self._record_machine(trainer.device, cache)

    def _record_machine(self, device: str, cache: RatingsCache) -> None:
        manifest = object_or_empty(self.spec.run_dir.manifest)
        found = system.record(git=self.spec.git, device=device, images=self.spec.images)
        if self.options.cluster:
            found["workers"] = self.options.cluster.num_workers
        if self.elsewhere:
            found["generator_elsewhere"] = True
        found["data"] = {
            "dataset": self.config.split_spec.raw,
            "ratings_sha256": manifest.get("ratings_sha256"),
            "cache": cache.folder.name,
            "test_set_sha256": cache.record["test_set_sha256"],
        }
        notes = degradations(self.config, found, manifest)
        notes += data_degradations(self.config, cache.record)
        profile = self.options.profile
        notes.append(("profiled", f"some steps were traced into {profile}", profile))
        self.record_system(found, notes)
        log_line(
            f"{cache.num_users:,} users, {cache.num_items:,} items, "
            f"{self.status.num_parameters:,} parameters on {device}, {self.config.precision}"
            f", lanes={str(self.config.lanes).lower()}"
        )

    def candidates_arrived(self, candidates: EvalCandidates, rivals: Rivals) -> None:
        self._candidates_sha256 = candidates.sha256
        if self.options.hash_pipeline:
            users = self.config.eval_users_per_batch
            first = hashlib.sha256(candidates.items[:users].data).hexdigest()
            every = hashlib.sha256(candidates.items.data).hexdigest()
            self._hashes("eval candidates", -(-len(candidates.items) // users), first, every)
        if rivals.sure_hits:
            self.degrade(
                "sure_hits",
                f"{rivals.sure_hits:,} of {len(rivals.count):,} users have at most {TOP} "
                "different candidates, so their item cannot be missed",
            )

    def untrained(self, evaluation: Evaluation) -> None:
        log_line(f"untrained  hr@10 {evaluation.hit_rate:.4f} of {evaluation.users:,} users")
        if evaluation.users == self.status.num_users:
            self.status = replace(self.status, initial_hit_rate=evaluation.hit_rate)

    def trains(self) -> None:
        emit(tags.TRAIN_LOOP)

    def epoch_begins(self, epoch: int) -> None:
        emit(tags.TRAIN_EPOCH, epoch)

    def input_arrived(self, batches: EpochData) -> None:
        if self.options.hash_pipeline:
            # From what was received, not from what the producer says it wrote.
            if batches.record.piece == 0:
                size = batches.record.batch_size
                of = self.config.stream_format, size, batches.slices
                self._received = epoch_hashes(*of)
            assert self._received
            self._received.take(batches.arrays)
            if batches.is_last:
                name = f"epoch {batches.epoch + 1}/{self.config.max_epochs}"
                name += f" (train_epoch {batches.epoch})"
                own = batches.slices
                if len(own) < SLICES:
                    name += f", slices {own.start} to {own.stop - 1} of {SLICES}"
                first, every = self._received.first_batch_sha256, self._received.hexdigest()
                self._hashes(name, batches.record.steps, first, every)

    @staticmethod
    def _hashes(of: str, batches: int, first: str, every: str) -> None:
        """Print SHA-256 of what was received, in lines that scripts search for."""
        for said in (
            f"Batch count: {batches}",
            f"First batch hash: {first}",
            f"All batches hash: {every}",
        ):
            print(f"{of}  [pipeline_hash] {said}", flush=True)

    def evaluates(self, epoch: int) -> None:
        emit(tags.EVAL_START, epoch)

    def evaluated(self, epoch: int, evaluation: Evaluation) -> None:
        config, self.ranks = self.config, evaluation.ranks
        emit(tags.EVAL_TARGET, {"epoch": epoch, "value": config.target_hit_rate})
        emit(tags.EVAL_ACCURACY, {"epoch": epoch, "value": evaluation.hit_rate})
        emit(tags.EVAL_HITS, {"epoch": epoch, "value": evaluation.hits})
        emit(tags.EVAL_HP_NUM_NEG, {"epoch": epoch, "value": config.eval_negatives})
        # The producer counts the users it drew candidates for; stitch fills the number in.
        emit(tags.EVAL_HP_NUM_USERS, deferred=True)
        emit(tags.EVAL_STOP, epoch)

    def epoch_done(
        self, batches: EpochData, trained: EpochTrain, evaluation: Evaluation | None
    ) -> None:
        self.seen = self.seen or SeenSteps.of(batches)
        # A repeat fills the last batch; it is no sample that was trained on.
        record = batches.record
        samples = record.num_samples - record.num_repeated
        line = {
            "epoch": batches.epoch,
            "mean_loss": trained.mean_loss,
            **_evaluated(evaluation),
            "samples": samples,
            "repeated_samples": record.num_repeated,
            "train_s": trained.seconds,
            "input_wait_s": batches.wait_s,
            "samples_per_s": samples / trained.seconds,
            "candidates_sha256": self._candidates_sha256,
            "epoch_sha256": record.epoch_sha256,
            "first_batch_sha256": record.first_batch_sha256,
            "traffic": trained.traffic.record() if trained.traffic else None,
            "elapsed_s": self.clock.elapsed_s,
            "end_unix_s": time.time(),
        }
        append_line(self.trial.epochs, json.dumps(line))
        self._epoch_s = trained.seconds + batches.wait_s + (evaluation.seconds if evaluation else 0)
        self._live.tell(wait_s=batches.wait_s, done=None)
        self.status = replace(self.status, epochs=batches.epoch + 1)
        if evaluation:
            best = max(evaluation.hit_rate, self.status.best_hit_rate or 0.0)
            self.status = replace(self.status, best_hit_rate=best)
            self._live.tell(quality=evaluation.hit_rate, best=best)
            log_line(
                f"Iteration {batches.epoch + 1}: HR = {evaluation.hit_rate:.4f}, "
                f"NDCG = {evaluation.ndcg:.4f}"
            )
        write_status(self.status, self.trial.status)
        log_line(epoch_line(line, self.config))
        if line["traffic"]:
            log_line(traffic_line(line["traffic"]))

    def stops(self, converged: bool) -> float:
        """The trial has ended; its time to train in seconds."""
        emit(tags.RUN_STOP, {"success": converged})
        seconds = self.clock.stop()
        emit(tags.RUN_FINAL)
        return seconds

    def final(self, converged: bool, seconds: float) -> TrialStatus:
        """The status that the trial ends with."""
        best, target = self.status.best_hit_rate or 0.0, self.config.target_hit_rate
        state = "converged" if converged else "not_converged"
        if target is None:
            state = "completed"
            text = f"{self.status.epochs} epochs without a target, best hr@10 {best:.4f}"
        elif converged:
            text = f"target {target} reached in {duration(seconds)}, {self.status.epochs} epochs"
        else:
            text = f"best hr@10 {best:.4f} stayed below the target {target} for all epochs"
        log_line(f"trial {self.spec.index}: {text}")
        final: TrialStatus = replace(
            self.status,
            state=state,
            exit_code=4 if state == "not_converged" else 0,
            message=text,
            time_to_train_s=seconds if converged else None,
        )
        return final


def _evaluated(evaluation: Evaluation | None) -> dict[str, Any]:
    """What epochs.jsonl says of an evaluation; nulls of an epoch that was not evaluated."""
    if evaluation is None:
        return dict.fromkeys(("hit_rate", "ndcg", "hits", "users", "eval_s", "eval_pairs_per_s"))
    return {
        "hit_rate": evaluation.hit_rate,
        "ndcg": evaluation.ndcg,
        "hits": evaluation.hits,
        "users": evaluation.users,
        "eval_s": evaluation.seconds,
        "eval_pairs_per_s": evaluation.pairs / evaluation.seconds,
    }
