"""Flags that tf_cnn_benchmarks once had under other names, and what to write now.

Scripts of 2017 and 2018 still name them. The nearest name of today is often another thing: a
script's ``--learning_rate`` is not ``--end_learning_rate``.
"""

from __future__ import annotations

_NCCL = "use --variable_update=replicated --all_reduce_spec=nccl; where it was false, leave it out"
_LAYOUT = """use --rewriter_config='{"layout_optimizer": true}'"""

RETIRED = {
    "learning_rate": "use --init_learning_rate",
    "nccl": _NCCL,
    "use_nccl": _NCCL,
    "layout_optimizer": _LAYOUT,
    "enable_layout_optimizer": _LAYOUT,
    "cache_data": "use --datasets_repeat_cached_sample",
    "pretrain_dir": "use --train_dir, with the folder that holds the checkpoint",
    "result_storage": "use --result_json=FILE",
    "use_multi_device_iterator": "leave it out: batches are always fetched ahead to each device",
}
"""Name to what to do instead today."""

ALWAYS_ON = {"flush_stdout": "every line is flushed as it is printed"}
"""Flags that are still taken, whatever their value: what they asked for is always so."""


def successor(name: str) -> str | None:
    """What to do in place of the retired flag ``name`` (or ``noNAME``), if it is one."""
    return RETIRED.get(name) or RETIRED.get(name.removeprefix("no"))
