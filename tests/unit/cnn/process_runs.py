"""Runs of several real processes on this machine.

They are forked from one that has imported TensorFlow and not started it: importing takes longer
than any of the runs.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from cnn_standins import Linear, Listed

from trainbench import cnn
from trainbench.bench import all_reduce
from trainbench.cnn import console, lengths
from trainbench.cnn.cluster import place_of
from trainbench.distribution import liveness
from trainbench.errors import TrainbenchError

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["process_runs", "trainbench.cnn.benchmark"])
IMAGES = np.arange(-1.0, 15.0)
PATIENCE_S = 180
"""A guard against hanging; nothing is said about how long anything takes."""
LOST_AFTER_S = 1.0
"""Instead of ten seconds, which every test of a death would take."""


class Placed(Listed):
    """Each worker begins at its own place in the images."""

    def batches(self, subset: str, params: Any, *, batch_size: int) -> Iterator[tuple[Any, Any]]:
        rolled = lengths.roll(self.images, batch_size, place_of(params))
        return Listed(rolled).batches(subset, params, batch_size=batch_size)


class Slope(Linear):
    """loss = mean(image) * a: the gradient depends on nothing that training changes."""

    def build(self, num_classes: int, *, data_format: str = "channels_last") -> keras.Model:
        images = keras.Input((1, 1, 1))
        rate = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="a")
        return keras.Model(images, rate(keras.layers.Flatten()(images)))


def listed(order: Any = None) -> Placed:
    """The images in ``order``."""
    images = IMAGES if order is None else IMAGES[order]
    return Placed(images.reshape(-1, 1, 1, 1))


class Ending(Placed):
    """Worker 1 runs out of images."""

    def batches(self, subset: str, params: Any, *, batch_size: int) -> Iterator[tuple[Any, Any]]:
        found = super().batches(subset, params, batch_size=batch_size)
        return itertools.islice(found, 3) if params.task_index == 1 else found


MODELS = {"linear": Linear, "slope": Slope, "ending": Linear}
DATASETS = {"ending": Ending}


def run_role(flags: dict[str, Any], standin: str, reduces: bool, log: str) -> None:
    """One process: its output goes to the file ``log``, its exit code is the documented one."""
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    console.LOSS_AND_ACCURACY_DIGITS_TO_SHOW = 15
    liveness.LOST_AFTER_S, liveness.PROBE_INTERVAL_S = LOST_AFTER_S, 0.3
    try:
        dataset = DATASETS.get(standin, Placed)(IMAGES.reshape(-1, 1, 1, 1))
        benchmark = cnn.BenchmarkCNN(
            cnn.make_params(**flags), dataset=dataset, model=MODELS[standin]()
        )
        if reduces:
            all_reduce.timed(benchmark)
        else:
            benchmark.run()
        # What Python does at its end takes time, in which a message not yet sent would still go.
        sys.stdout.flush()
        os._exit(0)
    except TrainbenchError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except BaseException:
        traceback.print_exc()
        raise


@dataclass
class Runs:
    """The processes of one run, by role."""

    folder: Path
    processes: dict[str, Any] = field(default_factory=dict)

    def wait(self, timeout_s: float = PATIENCE_S) -> dict[str, int | None]:
        """Exit codes; ``None`` for one that still runs after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        for process in self.processes.values():
            process.join(max(deadline - time.monotonic(), 0))
        return {role: process.exitcode for role, process in self.processes.items()}

    def require(self, wanted: dict[str, int], timeout_s: float = PATIENCE_S) -> None:
        """Fail unless the processes end with the ``wanted`` exit codes, with what they printed."""
        codes = self.wait(timeout_s)
        wrong = [role for role in wanted if codes[role] != wanted[role]]
        logs = "\n".join(f"--- {role}: {codes[role]}\n{self.text(role)}" for role in wrong)
        assert not wrong, f"wanted {wanted}\n{logs}"

    def text(self, role: str) -> str:
        """What a process has printed."""
        file = self.folder / f"{role}.log"
        return file.read_text() if file.exists() else ""

    def wait_for(self, role: str, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Return once a process has printed ``text``."""
        deadline = time.monotonic() + timeout_s
        while text not in self.text(role):
            assert time.monotonic() < deadline, self.text(role)
            assert self.processes[role].is_alive(), self.text(role)
            time.sleep(0.05)

    def kill(self, role: str) -> None:
        """End a process as a power cut would."""
        self.processes[role].kill()


@contextlib.contextmanager
def started(
    folder: Path,
    *roles: str,
    workers: int = 2,
    standin: str = "linear",
    reduces: bool = False,
    **flags: Any,
) -> Iterator[Runs]:
    """Start ``roles`` (worker0, ps0, controller0) with common ``flags``; none outlives the body."""
    folder.mkdir(exist_ok=True)
    ports = _ports(workers + 2)
    common: dict[str, Any] = {
        "device": "cpu", "batch_size": 2, "num_batches": 4, "num_warmup_batches": 0,
        "display_every": 1, "cluster_timeout_s": 60,
        "worker_hosts": ",".join(ports[:workers]), **flags,
    }  # fmt: skip
    names = {role.rstrip("0123456789") for role in roles}
    if "ps" in names:
        common["ps_hosts"] = ports[-1]
    if "controller" in names:
        common["controller_host"] = ports[-2]
    runs = Runs(folder)
    try:
        for role in roles:
            own = {"job_name": role.rstrip("0123456789"), "task_index": int(role[-1])}
            log = str(folder / f"{role}.log")
            args = ({**common, **own}, standin, reduces, log)
            runs.processes[role] = CONTEXT.Process(target=run_role, args=args)
            runs.processes[role].start()
        yield runs
    finally:
        for process in runs.processes.values():
            process.kill()
            process.join()


def alone(folder: Path, *, order: Any, **flags: Any) -> str:
    """What one process prints that is given the images in ``order``."""
    values = {
        "device": "cpu", "batch_size": 2, "num_batches": 4, "num_warmup_batches": 0,
        "display_every": 1, **flags,
    }  # fmt: skip
    log = folder / "alone.log"
    process = CONTEXT.Process(target=_alone, args=(values, order, str(log)))
    process.start()
    process.join(60)
    return log.read_text()


def _alone(flags: dict[str, Any], order: Any, log: str) -> None:
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    console.LOSS_AND_ACCURACY_DIGITS_TO_SHOW = 15
    cnn.BenchmarkCNN(cnn.make_params(**flags), dataset=listed(order), model=Linear()).run()


def kept(train_dir: Path, name: str) -> float:
    """A number in the newest checkpoint."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(train_dir)))
    # A checkpoint writes the slash in a name as ".S".
    wanted = name.replace("/", ".S")
    (key,) = (key for key in reader.get_variable_to_shape_map() if f"/{wanted}/" in key)
    return float(np.asarray(reader.get_tensor(key)).ravel()[0])


def _ports(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("localhost", 0))
        return [f"localhost:{one.getsockname()[1]}" for one in found]
