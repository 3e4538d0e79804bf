"""The rates of some forms of the training step, in processes of their own (``lanes.choice``).

The threads of TensorFlow are those of a whole process. So one process imports it, which takes
longest, and splits before TensorFlow starts: a part for each number of threads. The parts compile
beside each other and are timed in turn, one call at a time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from trainbench.distribution.liveness import first_line
from trainbench.files import write_json
from trainbench.ncf.config import NcfConfig, from_json
from trainbench.ncf.input.batches import MemoryBatches, random_batches
from trainbench.ncf.lanes.choice import chosen
from trainbench.ncf.step import SWEEP_ROWS_PER_SAMPLE
from trainbench.ncf.train import Trainer, build
from trainbench.trials.parent_watch import die_with_parent

SAMPLES_PER_CALL = 32_768
BUDGET_S = 1.0
LEAST_ROUNDS, MOST_ROUNDS = 3, 8
# The first call of a turn finds the caches as another form left them.
CALLS_PER_TURN = 2
# Past the first steps, whose bias correction costs more terms.
STEPS_BEFORE = 10_000
# More are cut off: these are far more than caches hold, and the forms are in memory together.
# ml-32m has 200,948 users.
MOST_ROWS = 300_000


def run(arguments: Mapping[str, Any]) -> int:
    """Write samples per second by name, and why others have none.

    Args:
        arguments: config (as JSON), size (users and items), names (of forms, a list for each
            number of threads), file (to write).
    """
    config = replace(from_json(arguments["config"]), last_batch="pad")
    size = measured_size(config, *arguments["size"])
    parts = [Part.start(config, size, names) for names in arguments["names"]]
    rates = timed([part for part in parts if part.is_ready()])
    failed = {name: part.failure for part in parts if part.failure for name in part.names}
    for part in parts:
        part.end()
    write_json(Path(arguments["file"]), {"rates": rates, "failed": failed})
    return 0


def measured_size(config: NcfConfig, users: int, items: int) -> tuple[int, int]:
    """Rows of the tables that are measured on: as many as there are, up to a bound.

    So many that tables which are updated by rows are measured by rows.
    """
    most = max(MOST_ROWS, SWEEP_ROWS_PER_SAMPLE * config.batch_size + 1)
    return min(users, most), min(items, most)


@dataclass
class Part:
    """A process that has trainers of some forms and runs a call of one when asked."""

    names: Sequence[str]
    process: ForkProcess
    pipe: Connection
    failure: str = ""

    @classmethod
    def start(cls, config: NcfConfig, size: Sequence[int], names: Sequence[str]) -> Part:
        """A part that has begun to build and compile its forms."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(os.getpid(), config, size, names, theirs), daemon=True
        )
        process.start()
        theirs.close()
        return cls(names, process, ours)

    def is_ready(self) -> bool:
        """Whether all forms are compiled, once it is known; ``failure`` says why not."""
        try:
            self.failure = self.pipe.recv()
        except EOFError:
            self.failure = "its process ended (memory, or an instruction that is not there?)"
        return not self.failure

    def rate(self, name: str) -> float:
        """Samples per second of the faster call of a turn."""
        self.pipe.send(name)
        return float(self.pipe.recv())

    def end(self) -> None:
        """End the process, which has nothing to keep."""
        self.process.kill()
        self.process.join()


def _serve(
    parent: int, config: NcfConfig, size: Sequence[int], names: Sequence[str], pipe: Connection
) -> None:
    die_with_parent(parent, number=signal.SIGKILL)  # It has nothing to keep.
    try:
        forms = {name: _Form.of(chosen(config, {"lanes": name}), *size) for name in names}
    except Exception as error:  # noqa: BLE001  whatever keeps a form from running is told
        pipe.send(first_line(error))
        return
    pipe.send("")
    while True:
        pipe.send(forms[pipe.recv()].rate())


@dataclass(frozen=True)
class _Form:
    """A compiled trainer and what it trains on."""

    trainer: Trainer
    data: MemoryBatches

    @classmethod
    def of(cls, config: NcfConfig, users: int, items: int) -> _Form:
        steps = max(2, SAMPLES_PER_CALL // config.batch_size)
        trainer = build(replace(config, steps_per_call=steps), users, items, seed=1)
        trainer.step.count_from(STEPS_BEFORE)
        data = random_batches((users, items), steps=steps, batch=config.batch_size)
        trainer.train_epoch(data)  # compiles
        return cls(trainer, data)

    def rate(self) -> float:
        results = [self.trainer.train_epoch(self.data) for _ in range(CALLS_PER_TURN)]
        return max(result.samples / result.seconds for result in results)


def timed(parts: Sequence[Part]) -> dict[str, float]:
    """Samples per second of the fastest call of each form; the forms take turns."""
    rates: dict[str, float] = {}
    started = time.perf_counter()
    for number in range(MOST_ROUNDS):
        if number >= LEAST_ROUNDS and time.perf_counter() - started > BUDGET_S:
            break
        for part in (p for p in parts if not p.failure):
            try:
                for name in part.names:
                    rates[name] = max(rates.get(name, 0.0), part.rate(name))
            except (EOFError, OSError):
                part.failure = "its process ended while it was timed"
    failed = {name for part in parts if part.failure for name in part.names}
    return {name: rate for name, rate in rates.items() if name not in failed}
