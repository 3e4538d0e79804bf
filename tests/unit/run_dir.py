"""Fabricates a finished run directory: every file that the steps before the report leave."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainbench import configuration
from trainbench.compliance.stitch import stitch_run
from trainbench.ncf import config as configs
from trainbench.trials.paths import RunDir, TrialDir

USERS, ITEMS, PARAMETERS = 6_040, 3_706, 2_605_569
CURVE = (0.1583, 0.1897, 0.2046, 0.2131, 0.2239, 0.2322)
NDCG = (0.0803, 0.0971, 0.1069, 0.1108, 0.1149, 0.1186)
START = 1_795_000_000.0
TRIAL_S = 400.0
SYSTEM_NAME = "two-core-laptop"


def build_run(
    root: Path,
    *,
    trials: int = 3,
    short: tuple[int, ...] = (),
    run_id: str = "20261118-093320-ml-1m",
) -> RunDir:
    """A run of preset ml-1m; the trials in ``short``, and the last of three, miss the target."""
    run = RunDir(root)
    root.mkdir(parents=True)
    config = configs.ml_1m()
    write(run.config, json.loads(configuration.to_json(config)))
    write(run.run_file, run_record(run_id, trials))
    write(run.manifest, MANIFEST)
    write(run.cache_record, CACHE)
    for index in range(trials):
        build_trial(run, index, converged=index not in short and (trials, index) != (3, 2))
    stitch_run(run, system=SYSTEM_NAME)
    return run


def run_record(run_id: str, trials: int) -> dict[str, Any]:
    return {
        "schema": 1,
        "run_id": run_id,
        "created_unix_s": START - 60,
        "preset": "ml-1m",
        "runs": trials,
        "seed": None,
        "command": ["python", "-m", "trainbench", "train", "--preset", "ml-1m"],
        "trainbench_version": "0.1.0",
        "system_name": SYSTEM_NAME,
    }


MANIFEST = {
    "dataset": "ml-1m",
    "source": "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    "url": "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    "archive": "ml-1m.zip",
    "bytes": 5_917_549,
    "md5": "c4d9eecfca2ab87c1945afe126590906",
    "sha256": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    "published": True,
    "generated": False,
    "generator": None,
    "schema": 1,
}
CACHE = {
    "key": "0a1b2c3d4e5f6071",
    "counts": {"users": USERS, "items": ITEMS, "train": 994_169, "test": USERS},
    "tied_users": 1_318,
    "test_set_sha256": hashlib.sha256(b"test set").hexdigest(),
}


def build_trial(run: RunDir, index: int, *, converged: bool) -> None:
    trial = run.trial(index)
    trial.root.mkdir()
    zero = START + index * (TRIAL_S + 100)
    rates = [
        round((r - 0.0012 * (index % 3)) * USERS) / USERS for r in CURVE[: 6 if converged else 5]
    ]
    epochs = [epoch_record(index, n, rate, zero) for n, rate in enumerate(rates)]
    trial.epochs.write_text("".join(json.dumps(e) + "\n" for e in epochs))
    phases = phase_records(zero, epochs)
    trial.phases.write_text("".join(json.dumps(p) + "\n" for p in phases))
    write(trial.cache_drop, CACHE_DROP)
    write(trial.system, SYSTEM)
    stop = phases[-2]["start_unix_s"] + phases[-2]["duration_s"]
    write(trial.status, status_record(index, rates, converged, stop - zero))
    write_log(trial, rates, converged, zero, stop)


def epoch_record(index: int, epoch: int, rate: float, zero: float) -> dict[str, Any]:
    samples, train_s = 4_970_845, 38.0 + 0.7 * (index % 3) + 0.4 * (epoch == 0)
    return {
        "epoch": epoch,
        "mean_loss": round(0.42 - 0.015 * epoch, 4),
        "hit_rate": rate,
        "ndcg": NDCG[epoch] - 0.0006 * (index % 3),
        "hits": round(rate * USERS),
        "users": USERS,
        "samples": samples,
        "train_s": train_s,
        "eval_s": 6.1 + 0.05 * epoch,
        "input_wait_s": 1.9 if epoch == 0 else 0.02,
        "samples_per_s": samples / train_s,
        "eval_pairs_per_s": USERS * 1_000 / (6.1 + 0.05 * epoch),
        "epoch_sha256": hashlib.sha256(f"{index} {epoch}".encode()).hexdigest(),
        "first_batch_sha256": hashlib.sha256(f"{index} {epoch} first".encode()).hexdigest(),
        "elapsed_s": 30.0 + (epoch + 1) * 46.0,
        "end_unix_s": zero + 30.0 + (epoch + 1) * 46.0,
    }


def phase_records(zero: float, epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Phases end to end: two before the clock, the run, one after it."""
    steps: list[tuple[str, int | None, float, bool]] = [
        ("start_producer", None, 4.0, False),
        ("drop_caches", None, 2.5, False),
        ("load_data", None, 1.2, True),
        ("build_model", None, 3.1, True),
        ("compile", None, 9.4, True),
        ("wait_eval_candidates", None, 5.2, True),
        ("initial_eval", None, 6.0, True),
    ]
    for e in epochs:
        steps.append(("train_epoch", e["epoch"], e["train_s"] + e["input_wait_s"], True))
        steps.append(("eval", e["epoch"], e["eval_s"], True))
    steps.append(("save_model", None, 1.5, False))
    records, now = [], zero - 6.5
    for name, epoch, duration, timed in steps:
        record = {"name": name, "epoch": epoch, "start_unix_s": now, "duration_s": duration}
        records.append({**record, "timed": timed})
        now += duration
    return records


