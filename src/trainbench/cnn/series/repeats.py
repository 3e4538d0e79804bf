"""``--repeat N``: whole runs in fresh processes, and the confidence interval of their speed.

Fresh processes, because much of what makes two runs differ is decided once in a process: the
kernels that are chosen, where memory lies, which threads run on which cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainbench.cnn.flags.params import RUN_FILES, ParamError, Params
from trainbench.cnn.measure import result_file
from trainbench.cnn.series import processes
from trainbench.errors import TrainbenchError
from trainbench.progress import log_line
from trainbench.statistics import mean_interval

_ALONE = (
    *RUN_FILES,
    *("debugger", "debug_dump_dir", "eval", "job_name", "ml_perf_compliance_logging"),
)


def run(params: Params, *, quiet: bool = False) -> dict[str, Any]:
    """Run ``params`` as often as ``repeat`` says and return the record of all.

    The record is that of the run with the median speed, with all speeds under ``repeats``.

    Raises:
        ParamError: a flag that several runs cannot share.
        TrainbenchError: a run failed; the exit code is that run's.
    """
    check_shared(params, "--repeat")
    one, found = params.replace(repeat=1, result_json=None), []
    for number in range(1, params.repeat + 1):
        log_line(f"run {number} of {params.repeat}")
        outcome = processes.run(one, quiet=quiet)
        if outcome.record is None:
            raise _failed(number, params.repeat, outcome)
        found.append(outcome.record)
    record = combined(found)
    if params.result_json:
        result_file.write(params.result_json, {**record, "params": params.changed()})
    return record


def check_shared(params: Params, flag: str) -> None:
    """Refuse what several runs cannot share: files that each replaces, ports, other processes.

    Raises:
        ParamError: with the name of the parameter.
    """
    for name in _ALONE:
        if getattr(params, name):
            raise ParamError(
                f"--{name} does not go with {flag}: several runs cannot share it; leave one of "
                "them out"
            )


def combined(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The record of the median speed (the lower one of two), with ``repeats`` added."""
    speeds = [record["stats"]["images_per_sec"] for record in runs]
    median = sorted(range(len(speeds)), key=speeds.__getitem__)[(len(speeds) - 1) // 2]
    interval = mean_interval(speeds)
    return {
        **runs[median],
        "repeats": {
            "runs": len(runs),
            "images_per_sec": speeds,
            "mean": interval.mean,
            "standard_deviation": interval.deviation,
            "ci95_low": interval.low,
            "ci95_high": interval.high,
        },
    }


def summary(record: dict[str, Any]) -> str:
    """One line: the mean speed with its confidence interval."""
    found = record["repeats"]
    mean, low, high = found["mean"], found["ci95_low"], found["ci95_high"]
    text = f"images/sec over {found['runs']} runs: {mean:.2f}"
    if low is None or high is None:
        return text
    return f"{text} +/- {high - mean:.2f} (95 % confidence interval {low:.2f} to {high:.2f})"


def _failed(number: int, total: int, outcome: processes.Outcome) -> TrainbenchError:
    error = TrainbenchError(f"run {number} of {total} failed: {outcome.reason}")
    error.exit_code = outcome.exit_code if outcome.exit_code > 0 else TrainbenchError.exit_code
    return error
