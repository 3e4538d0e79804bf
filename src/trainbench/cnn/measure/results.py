"""``--result_json``: what a run measured, with the machine that it was measured on."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainbench import __version__
from trainbench.cnn.flags.params import Params
from trainbench.cnn.input.batches import Batch
from trainbench.cnn.measure.peak import compute_dtype, share_of_peak
from trainbench.cnn.models import forms
from trainbench.cnn.plan import Plan
from trainbench.cnn.startup import Startup
from trainbench.cnn.train.evaluation import Accuracy, Evaluated
from trainbench.cnn.train.executor import compiled
from trainbench.cnn.train.loop import StepTimes
from trainbench.cnn.train.step import Step
from trainbench.machine import system

SCHEMA = 1
_SLOWING = ("tfprof_file", "debugger", "debug_dump_dir")


def record(
    params: Params,
    plan: Plan,
    stats: dict[str, Any],
    clock: StepTimes,
    *,
    startup: Startup,
    step: Step,
    batches: list[Batch],
    evaluations: Sequence[dict[str, Any]] = (),
    notes: Sequence[dict[str, str]] = (),
) -> dict[str, Any]:
    """Everything about one run, ready for JSON; docs/cnn_measuring.md describes each key.

    ``flops_per_image`` counts the forward pass; training takes about three times as many, which
    ``percent_of_measured_peak`` assumes. ``notes`` are further reasons to be degraded.
    """
    forward = flops_per_image(compiled(step.infer), batches)
    speed = stats.get("images_per_sec", 0.0)
    share = share_of_peak(
        forward and speed * forward * (1 if params.forward_only else 3),
        dtype=compute_dtype(params),
        devices=plan.train_batch.num_devices * plan.train_batch.num_workers,
    )
    return {
        "schema": SCHEMA,
        "trainbench_version": __version__,
        "created_unix_s": time.time(),
        "mode": plan.mode,
        "params": params.changed(),
        "stats": {name: _finite(value) for name, value in stats.items()},
        "num_batches": plan.length.num_batches,
        "batch_size": plan.train_batch.worker,
        "warmup_steps": plan.warmup,
        "first_step_s": clock.first_step_s,
        "compile_s": clock.compile_s(),
        "startup_s": startup.seconds(),
        "step_s": percentiles(clock.times_s),
        "step_times_s": [round(seconds, 9) for seconds in clock.times_s],
        "evaluations": list(evaluations),
        "peak_memory_bytes": peak_memory_bytes(),
        "flops_per_image": forward,
        "peak_flops_per_s": share.peak_flops_per_s,
        "percent_of_measured_peak": share.percent,
        "percent_of_measured_peak_reason": share.reason,
        "degraded": [*degraded(params), *notes],
        "forms": list(forms.of(step.strategy.devices)),
        "repeats": None,
        "environment": system.record(device=",".join(step.strategy.devices)),
    }


def curve(
    evaluations: Sequence[Evaluated], plan: Plan, examples_per_epoch: int
) -> list[dict[str, Any]]:
    """The accuracy curve: one record for each evaluation, epochs counted with the warm-up."""
    return [
        {
            "global_step": evaluated.global_step,
            "epoch": evaluated.global_step * plan.train_batch.total / examples_per_epoch,
            "unix_s": evaluated.unix_s,
            "top_1_accuracy": evaluated.accuracy.top_1,
            "top_5_accuracy": evaluated.accuracy.top_5,
            "constant_top_1_accuracy": evaluated.accuracy.constant_top_1,
            "collapsed": evaluated.accuracy.collapsed,
            "examples": evaluated.accuracy.examples,
            "images_per_sec": evaluated.accuracy.images_per_s,
        }
        for evaluated in evaluations
    ]


def percentiles(times_s: list[float]) -> dict[str, float]:
    """Median and slow tail of the step times."""
    if not times_s:
        return {}
    names = {"p50": 50, "p90": 90, "p99": 99, "min": 0, "max": 100}
    return {name: float(np.percentile(times_s, share)) for name, share in names.items()}


def peak_memory_bytes() -> int:
    """The most memory this process ever held: on the GPU where there is one, else resident."""
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        return int(
            sum(tf.config.experimental.get_memory_info(gpu.name[-5:])["peak"] for gpu in gpus)
        )
    return system.held_bytes(os.getpid())


def flops_per_image(infer: Any, batches: list[Batch]) -> int | None:
    """Operations of one image in ``infer``, a ``tf.function``; ``None`` if it cannot be counted."""
    graph = infer.get_concrete_function(batches).graph
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    quiet = options.with_empty_output().build()
    logger = tf.get_logger()
    level = logger.level
    # The only counter there is, and it calls itself deprecated in every run.
    logger.setLevel("ERROR")
    try:
        total = profiler.profile(graph, options=quiet).total_float_ops
    except (ValueError, tf.errors.OpError):
        return None
    finally:
        logger.setLevel(level)
    images = sum(int(labels.shape[0]) for _, labels in batches)
    return int(total // images) or None


def degraded(params: Params) -> list[dict[str, str]]:
    """Why the result is less than its flags say."""
    found = []
    if params.device.lower() == "gpu" and not tf.config.list_physical_devices("GPU"):
        found.append({"code": "no_gpu", "text": "device=gpu, but it ran on the CPU"})
    if not params.data_dir:
        found.append({"code": "generated_data", "text": "synthetic images"})
    watched = [name for name in _SLOWING if getattr(params, name)]
    if watched:
        text = f"timed steps ran under {', '.join(f'--{name}' for name in watched)}"
        found.append({"code": "watched", "text": text})
    return found


def evaluation_notes(accuracy: Accuracy | None, target: float | None) -> list[dict[str, str]]:
    """Why the last evaluation, or the target, says less than it seems to."""
    if accuracy is None:
        return []
    found = []
    if accuracy.collapsed:
        text = f"the network gives one answer for all {accuracy.examples} images"
        found.append({"code": "collapsed", "text": text})
    if target and target <= accuracy.constant_top_1:
        text = f"one answer for all images gets a top-1 accuracy of {accuracy.constant_top_1:.4f}"
        found.append({"code": "easy_task", "text": f"{text}; the target is {target}"})
    return found


def data_notes(dataset: Any) -> list[dict[str, str]]:
    """Whether the images read are fewer than the published data set has."""
    partial = getattr(dataset, "partial", None)
    text = partial and partial()
    return [{"code": "partial_data", "text": text}] if text else []


def _finite(value: Any) -> Any:
    return value if np.isfinite(value) else None