CACHE_DROP = {
    "dropped": True,
    "method": "bind mount container",
    "cached_before_kib": 3_481_600,
    "cached_after_kib": 148_480,
    "reason": None,
}
SYSTEM = {
    "cpu": {"model": "Xeon Example 2.5 GHz", "sockets": 1, "cores": 2, "threads": 2},
    "memory_bytes": 16 * 2**30,
    "gpus": [],
    "cuda": None,
    "kernel": "6.1.0-18-amd64",
    "os": "Debian GNU/Linux 12 (bookworm)",
    "cgroup": {"cpus": 2.0, "memory_bytes": None},
    "packages": {"tensorflow": "2.21.0", "numpy": "2.2.6", "mlperf_compliance": "0.0.10"},
    "images": [{"name": "trainbench-train", "digest": "sha256:" + "ab" * 32}],
    "git": {"revision": "f34ba14d0c5e", "dirty": False},
    "device": "CPU",
    "container": True,
}


def status_record(index: int, rates: list[float], converged: bool, time_s: float) -> dict[str, Any]:
    degraded = [
        {"code": "no_gpu", "text": "trained on a CPU: no usable GPU was found"},
    ]
    return {
        "state": "converged" if converged else "not_converged",
        "exit_code": 0 if converged else 4,
        "message": "",
        "seed": 2_914_067_315 + 7 * index,
        "time_to_train_s": time_s if converged else None,
        "best_hit_rate": max(rates),
        "target_hit_rate": 0.225,
        "epochs": len(rates),
        "num_users": USERS,
        "num_items": ITEMS,
        "num_parameters": PARAMETERS,
        "initial_hit_rate": 0.0083,
        "device": "CPU",
        "precision": "fp32",
        "degraded": degraded,
    }


def write_log(
    trial: TrialDir, rates: list[float], converged: bool, zero: float, stop: float
) -> None:
    events = log_events(rates, converged, zero, stop, seed=2_914_067_315 + 7 * trial.index)
    trial.compliance_raw.write_text("".join(line(at, tag, value) for at, tag, value in events))


NOTHING = object()


def line(at: float, tag: str, value: Any) -> str:
    text = "" if value is NOTHING else f": {json.dumps(value)}"
    return f"NCF_RAW_:::MLPv0.5.0 ncf {at:.9f} (ncf/trial.py:101) {tag}{text}\n"


def log_events(
    rates: list[float], converged: bool, zero: float, stop: float, *, seed: int
) -> list[tuple[float, str, Any]]:
    config = configs.ml_1m()
    events: list[tuple[float, str, Any]] = [
        (zero - 90.0, "preproc_hp_min_ratings", 20),
        (zero - 89.9, "preproc_hp_num_eval", 999),
        (zero - 89.8, "preproc_hp_sample_eval_replacement", True),
        (zero - 0.5, "run_clear_caches", NOTHING),
        (zero, "run_start", NOTHING),
    ]
    setup: list[tuple[str, Any]] = [
        ("seed", seed),
        ("input_size", 4_970_845),
        ("input_batch_size", config.batch_size),
        ("input_order", NOTHING),
        ("input_shard", NOTHING),
        ("input_hp_num_neg", 4),
        ("input_hp_sample_train_replacement", True),
        ("input_step_eval_neg_gen", NOTHING),
        ("model_hp_mf_dim", config.mf_dim),
        ("model_hp_mlp_layer_sizes", list(config.mlp_layer_sizes)),
        ("model_hp_loss_fn", "binary_cross_entropy"),
        ("opt_name", "adam"),
        ("opt_learning_rate", config.learning_rate),
        ("opt_hp_Adam_beta1", config.beta1),
        ("opt_hp_Adam_beta2", config.beta2),
        ("opt_hp_Adam_epsilon", config.epsilon),
        ("train_loop", NOTHING),
    ]
    events += [(zero + 1 + n / 10, tag, value) for n, (tag, value) in enumerate(setup)]
    for epoch, rate in enumerate(rates):
        done = stop - (len(rates) - 1 - epoch) * 45.0
        steps: list[tuple[float, str, Any]] = [
            (40.0, "train_epoch", epoch),
            (39.9, "input_step_train_neg_gen", NOTHING),
            (6.3, "eval_start", epoch),
            (6.2, "eval_size", USERS * 1_000),
            (6.1, "eval_hp_num_users", USERS),
            (6.05, "eval_hp_num_neg", 999),
            (0.2, "eval_target", {"epoch": epoch, "value": config.target_hit_rate}),
            (0.1, "eval_accuracy", {"epoch": epoch, "value": rate}),
            (0.05, "eval_stop", epoch),
        ]
        events += [(done - before, tag, value) for before, tag, value in steps]
    events.append((stop, "run_stop", {"success": converged}))
    events.append((stop + 0.01, "run_final", NOTHING))
    return events


def write(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2) + "\n")


def change(path: Path, **values: Any) -> None:
    """Replaces fields of the JSON object in ``path``."""
    write(path, {**json.loads(path.read_text()), **values})


def change_config(run: RunDir, **values: Any) -> None:
    """Replaces fields of the run's configuration."""
    config = replace(configs.from_json(run.config.read_text()), **values)
    run.config.write_text(configuration.to_json(config))
