"""The header of a run: what will be done, one line per item, as tf_cnn_benchmarks prints it."""

from __future__ import annotations

from typing import Any

from trainbench.cnn.flags.params import Params
from trainbench.cnn.input.batches import is_synthetic
from trainbench.cnn.plan import Plan

_REPORTS_REDUCTION = ("replicated", "distributed_all_reduce", "collective_all_reduce")


def dataset_name(dataset: Any) -> str:
    """The name of ``dataset``, and whether its images are made instead of read."""
    return str(dataset.name) + (" (synthetic)" if is_synthetic(dataset) else "")


def lines(params: Params, plan: Plan, dataset: Any, model: Any, devices: list[str]) -> list[str]:
    """The lines; ``devices`` as they are printed, ``/cpu:0``."""
    rows = [
        ("Model", model.name),
        ("Dataset", dataset_name(dataset)),
        ("Mode", plan.mode),
        ("SingleSess", params.variable_update == "distributed_all_reduce"),
        ("Batch size", f"{plan.train_batch.total} global"),
        ("", f"{plan.train_batch.device} per device"),
    ]
    if params.batch_group_size > 1:
        # The misspelling is tf_cnn_benchmarks'; scripts look for it.
        rows.append(("", f"{params.batch_group_size} batches per prepocessing group"))
    rows += [
        ("Num batches", plan.length.num_batches),
        ("Num epochs", f"{plan.length.num_epochs:.2f}"),
        ("Devices", devices),
        ("NUMA bind", params.use_numa_affinity),
        ("Data format", params.data_format),
    ]
    if params.rewriter_config:
        rows.append(("RewriterConfig", params.rewriter_config))
    rows += [("Optimizer", params.optimizer), ("Variables", params.variable_update)]
    if params.variable_update in _REPORTS_REDUCTION:
        rows.append(("AllReduce", params.all_reduce_spec))
    if params.job_name:
        rows.append(("Sync", params.cross_replica_sync))
    return [_row(name, value) for name, value in rows] + ["=" * 10]


def _row(name: str, value: object) -> str:
    label = f"{name}:" if name else ""
    # A label of 13 characters and more takes one space, as in "RewriterConfig: ...".
    return f"{label:<12} {value}"
