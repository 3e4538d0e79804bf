"""What the pipeline's steps cost as the ratings grow: time, memory and disk, and each per pair.

Every step runs as a process of its own, as in a workflow, so its peak memory is its own; the start
of Python is part of its time. Ratings are generated with ml-20m's items and ratings per user, and
grow by users; the largest size is an expansion of them, as ml-20mx16x32 is of ml-20m. A cost per
pair that stays flat is a pipeline that scales.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from trainbench import configuration
from trainbench.bench.data import ITEMS, PAIRS, USERS
from trainbench.errors import ConfigError, MachineError
from trainbench.machine import allotment
from trainbench.machine.system import cpu
from trainbench.movielens.cache import find_cache, open_cache
from trainbench.movielens.datasets import Expansion, SyntheticSize, read_manifest
from trainbench.ncf.config import NcfConfig, from_json, mlperf, rehearsal
from trainbench.ncf.input.epochs import EpochMaker
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.progress import heartbeat
from trainbench.trials.paths import DataDir

SIZES = (1_000_000, 10_000_000, 60_000_000)
FULL = Expansion(16, 32)
"""By what ml-20mx16x32 is an expansion of ml-20m: to 1.22 billion pairs."""

FEWEST_PAIRS = 2_000
STEPS = ("download", "preprocess", "candidates", "epoch", "train")
TRAIN_STEPS = 16
_RATINGS_PER_ITEM = 20
_LOOK_S = 0.5


@dataclass(frozen=True)
class Cost:
    """One step at one size.

    Attributes:
        seconds, cpu_s: by the clock, and of all threads and processes. Of ``train``, the steps
            alone: TensorFlow's start and compilation do not grow with the pairs.
        peak_bytes: the most resident memory of the process that held most.
        disk_bytes: what the step added at its fullest, temporary files included.
        samples: what was trained, where the step is ``train``.
    """

    pairs: int
    step: str
    seconds: float
    cpu_s: float
    peak_bytes: int
    disk_bytes: int
    samples: int | None = None

    @property
    def per(self) -> float:
        """Nanoseconds of CPU time per pair, of ``train`` per trained sample."""
        return 1e9 * self.cpu_s / (self.samples or self.pairs)

    def row(self) -> str:
        """One line of the table."""
        unit = "sample" if self.samples else "pair"
        return (
            f"{self.pairs / 1e6:10.2f} M  {self.step:11}{self.seconds:9.1f} s{self.cpu_s:9.1f} s"
            f"{self.peak_bytes / 2**30:9.2f} GiB{self.disk_bytes / 1e9:9.3f} GB"
            f"{self.per:10.1f} ns/{unit}"
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
    folder: Path | None = None,
    as_json: bool = False,
) -> list[Cost]:
    """Measure ``steps`` at every size and print the table, or JSON, to stdout.

    The steps need each other in their order, so the ones before the last wanted run too. ``full``:
    at the size of ml-20mx16x32 as well.

    Raises:
        ConfigError: a size that is too small. MachineError: a step failed; its last line is told.
    """
    if min(sizes, default=FEWEST_PAIRS) < FEWEST_PAIRS:
        raise ConfigError(f"pairs={min(sizes):,}: wanted at least {FEWEST_PAIRS:,}")
    until = max(STEPS.index(step) for step in steps)
    machine = cpu()
    if not as_json:
        cores = allotment.cpus()
        print(f"pipeline by size, {machine['model']}, {cores} threads\n{HEADING}", flush=True)
    costs = []
    for config in [*map(config_of, sizes), *([expansion_of(rehearsal(), FULL)] if full else [])]:
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
                process.kill()
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
        if step == "train":
            cost = replace(cost, **json.loads(_text(out)))
    return replace(cost, disk_bytes=max(0, max(fullest) - before))


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
    if step not in ("download", "preprocess"):
        part = [step, str(folder), str(train_steps), configuration.to_json(config)]
        return [sys.executable, "-m", "trainbench.bench.scale", *part]
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
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # It was renamed or removed meanwhile.
            continue
    return total


def _part(step: str, folder: Path, train_steps: int, config: NcfConfig) -> None:
    """One of the steps that have no command of their own."""
    cache = open_cache(find_cache(config.split_spec, DataDir(folder)), verify=False)
    if step == "train":
        _train(config, (cache.num_users, cache.num_items), train_steps)
        return
    options = GenerationOptions.of(
        config, cache_folder=cache.folder, compliance_file=folder, seed=1
    )
    out = folder / step
    out.mkdir()
    maker = EpochMaker(cache, options)
    if step == "candidates":
        maker.write_eval(out)
    else:
        for piece in range(maker.pieces):
            # Over the one before, as a trainer that keeps up leaves one at a time.
            maker.write_piece(0, piece, out)
    maker.close()


def _train(config: NcfConfig, geometry: tuple[int, int], steps: int) -> None:
    # Only here: the other steps need no TensorFlow, and their memory would be its.
    from trainbench.ncf.input.batches import random_batches
    from trainbench.ncf.train import build

    trainer = build(config, *geometry, seed=1)
    batches = random_batches(geometry, steps=steps, batch=config.batch_size)
    trainer.warm_up()
    trainer.train_epoch(batches)  # Compiles, and touches every table for the first time.
    before, started = time.process_time(), time.perf_counter()
    samples = trainer.train_epoch(batches).samples
    seconds = time.perf_counter() - started
    cpu_s = time.process_time() - before
    print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "samples": samples}))


if __name__ == "__main__":
    _part(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), from_json(sys.argv[4]))
