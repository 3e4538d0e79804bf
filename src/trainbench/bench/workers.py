"""Several workers on this machine, a core each, against one with one core.

``trainbench bench scale --workers`` prints a table. One case of it, as JSON, with other settings:

    python -m trainbench.bench.workers --workers 2 --tables sharded --batch 65536

Each worker is a process of its own that joins the others as machines do. It trains on random
samples of its own slices: the input is not part of what is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from trainbench.errors import ConfigError, MachineError
from trainbench.machine import allotment
from trainbench.machine.system import cpu, held_bytes
from trainbench.ncf.config import NcfConfig, divisible, reference, with_settings
from trainbench.ncf.input.batches import MemoryBatches
from trainbench.progress import heartbeat, scaled
from trainbench.trials import child
from trainbench.trials.parent_watch import die_with_parent

BATCHES = (65_536, 2_048)
TABLES = ("sharded", "mirrored")
JOIN_TIMEOUT_S = 120.0
_TIMEOUT_S = 600.0
_SAMPLES_PER_CALL = 524_288
_MOST_STEPS_PER_CALL = 64
_NEGATIVES = 4


@dataclass(frozen=True)
class Case:
    """One measurement.

    seconds: how long steps are timed, at least; the ones that compile come before.
    settings: ``key=value`` of the configuration beside these.
    """

    workers: int
    tables: str = "sharded"
    batch: int = 65_536
    users: int = 40_000
    items: int = 10_000
    precision: str = "fp32"
    seconds: float = 8.0
    settings: tuple[str, ...] = ()

    def config(self) -> NcfConfig:
        """The configuration that is timed."""
        calls = max(1, min(_MOST_STEPS_PER_CALL, _SAMPLES_PER_CALL // self.batch))
        config = replace(
            reference(),
            batch_size=self.batch,
            steps_per_call=calls,
            precision=self.precision,
            tables=self.tables,
            devices="cpu",
            division="open",
        )
        return with_settings(config, self.settings)


@dataclass(frozen=True)
class Row:
    """One line of the table: ``workers`` with ``tables`` against one with one core.

    Attributes:
        tables: of several workers; one has whole ones.
        times: as many samples per second as the one worker. efficiency: of that, per worker.
        sent_bytes: what worker 0 sends in a step. What travels of divided tables is counted. All
            sums (of mirrored tables this is all) are computed as a ring sends them, not counted.
        peak_bytes: of the process that held most.
        shared_cores: more workers than physical cores, so this is no speed of machines.
    """

    batch: int
    workers: int
    tables: str | None
    samples_per_s: float
    times: float
    efficiency: float
    sent_bytes: int
    peak_bytes: int
    shared_cores: bool

    def text(self) -> str:
        """The line."""
        sent = scaled(self.sent_bytes, "B") if self.sent_bytes else "-"
        shared = "  shared cores" if self.shared_cores else ""
        return (
            f"{self.batch:>11,}{self.workers:>9}  {self.tables or '-':10}"
            f"{self.samples_per_s:>13,.0f}"
            f"{self.times:>8.2f}{self.efficiency:>11.0%}{sent:>12}"
            f"{self.peak_bytes / 2**30:>9.2f} GiB{shared}"
        )


HEADING = (
    f"{'batch':>11}{'workers':>9}  {'tables':10}{'samples/s':>13}{'times':>8}{'efficiency':>11}"
    f"{'sent a step':>12}{'memory':>13}"
)


def run(
    workers: int, *, batches: Sequence[int] = BATCHES, repeats: int = 1, as_json: bool = False
) -> list[Row]:
    """Measure ``workers`` against one, and print the table, or JSON, to stdout.

    The JSON is ``cpu``, as in system.json, and ``rows``: the fields of each ``Row``.

    Raises:
        ConfigError: a batch that they cannot share. MachineError: a worker failed, or took too
            long.
    """
    for batch in batches:
        if batch % workers:
            raise ConfigError(
                f"a batch of {batch} cannot be divided among {workers} workers; take one that can, "
                f"as {divisible(batch, workers)}"
            )
    case, machine = Case(workers), cpu()
    if not as_json:
        print(
            f"{workers} workers, a core each, against one with one core; {machine['model']}, "
            f"{machine['cores']} cores, {machine['threads']} threads\n"
            f"{case.users:,} users, {case.items:,} items, {case.precision}, without input; median "
            f"of {repeats}; of mirrored tables, sent a step is computed for a ring, not counted\n"
            f"{HEADING}"
        )
    rows: list[Row] = []
    for batch in batches:
        for row in rows_of(replace(case, batch=batch), repeats):
            rows.append(row)
            if not as_json:
                print(row.text(), flush=True)
    if as_json:
        print(json.dumps({"cpu": machine, "rows": [asdict(row) for row in rows]}, indent=2))
    return rows


def rows_of(case: Case, repeats: int) -> Iterator[Row]:
    """One worker, and the workers of ``case`` with either kind of tables; by turns."""
    cases = [replace(case, workers=1), *(replace(case, tables=tables) for tables in TABLES)]
    found: list[list[dict[str, Any]]] = [[] for _ in cases]
    for _ in range(repeats):
        for one, results in zip(cases, found, strict=True):
            what = f"{one.workers} workers, {one.tables}" if one.workers > 1 else "one worker"
            with heartbeat(f"measuring {what}, batch {one.batch:,}"):
                results.append(measured(one))
    alone = 0.0
    for one, results in zip(cases, found, strict=True):
        speed = statistics.median(result["samples_per_s"] for result in results)
        alone = alone or speed
        traffic = results[0]["traffic"]
        yield Row(
            batch=one.batch,
            workers=one.workers,
            tables=one.tables if one.workers > 1 else None,
            samples_per_s=speed,
            times=speed / alone,
            efficiency=speed / alone / one.workers,
            sent_bytes=traffic["bytes_per_step"] if traffic else 0,
            peak_bytes=max(part["peak_rss_bytes"] for r in results for part in r["each"]),
            shared_cores=results[0]["shared_cores"],
        )


def some_batches(case: Case, steps: int, columns: int, seed: int) -> MemoryBatches:
    """One sample of five has a popular item, the others any: as an epoch's have."""
    rng, shape = np.random.default_rng(seed), (steps, columns)
    rated = rng.random(shape) * (1 + _NEGATIVES) < 1
    popular = (rng.random(shape) ** 3 * case.items).astype(np.int32)
    items = np.where(rated, popular, rng.integers(0, case.items, shape, np.int32))
    users = (rng.random(shape) ** 1.5 * case.users).astype(np.int32)
    return MemoryBatches(users, items, rated.astype(np.uint8))


