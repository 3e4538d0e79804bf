"""What the pipeline's steps cost as the ratings grow: time, memory and disk, and each per pair.

Every step runs as a process of its own, as in a workflow, so its peak memory is its own; the start
of Python is part of its time. Ratings are generated with ml-20m's items and ratings per user, and
grow by users; the largest size is an expansion of them, as ml-20mx16x32 is of ml-20m. A cost per
pair that stays flat is a pipeline that scales.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import psutil

from trainbench import configuration
from trainbench.bench.data import ITEMS, PAIRS, USERS
from trainbench.bench.scale_part import MADE
from trainbench.errors import ConfigError, MachineError
from trainbench.machine import allotment
from trainbench.machine.system import cpu
from trainbench.movielens.datasets import Expansion, SplitSpec, SyntheticSize, read_manifest
from trainbench.ncf.config import NcfConfig, mlperf, rehearsal, with_settings
from trainbench.progress import heartbeat
from trainbench.trials.paths import DataDir

SIZES = (1_000_000, 10_000_000, 60_000_000)
FULL = Expansion(16, 32)
"""By what ml-20mx16x32 is an expansion of ml-20m: to 1.22 billion pairs."""

FULL_RATINGS = 26_000_000
"""Generated ratings whose expansion by ``FULL`` has 1.34 billion pairs; of 20 million, 0.90."""

FEWEST_PAIRS = 2_000
PARTS = ("candidates", "epoch", "train")
STEPS = ("download", "preprocess", *PARTS)
TRAIN_STEPS = 16
_RATINGS_PER_ITEM = 20
_OF_SIZE = tuple(field.name for field in fields(SplitSpec))
_LOOK_S = 0.5
_GONE_WITHIN_S = 30.0


@dataclass(frozen=True)
class Training:
    """What is known of the step ``train`` besides its costs.

    Attributes:
        pieces: how many pieces of epochs were trained on, the last of them in part.
        first_wait_s, later_wait_s: what the trainer waited for the first of them, after its
            model was compiled and the candidates were there, and for all others.
        producer_peak_bytes: the most resident memory of the process that makes the input.
        evaluated_users, eval_s: users whose held-out item was ranked after training.
    """

    pieces: int
    first_wait_s: float
    later_wait_s: float
    producer_peak_bytes: int
    evaluated_users: int
    eval_s: float

    def __str__(self) -> str:
        later = (
            f", {self.later_wait_s:.1f} s for {self.pieces - 1} later" if self.pieces > 1 else ""
        )
        return (
            f"{'':14}waited {self.first_wait_s:.1f} s for the first piece{later}; the producer "
            f"held {self.producer_peak_bytes / 2**30:.2f} GiB; {self.evaluated_users:,} users "
            f"evaluated in {self.eval_s:.1f} s"
        )


@dataclass(frozen=True)
class Cost:
    """One step at one size.

    Attributes:
        seconds, cpu_s: by the clock, and of all threads and processes. Of ``train``, the steps
            of the trainer alone: TensorFlow's start and compilation do not grow with the pairs.
        peak_bytes: the most resident memory of the process that held most; of ``train``, of the
            trainer.
        disk_bytes: what the step added at its fullest, temporary files included.
        samples: what was made or trained on, where the step is ``epoch`` or ``train``.
    """

    pairs: int
    step: str
    seconds: float
    cpu_s: float
    peak_bytes: int
    disk_bytes: int
    samples: int | None = None
    training: Training | None = None

    @property
    def per(self) -> float:
        """Nanoseconds of CPU time per sample of ``epoch`` and ``train``, else per pair."""
        return 1e9 * self.cpu_s / (self.samples or self.pairs)

    def row(self) -> str:
        """One line of the table, and what else is known of training in another."""
        unit = "sample" if self.samples else "pair"
        return (
            f"{self.pairs / 1e6:10.2f} M  {self.step:11}{self.seconds:9.1f} s{self.cpu_s:9.1f} s"
            f"{self.peak_bytes / 2**30:9.2f} GiB{self.disk_bytes / 1e9:9.3f} GB"
            f"{self.per:10.1f} ns/{unit}" + (f"\n{self.training}" if self.training else "")
        )


HEADING = (
    f"{'pairs':>12}  {'step':11}{'time':>11}{'CPU time':>11}{'memory':>13}{'disk':>12}"
    f"{'CPU time each':>18}"
)


def run(
    sizes: Sequence[int] = SIZES,
    *,
    full: bool = False,
    steps: Sequence[str] = STEPS,
    train_steps: int = TRAIN_STEPS,
    settings: Sequence[str] = (),
    folder: Path | None = None,
    as_json: bool = False,
) -> list[Cost]:
    """Measure ``steps`` at every size and print the table, or JSON, to stdout.

    The steps need each other in their order, so the ones before the last wanted run too. ``full``:
    at the size of ml-20mx16x32 as well. ``settings`` are ``key=value`` of the configuration.

    Raises:
        ConfigError: a size that is too small, or a setting that is part of it. MachineError: a step
        failed; its last line is told.
    """
    if min(sizes, default=FEWEST_PAIRS) < FEWEST_PAIRS:
        raise ConfigError(f"pairs={min(sizes):,}: wanted at least {FEWEST_PAIRS:,}")
    sized = [*map(config_of, sizes), *([full_size()] if full else [])]
    configs = [_with_settings(config, settings) for config in sized]
    until = max(STEPS.index(step) for step in steps)
    machine = cpu()
    if not as_json:
        cores = allotment.cpus()
        print(f"pipeline by size, {machine['model']}, {cores} threads\n{HEADING}", flush=True)
    costs = []
    for config in configs:
        with tempfile.TemporaryDirectory(dir=folder, prefix="bench-scale-") as name:
            for step in STEPS[: until + 1]:
                with heartbeat(f"measuring {step} of {_told(config)}"):
                    cost = measured(Path(name), step, config, train_steps)
                if step in steps:
                    costs.append(cost)
                    if not as_json:
                        print(cost.row(), flush=True)
    if as_json:
        listed = [{**asdict(cost), "cpu_ns_each": cost.per} for cost in costs]
        print(json.dumps({"cpu": machine, "costs": listed}, indent=2))
    return costs


def config_of(pairs: int) -> NcfConfig:
    """Generated ratings of which ``pairs`` train: ml-20m's items and ratings per user.

    So few pairs that the items would be bare have fewer items.
    """
    users = max(2, round(pairs * USERS / PAIRS))
    ratings = pairs + users
    items = min(ITEMS, max(1_000, ratings // _RATINGS_PER_ITEM))
    return replace(
        mlperf(),
        dataset="synthetic",
        synthetic=SyntheticSize(users, items, ratings),
        target_hit_rate=None,
        tie_break="stable",
    )


def expansion_of(config: NcfConfig, factor: Expansion) -> NcfConfig:
    """``config`` on the expansion of its generated ratings; the rates say how many pairs it has."""
    return replace(config, expand=factor, target_hit_rate=None)


def full_size() -> NcfConfig:
    """An expansion with ml-20mx16x32's users and items, and not fewer pairs."""
    config = rehearsal()
    assert config.synthetic is not None
    size = replace(config.synthetic, ratings=FULL_RATINGS)
    return expansion_of(replace(config, synthetic=size), FULL)


