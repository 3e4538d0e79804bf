"""The flags as data: every flag of tf_cnn_benchmarks under its name, and the few of our own."""

from __future__ import annotations

from trainbench.cnn.flags.params import FLAGS, GROUPS
from trainbench.cnn.flags.spec import DROP, KEEP, MAP, NOTE, OURS, VERDICTS, Flag, Group

__all__ = ["DROP", "FLAGS", "GROUPS", "KEEP", "MAP", "NOTE", "OURS", "VERDICTS", "Flag", "Group"]
