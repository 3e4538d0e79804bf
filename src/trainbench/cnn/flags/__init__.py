"""The flags as data: every flag of tf_cnn_benchmarks under its name, and the few of our own."""

from __future__ import annotations

from trainbench.cnn.flags import machine, running, training
from trainbench.cnn.flags.spec import DROP, KEEP, MAP, NOTE, OURS, VERDICTS, Flag, Group

GROUPS: tuple[Group, ...] = (
    running.MODE,
    running.DATA,
    running.EVALUATION,
    running.SEVERAL,
    running.OUTPUT,
    running.CHECKPOINTS,
    training.OPTIMIZER,
    training.SCHEDULE,
    training.PRECISION,
    training.REDUCTION,
    training.CLUSTER,
    machine.DEVICE,
    machine.COMPILER,
    machine.TRACES,
)
FLAGS: dict[str, Flag] = {flag.name: flag for group in GROUPS for flag in group.flags}

__all__ = ["DROP", "FLAGS", "GROUPS", "KEEP", "MAP", "NOTE", "OURS", "VERDICTS", "Flag", "Group"]