def measured(case: Case) -> dict[str, Any]:
    """Samples per second of ``case``, and what each worker sent and held; of worker 0.

    Raises:
        MachineError: a worker failed, and its last line is in the message; or it took too long.
    """
    said = _ended(case)
    failed = [
        f"worker {index} of {case.workers}: {child.last_error(errors) or 'it said nothing'}"
        for index, (code, _, errors) in enumerate(said)
        if code
    ]
    if failed:
        raise MachineError(f"ended: {'; '.join(failed)}; run it again with fewer workers")
    found = [json.loads(output.splitlines()[-1]) for _, output, _ in said]
    shared = case.workers > allotment.cores()
    return {**vars(case), **found[0], "shared_cores": shared, "each": found}


def _ended(case: Case) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each worker of ``case``."""
    started: list[subprocess.Popen[str]] = []
    # All are read at once: one whose pipe is full would stop the others too.
    with ThreadPoolExecutor(case.workers) as pool:
        try:
            started += map(_started, _parts(case))
            said = pool.map(lambda process: process.communicate(timeout=_TIMEOUT_S), started)
            return [(p.returncode, *told) for p, told in zip(started, said, strict=True)]
        except subprocess.TimeoutExpired:
            raise MachineError(
                f"{case.workers} workers, batch {case.batch:,}: not done within {_TIMEOUT_S:g} s; "
                "run it again with fewer workers, or give bench scale a smaller --batch"
            ) from None
        finally:
            for process in started:
                process.kill()
                process.wait()


def _started(part: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "trainbench.bench.workers", "--part", part]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _parts(case: Case) -> list[str]:
    """What each worker is told."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in _range(case)]
        addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    told = {"case": vars(case), "addresses": addresses, "parent": os.getpid()}
    return [json.dumps({**told, "index": index}) for index in _range(case)]