def _with_settings(config: NcfConfig, settings: Sequence[str]) -> NcfConfig:
    changed = with_settings(config, settings)
    for name in _OF_SIZE:
        if (given := getattr(changed, name)) != getattr(config, name):
            raise ConfigError(
                f"{name}={given}: the size decides it; give bench scale other --pairs"
            )
    return changed


def _told(config: NcfConfig) -> str:
    size, by = config.synthetic, config.expand
    assert size is not None
    return f"{size.ratings / 1e6:g} M ratings" + (f" expanded by {by.text}" if by else "")


def measured(folder: Path, step: str, config: NcfConfig, train_steps: int) -> Cost:
    """The cost of ``step`` in the data directory ``folder``, whose earlier steps are done."""
    before, started = _bytes_below(folder), time.perf_counter()
    with TemporaryFile() as out, TemporaryFile() as errors, _fullest(folder) as fullest:
        command = _command(folder, step, config, train_steps)
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        try:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                _end(process)
        seconds = time.perf_counter() - started
        if process.returncode:
            last = (_text(errors).strip().splitlines() or ["nothing"])[-1]
            raise MachineError(
                f"{step} of {_told(config)} ended with {process.returncode}: {last}; correct what "
                "this says, or give bench scale other --pairs"
            )
        cost = Cost(
            pairs=_pairs(folder, config),
            step=step,
            seconds=seconds,
            cpu_s=used.ru_utime + used.ru_stime,
            peak_bytes=used.ru_maxrss * 1024,
            disk_bytes=0,
        )
        if step in PARTS:
            found = json.loads(_text(out))
            if "training" in found:
                found["training"] = Training(**found["training"])
            cost = replace(cost, **found)
    # What a part makes is of no use to the next one, which makes its own.
    shutil.rmtree(folder / MADE, ignore_errors=True)
    return replace(cost, disk_bytes=max(0, max(fullest) - before))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, and wait for its producer too, so that nobody writes into the folder any more."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    psutil.wait_procs(family, timeout=_GONE_WITHIN_S)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _pairs(folder: Path, config: NcfConfig) -> int:
    """Training pairs of what was downloaded: of each user's ratings one is held out."""
    manifest = read_manifest(DataDir(folder).manifest(config.split_spec.raw))
    assert manifest is not None, "the download is the first step"
    assert manifest.counts is not None, "of generated ratings they are known"
    return manifest.counts.ratings - (0 if config.expand else manifest.counts.users)


def _command(folder: Path, step: str, config: NcfConfig, train_steps: int) -> list[str]:
    if step in PARTS:
        part = [step, str(folder), str(train_steps), configuration.to_json(config)]
        return [sys.executable, "-m", "trainbench.bench.scale_part", *part]
    size = config.synthetic
    assert size is not None
    words = [sys.executable, "-m", "trainbench", step, "--preset", config.preset]
    settings = [
        f"dataset={config.dataset}",
        f"synthetic={size.users}x{size.items}x{size.ratings}",
        f"tie_break={config.tie_break}",
    ]
    if config.expand:
        settings.append(f"expand={config.expand.text}x{config.expand.seed}")
    for setting in settings:
        words += ["--set", setting]
    return [*words, "--data-dir", str(folder)]


@contextmanager
def _fullest(folder: Path) -> Iterator[list[int]]:
    """A list that gets the bytes below ``folder`` again and again while the body runs."""
    ended, seen = threading.Event(), [0]

    def look() -> None:
        while not ended.wait(_LOOK_S):
            seen.append(_bytes_below(folder))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        seen.append(_bytes_below(folder))


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # It was renamed or removed meanwhile.
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
