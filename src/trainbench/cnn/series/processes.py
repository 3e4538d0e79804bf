"""One run in a fresh process: what it measured, how it ended, how much memory it took."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainbench.cnn.flags.arguments import argv_of
from trainbench.cnn.flags.params import Params
from trainbench.errors import Interrupted, MachineError
from trainbench.files import read_object
from trainbench.machine.system import held_bytes
from trainbench.trials import child, signals

_POLL_S = 0.02
_KILL = -9
_ABORT = -6


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        exit_code: of the process; below 0 the signal that ended it.
        record: what ``--result_json`` would hold; ``None`` where the run failed.
        message: the last line on stderr, without ``error: ``; empty where it was not kept.
        memory_bytes: the most host memory that the process held.
        over_limit: it was ended because it took more than it might.
    """

    exit_code: int
    record: dict[str, Any] | None
    message: str
    memory_bytes: int
    over_limit: bool = False

    @property
    def out_of_memory(self) -> bool:
        """Whether memory ran out: here, in TensorFlow, in C++, or for the whole machine."""
        return self.over_limit or self.exit_code in (MachineError.exit_code, _KILL, _ABORT)

    @property
    def reason(self) -> str:
        """Why the run failed, in one line; empty where it did not."""
        if self.over_limit:
            return f"out of memory: it took {self.memory_bytes / 2**30:.2f} GiB"
        if self.exit_code == _KILL:
            return "killed, most often because the machine ran out of memory"
        if self.exit_code:
            return self.message or f"ended with exit code {self.exit_code}"
        return "" if self.record else "no result was written"


def run(params: Params, *, quiet: bool, limit_bytes: int | None = None) -> Outcome:
    """Run ``params`` in a process of its own.

    Args:
        quiet: keep what it prints, instead of passing it on.
        limit_bytes: end it when it holds more host memory than that.

    Raises:
        Interrupted: the run was interrupted, and the runs that follow must not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        argv = argv_of(params.replace(result_json=str(result)))
        with open(Path(folder) / "stderr.txt", "w+", encoding="utf-8") as errors:
            spec = Path(folder) / "spec.json"
            command = child.command(spec, "trainbench.cnn.entry:run_child", {"argv": argv})
            with signals.kept_from_children():
                process = subprocess.Popen(
                    command,
                    stdout=subprocess.DEVNULL if quiet else None,
                    stderr=errors if quiet else None,
                )
            try:
                memory, over = _watch(process, limit_bytes)
            finally:
                process.kill()
                process.wait()
            errors.seek(0)
            message = child.last_error(errors.read())
        if process.returncode == Interrupted.exit_code:
            raise Interrupted("a run was interrupted")
        # A run that failed may have written what it measured until then.
        whole = process.returncode == 0 and result.exists()
        record = read_object(result) if whole else None
    return Outcome(process.returncode, record, message, memory, over)


def _watch(process: subprocess.Popen[Any], limit_bytes: int | None) -> tuple[int, bool]:
    """Wait for the end; the most memory held, and whether that was too much."""
    most = 0
    while process.poll() is None:
        most = max(most, held_bytes(process.pid))
        if limit_bytes is not None and most > limit_bytes:
            return most, True
        time.sleep(_POLL_S)
    return most, False
