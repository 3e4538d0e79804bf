"""The producer: makes evaluation candidates and epochs ahead of the trainer.

``python -m trainbench.ncf.input.generate --work-dir DIR --parent PID`` is started by the trainer
(``producer.start_producer``). It says that it is alive before it does anything else, waits for the
flagfile, and only then opens the cache. It needs no GPU and imports no TensorFlow.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from trainbench.compliance.emit import emit, logging_to
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.two_clocks import beside
from trainbench.errors import MachineError, TrainbenchError
from trainbench.files import whole_folder, write_atomically, writing
from trainbench.machine.allocator import keep_freed_memory
from trainbench.movielens.cache import RatingsCache, open_cache
from trainbench.ncf.input.epochs import EpochMaker, cycles, piece_bytes
from trainbench.ncf.input.flagfile import GenerationOptions, read_flagfile
from trainbench.ncf.input.heartbeat import Heartbeat
from trainbench.ncf.input.stream.pieces import EpochRecord, Pieces, open_eval
from trainbench.ncf.input.workdir import WorkDir
from trainbench.progress import duration, log_line, scaled
from trainbench.trials.parent_watch import die_with_parent

_POLL_S = 0.05
# Not SIGTERM, with which the trainer itself ends us: then the folder is the trainer's to remove.
_TRAINER_GONE = getattr(signal, "SIGHUP", signal.SIGTERM)


def published(
    work_dir: WorkDir,
    options: GenerationOptions,
    *,
    wait_for_room: Callable[[], object] = lambda: None,
    on_progress: Callable[[], object] = lambda: None,
) -> Iterator[Path]:
    """Make everything a run needs, one folder after the other; yields each once it is complete.

    First the evaluation candidates, then the cycles. ``wait_for_room`` is called before each
    cycle, ``on_progress`` after every small piece of work. Emits the producer's compliance lines.

    Raises:
        DataIntegrityError: the cache is damaged, or a user has rated every item.
        MachineError: the disk is full; the message says how many bytes are needed.
    """
    cache = open_cache(Path(options.cache_folder), verify=False)
    maker = EpochMaker(cache, options, on_progress=on_progress)
    pieces = maker.pieces
    try:
        _require_disk(work_dir, cache, options, pieces)
        yield _publish(work_dir.eval, eval_bytes(cache, options), _eval_writer(maker, options))
        _log_eval(work_dir, cache, options)
        log_line(disk_line(cache, options, pieces))
        for number, parts in enumerate(cycles(options, pieces.count)):
            wait_for_room()
            write = _cycle_writer(work_dir, maker, options, parts)
            needed = len(parts) * piece_bytes(options, pieces)
            yield _publish(work_dir.cycle(number), needed, write)
    finally:
        maker.close()


def eval_bytes(cache: RatingsCache, options: GenerationOptions) -> int:
    """Bytes of the evaluation candidates on disk."""
    return cache.num_users * (options.eval_negatives + 1) * 4 + (1 << 12)


def disk_bytes(cache: RatingsCache, options: GenerationOptions, pieces: Pieces) -> int:
    """Most bytes that a run's work folder takes: candidates, the cycle in use and those ahead."""
    parts = len(next(cycles(options, pieces.count))) * (options.cycles_ahead + 1)
    return eval_bytes(cache, options) + parts * piece_bytes(options, pieces)


def _require_disk(
    work_dir: WorkDir, cache: RatingsCache, options: GenerationOptions, pieces: Pieces
) -> None:
    """Refuse a disk that turns out too small only after the candidates were made.

    Raises:
        MachineError: with the bytes of each part.
    """
    needed, free = disk_bytes(cache, options, pieces), shutil.disk_usage(work_dir.root).free
    if needed > free:
        candidates = eval_bytes(cache, options)
        raise MachineError(
            f"{work_dir.root}: disk full: {needed:,} bytes needed ({candidates:,} for the "
            f"candidates, {needed - candidates:,} for the epochs), {free:,} bytes free; free some "
            "space, or choose another disk with --data-dir, then run again"
        )


def disk_line(cache: RatingsCache, options: GenerationOptions, pieces: Pieces) -> str:
    """The log line that states the bound; an epoch comes in ``pieces``."""
    part = scaled(piece_bytes(options, pieces), "B")
    held = f"{options.epochs_per_cycle} epochs of {part} each"
    if pieces.count > 1:
        held = f"each one of the {pieces.count} pieces of an epoch, at most {part}"
    return (
        f"at most {scaled(disk_bytes(cache, options, pieces), 'B')} on disk: candidates and "
        f"{options.cycles_ahead} cycles ahead of the one in use, {held}"
    )