def _range(case: Case) -> range:
    return range(case.workers)


def _part(case: Case, addresses: Sequence[str], index: int) -> dict[str, Any]:
    """One worker's part; it has a core of its own as far as there are enough."""
    if hasattr(os, "sched_setaffinity"):
        cores = allotment.cpu_of_each_core()
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    from trainbench.distribution.cluster import cluster_of_workers
    from trainbench.distribution.join import together
    from trainbench.distribution.liveness import Liveness, end_process
    from trainbench.ncf.devices import join_workers
    from trainbench.ncf.train import build

    config, sizes = case.config(), (case.users, case.items)
    if case.workers == 1:
        return _timed(case, build(config, *sizes, seed=1), 0)
    cluster = cluster_of_workers(addresses, index)
    watch = Liveness(cluster, timeout_s=JOIN_TIMEOUT_S, option="the time to join", lost=end_process)
    replicas = join_workers(config, watch)
    with together(watch, replicas.meet):
        return _timed(case, build(config, *sizes, seed=1, replicas=replicas), index)


def _timed(case: Case, trainer: Any, index: int) -> dict[str, Any]:
    config, divided = trainer.config, hasattr(trainer.step, "traffic")
    # What is not divided gets the whole batch, which must be the same everywhere.
    columns = case.batch // case.workers if divided else case.batch
    data = some_batches(case, 2 * config.steps_per_call, columns, index if divided else 0)
    trainer.warm_up()
    trainer.train_epoch(data)
    first = trainer.train_epoch(data)
    epochs = max(1, round(case.seconds / first.seconds))
    if trainer.replicas:
        epochs = int(trainer.replicas.wire.gathered(np.array([epochs], np.int32)).max())
    busy, started = time.process_time(), time.perf_counter()
    samples = sum(trainer.train_epoch(data).samples for _ in range(epochs))
    seconds = time.perf_counter() - started
    busy = time.process_time() - busy
    return {
        "samples_per_s": samples / seconds,
        "ms_per_step": 1e3 * seconds * case.batch / samples,
        "cpu_share": busy / seconds,
        "peak_rss_bytes": held_bytes(os.getpid()),
        "traffic": _traffic(case, trainer.step),
    }


def _traffic(case: Case, step: Any) -> dict[str, Any] | None:
    """What this worker sends in a step; of whole tables all is summed in a ring."""
    if hasattr(step, "traffic"):
        found: dict[str, Any] | None = step.traffic.record()
        return found
    if case.workers == 1:
        return None
    return {"bytes_per_step": 2 * (case.workers - 1) * step.summed_bytes // case.workers}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one case and print it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m trainbench.bench.workers", description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes, each with a core")
    parser.add_argument("--tables", default="sharded", help="sharded or mirrored")
    parser.add_argument("--batch", type=int, default=65_536, help="samples of a step")
    parser.add_argument("--users", type=int, default=40_000, help="users of the model")
    parser.add_argument("--items", type=int, default=10_000, help="items of the model")
    parser.add_argument("--precision", default="fp32", help="fp32 or bf16")
    parser.add_argument("--seconds", type=float, default=8.0, help="timed at least so long")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="key=value")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = vars(parser.parse_args(argv))
    part = given.pop("part")
    if part is None:
        print(json.dumps(measured(Case(**{**given, "settings": tuple(given["settings"])}))))
        return 0
    told = json.loads(part)
    # Not SIGTERM, which TensorFlow catches once workers have joined. There is nothing to clean up.
    die_with_parent(told["parent"], number=signal.SIGKILL)
    case = Case(**{**told["case"], "settings": tuple(told["case"]["settings"])})
    print(json.dumps(_part(case, told["addresses"], told["index"])), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
