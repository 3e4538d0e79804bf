"""``--auto_batch_size``: the largest batch that fits into memory, by doubling and bisection.

Each size is tried in a process of its own: on a CPU, running out of memory ends the process, and on
a GPU, what a failed trial leaves behind would count against the next.
"""

from __future__ import annotations

from collections.abc import Callable

import psutil

from trainbench.cnn import console
from trainbench.cnn.flags.params import RUN_FILES, ParamError, Params
from trainbench.cnn.rules import EVAL_DURING_TRAINING
from trainbench.cnn.series import processes
from trainbench.errors import MachineError, TrainbenchError
from trainbench.machine import allotment
from trainbench.progress import log_line

_SHARE = 0.9
"""Of the available memory: what remains is for whatever else the machine does."""
_START, _CEILING = 32, 1 << 16
_NOT_IN_TRIALS = (
    *RUN_FILES,
    *EVAL_DURING_TRAINING,
    *("benchmark_log_dir", "debug_dump_dir", "ml_perf_compliance_logging"),
    *("num_epochs", "stop_at_top_1_accuracy", "auto_batch_size", "memory_limit_gib"),
)


def largest_fitting(
    fits: Callable[[int], bool], *, start: int, multiple: int = 1, ceiling: int = _CEILING
) -> int:
    """The largest multiple of ``multiple`` up to ``ceiling`` that fits; 0 if none does.

    ``fits`` must be monotone: what fits, fits when smaller. It is asked about ``2 log2(n) + 3``
    sizes at most, none of them twice, with ``n`` the larger of limit and start in multiples.

    Args:
        start: where to begin; sizes are doubled from there, or halved if it does not fit.
    """
    low, high = 0, None
    size = min(max(start // multiple, 1), ceiling // multiple)
    while high is None and size > low:
        if fits(size * multiple):
            low, size = size, min(2 * size, ceiling // multiple)
        else:
            high = size
    if high is None:
        return low * multiple
    while high - low > 1:
        size = (low + high) // 2
        low, high = (size, high) if fits(size * multiple) else (low, size)
    return low * multiple


def choose(params: Params) -> Params:
    """``params`` with the largest batch size that fits.

    Raises:
        ParamError: the run is one of several processes.
        MachineError: not even the smallest batch fits.
        TrainbenchError: a trial failed for another reason than memory.
    """
    if params.job_name:
        raise ParamError("--auto_batch_size tries runs of one process; leave out --job_name")
    limit = limit_bytes(params)
    log_line(f"looking for the largest batch size within {limit / 2**30:.2f} GiB of host memory")
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return trial(params, size, limit_bytes=limit)

    found = largest_fitting(
        fits, start=params.batch_size or _START, multiple=params.batch_size_multiple
    )
    if not found:
        raise MachineError(
            f"not even a batch of {params.batch_size_multiple} fits into "
            f"{limit / 2**30:.2f} GiB; take a smaller model or more memory (--memory_limit_gib)"
        )
    console.print_result(f"Auto batch size: {found} per device ({len(tried)} sizes tried)")
    return params.replace(auto_batch_size=False, memory_limit_gib=None, batch_size=found)


def trial(params: Params, size: int, *, limit_bytes: int) -> bool:
    """Whether two steps with batches of ``size`` fit.

    Raises:
        TrainbenchError: they failed for another reason than memory.
    """
    outcome = processes.run(trial_params(params, size), quiet=True, limit_bytes=limit_bytes)
    if outcome.exit_code and not outcome.out_of_memory:
        raise TrainbenchError(f"batch size {size}: {outcome.reason}")
    verdict = "does not fit" if outcome.exit_code else "fits"
    log_line(f"batch size {size} {verdict} ({outcome.memory_bytes / 2**30:.2f} GiB of host memory)")
    return not outcome.exit_code


def trial_params(params: Params, size: int) -> Params:
    """The same run, only long enough to hold everything that a long one holds."""
    short = params.without(*_NOT_IN_TRIALS)
    return short.replace(batch_size=size, num_batches=2, num_warmup_batches=1, repeat=1)


def limit_bytes(params: Params) -> int:
    """Host memory that a trial may take: as the flag says, or most of what is available."""
    if params.memory_limit_gib is not None:
        return int(params.memory_limit_gib * 2**30)
    available = psutil.virtual_memory().available
    group = allotment.cgroup_limits()["memory_bytes"]
    return int(_SHARE * (min(available, group) if group else available))