def _publish(folder: Path, needed_bytes: int, write: Callable[[Path], object]) -> Path:
    """``write`` into a folder under another name, then rename it atomically."""
    part, started = folder.with_name(folder.name + ".part"), time.perf_counter()
    # Nobody reads it after the run, and waiting for the disk would be on the clock.
    with whole_folder(folder, part, durable=False), writing(part, needed_bytes):
        write(part)
    log_line(f"{folder.name} ready after {duration(time.perf_counter() - started)}")
    return folder


def _eval_writer(maker: EpochMaker, options: GenerationOptions) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        emit(tags.INPUT_STEP_EVAL_NEG_GEN)
        maker.write_eval(folder)

    return write


def _cycle_writer(
    work_dir: WorkDir, maker: EpochMaker, options: GenerationOptions, parts: list[tuple[int, int]]
) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        for epoch, piece in parts:
            if piece == 0:
                emit(tags.INPUT_STEP_TRAIN_NEG_GEN)
                emit(tags.INPUT_HP_NUM_NEG, options.train_negatives)
                emit(tags.INPUT_HP_SAMPLE_TRAIN_REPLACEMENT, True)
            target = work_dir.epoch(folder, epoch)
            target.mkdir()
            record = maker.write_piece(epoch, piece, target)
            if piece == 0:
                _log_order(record, options)
            if piece + 1 == record.pieces:
                log_line(epoch_line(record))

    return write


def _log_order(record: EpochRecord, options: GenerationOptions) -> None:
    emit(tags.INPUT_ORDER)
    masked = record.num_repeated if options.last_batch == "mask" else 0
    # The shuffle is over the whole epoch: one shard.
    emit(tags.INPUT_SHARD, record.num_samples - masked)
    emit(tags.INPUT_SIZE, record.num_samples - masked)
    emit(tags.INPUT_BATCH_SIZE, record.batch_size)


def epoch_line(record: EpochRecord) -> str:
    """What the log says of an epoch that was written."""
    return (
        f"epoch {record.epoch}: {record.num_samples:,} samples in {record.steps:,} batches, "
        f"{record.num_repeated} repeated, {record.num_carried} carried over, "
        f"first batch {record.first_batch_sha256}, all batches {record.epoch_sha256}"
    )


def _log_eval(work_dir: WorkDir, cache: RatingsCache, options: GenerationOptions) -> None:
    _, sha256 = open_eval(work_dir.eval)
    emit(tags.CANDIDATES_SHA256, sha256)
    log_line(f"eval candidates: sha256 {sha256}")
    emit(tags.EVAL_HP_NUM_USERS, cache.num_users)
    emit(tags.EVAL_SIZE, cache.num_users * (options.eval_negatives + 1))


def main(argv: list[str] | None = None) -> int:
    """The producer process; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainbench.ncf.input.generate", description=__doc__
    )
    parser.add_argument("--work-dir", type=Path, required=True, help="made by the trainer")
    parser.add_argument("--parent", type=int, required=True, help="the trainer's process number")
    given = parser.parse_args(argv)
    work_dir = WorkDir(given.work_dir)
    _stop_cleanly(work_dir)
    die_with_parent(given.parent, number=_TRAINER_GONE)
    keep_freed_memory()
    try:
        with writing(work_dir.root):
            write_atomically(work_dir.alive, f"process {os.getpid()}\n")
            log_line(f"alive as process {os.getpid()}, waiting for {work_dir.flagfile}")
            _produce(work_dir)
    except TrainbenchError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _produce(work_dir: WorkDir) -> None:
    beat = Heartbeat(work_dir.heartbeat)
    while not work_dir.flagfile.exists():
        beat()
        time.sleep(_POLL_S)
    options = read_flagfile(work_dir.flagfile)
    log_line(f"flagfile found: {options}")

    def wait_for_room() -> None:
        while work_dir.cycles_waiting() >= options.cycles_ahead:
            beat()
            time.sleep(_POLL_S)

    log = Path(options.compliance_file)
    with logging_to(log, clock=beside(log)):
        for _ in published(work_dir, options, wait_for_room=wait_for_room, on_progress=beat):
            beat()
    log_line("all epochs made")


def _stop_cleanly(work_dir: WorkDir) -> None:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        if number == _TRAINER_GONE:
            log_line("the trainer is gone; removing the work folder")
            shutil.rmtree(work_dir.root, ignore_errors=True)
        # Worker threads may be deep in their work, and nothing of it is wanted any more.
        os._exit(128 + number)

    signal.signal(_TRAINER_GONE, stop)
    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C reaches the whole process group; the trainer decides what it means and then ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
