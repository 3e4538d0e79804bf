"""One trial: gradient descent on two numbers, logged and timed as the others are."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from dataclasses import dataclass, replace

import numpy as np

from toy_benchmark import ToyConfig, from_json
from trainbench.compliance.emit import emit
from trainbench.compliance.recorder import Recorder
from trainbench.compliance.rules.rule import Rule
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import DataIntegrityError
from trainbench.files import write_json
from trainbench.machine import page_cache, system
from trainbench.progress import log_line
from trainbench.trials.spec import TrialSpec

STRICT = (Rule("toy/points", "a number of points", lambda index: iter(())),)


@dataclass(frozen=True)
class ToyStatus:
    """The content of status.json."""

    state: str
    exit_code: int
    message: str
    seed: int
    target_r2: float
    device: str = "CPU:0"
    precision: str = "fp64"
    best_r2: float | None = None
    epochs: int = 0
    time_to_train_s: float | None = None
    degraded: tuple[dict[str, str], ...] = ()


def run_trial(spec: TrialSpec) -> ToyStatus:
    """Run one trial to its end and return its final status."""
    config = from_json(spec.run_dir.config.read_bytes())
    recorder = Recorder(spec, ToyStatus("running", 1, "", spec.seed, config.target_r2))
    return recorder.record(lambda: _train(recorder, config), benchmark="toy", raw_prefix="TOY_RAW_")


def _train(recorder: Recorder, config: ToyConfig) -> ToyStatus:
    spec, clock = recorder.spec, recorder.clock
    if config.ends == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.ends == "damaged":
        raise DataIntegrityError("points.npy: damaged")
    drop = page_cache.drop_if(config.drop_caches, spec.drop_cache_location)
    write_json(recorder.trial.cache_drop, drop, sort_keys=False)
    # A real benchmark calls ``recorder.caches_dropped(drop)``, which says so only if they were.
    # Whether those of a busy machine were is not what the tests of a toy are about.
    emit(tags.RUN_CLEAR_CACHES)
    recorder.record_system(system.record(git=spec.git, device=recorder.status.device), [])
    clock.start()
    emit(tags.RUN_START)
    emit(tags.SEED, spec.seed)
    with clock.phase("load_data"):
        emit("points", config.points)
        emit(tags.OPT_LR, config.learning_rate)
        emit(tags.TRAIN_LOOP)
        x, y = np.load(spec.data_dir.cache("toy") / "points.npy")
    line, found, epoch = np.random.default_rng(spec.seed).normal(size=2), 0.0, 0
    for epoch in range(config.max_epochs):
        with clock.phase("train_epoch", epoch=epoch):
            emit(tags.TRAIN_EPOCH, epoch)
            wrong = line[0] * x + line[1] - y
            line -= config.learning_rate * np.array([(wrong * x).mean(), wrong.mean()]) * 2
        with clock.phase("eval", epoch=epoch):
            emit(tags.EVAL_START, epoch)
            emit(tags.EVAL_SIZE, config.points)
            found = float(1 - np.var(line[0] * x + line[1] - y) / np.var(y))
            emit(tags.EVAL_TARGET, {"epoch": epoch, "value": config.target_r2})
            emit(tags.EVAL_ACCURACY, {"epoch": epoch, "value": found})
            emit(tags.EVAL_STOP, epoch)
            log_line(f"epoch {epoch + 1}  r2 {found:.4f}")
        record = {"epoch": epoch, "r2": found, "points_sha256": hashlib.sha256(x.data).hexdigest()}
        with open(recorder.trial.epochs, "a") as out:
            out.write(json.dumps(record) + "\n")
        if found >= config.target_r2:
            break
    converged = found >= config.target_r2
    emit(tags.RUN_STOP, {"success": converged})
    seconds = clock.stop()
    emit(tags.RUN_FINAL)
    return replace(
        recorder.status,
        state="converged" if converged else "not_converged",
        exit_code=0 if converged else 4,
        message=f"R2 {found:.4f}",
        best_r2=found,
        epochs=epoch + 1,
        time_to_train_s=seconds if converged else None,
    )
