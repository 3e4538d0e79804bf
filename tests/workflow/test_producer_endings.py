"""The ends of a producer's process: closed, killed, hung, left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkout import FIXTURES
from processes import running, wait_until
from producer_process import await_beat, kill, pid_of, suspend, take_all, work_folders
from small_cache import on_disk, random_cache, small_config

from trainbench.errors import ConfigError, DataIntegrityError, TrainbenchError
from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.input.producer import LAST_LINES, Producer


def test_closing_twice_leaves_no_process_and_no_file(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    producer = start()
    pid = pid_of(producer)
    producer.release()
    producer.next_piece()
    producer.close()
    producer.close()
    assert not running(pid)
    assert work_folders(tmp_path / "work") == []


def test_a_producer_killed_in_a_cycle_stops_the_trainer_with_its_last_words(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    producer = start(small_config(generator="subprocess", max_epochs=500, cycles_ahead=400))
    producer.release()
    wait_until(lambda: any(producer._work_dir.root.glob("cycle_*.part")))
    kill(producer)
    with pytest.raises(TrainbenchError, match="ended with signal 9") as caught:
        producer.next_piece()
    log = tmp_path / "generator.log"
    lines = log.read_text().splitlines()[-LAST_LINES:]
    assert lines
    assert str(caught.value).endswith(f"the last lines of {log}: {' | '.join(lines)}")
    with pytest.raises(TrainbenchError, match="signal 9"):
        producer.check()


def test_a_producer_that_hangs_stops_the_trainer(start: Callable[..., Producer]) -> None:
    producer = start(hung_after_s=0.5)
    pid = pid_of(producer)
    suspend(producer)
    producer.release()
    with pytest.raises(TrainbenchError, match=r"hangs: no progress for \d+ s"):
        producer.next_piece()
    producer.close()
    assert not running(pid)


def test_waiting_for_the_trainer_is_not_hanging(
    start: Callable[..., Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = start(small_config(generator="subprocess", cycles_ahead=1), hung_after_s=4.0)
    producer.release()
    wait_until(producer._work_dir.cycle(0).exists)
    real, skipped_s = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: real() + skipped_s)
    for _ in range(2):
        await_beat(producer)
        skipped_s += 5.0
        producer.check()
    await_beat(producer)
    suspend(producer)
    producer.check()
    skipped_s += 5.0
    with pytest.raises(TrainbenchError, match="hangs"):
        producer.check()


def test_a_producer_without_a_sign_of_life_is_given_up(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    silent = (sys.executable, "-c", "print('no idea'); import time; time.sleep(60)")
    with pytest.raises(TrainbenchError, match="did not start within 1 s"):
        start(command=silent, alive_timeout_s=1.0)
    assert work_folders(tmp_path / "work") == []


def test_a_producer_that_dies_at_birth_is_reported(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    failing = (sys.executable, "-c", "raise SystemExit('no such module')")
    with pytest.raises(TrainbenchError, match=r"exit code 1 before it was alive(.|\n)*no such mod"):
        start(command=failing)
    assert work_folders(tmp_path / "work") == []


def test_of_a_producers_traceback_what_was_raised_is_told(start: Callable[..., Producer]) -> None:
    failing = (sys.executable, "-c", "raise LookupError('no such thing')")
    with pytest.raises(TrainbenchError, match=r"generator.log: LookupError: no such thing$"):
        start(command=failing)


def test_ctrl_c_while_the_producer_still_imports_is_for_the_trainer(
    start: Callable[..., Producer],
) -> None:
    interrupted = (
        "import os, signal, sys; os.kill(os.getpid(), signal.SIGINT); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    producer = start(
        command=(sys.executable, "-c", interrupted, "-m", "trainbench.ncf.input.generate")
    )
    producer.release()
    producer.next_piece()


def test_an_unknown_key_in_the_flagfile_stops_both(start: Callable[..., Producer]) -> None:
    producer = start()
    part = producer._work_dir.root / "part"
    part.write_text("--sed=5\n")
    part.rename(producer._work_dir.flagfile)
    producer._released = True
    with pytest.raises(ConfigError, match=r"exit code 2(.|\n)*unknown key 'sed'; did you mean"):
        producer.next_piece()


def test_a_damaged_cache_is_a_matter_of_data_integrity(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    broken = on_disk(random_cache(5, 9), tmp_path / "broken")
    (tmp_path / "broken" / "items.npy").write_bytes(b"nothing")
    producer = start(cache=broken)
    producer.release()
    with pytest.raises(DataIntegrityError, match=r"exit code 3(.|\n)*items.npy"):
        producer.next_piece()


def test_a_cache_without_training_pairs_is_refused(start: Callable[..., Producer]) -> None:
    empty = dataclasses.replace(random_cache(2, 9), users=random_cache(2, 9).users[:0])
    with pytest.raises(DataIntegrityError, match="no training pair"):
        start(cache=empty)


def test_spillover_needs_an_epoch_of_at_least_one_batch(start: Callable[..., Producer]) -> None:
    with pytest.raises(ConfigError, match=r"batch_size=9000000: an epoch has \d+ samples"):
        start(small_config(last_batch="spillover", batch_size=9_000_000))


TRAINER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from small_cache import small_config
    from trainbench.movielens.cache import open_cache
    from trainbench.ncf.input.producer import start_producer
    cache, base = open_cache(Path(sys.argv[1]), verify=False), Path(sys.argv[2])
    config = small_config(generator="subprocess", max_epochs=1000)
    files = {"log_file": base / "generator.log", "compliance_file": base / "c.log"}
    with start_producer(cache, config, seed=1, work_dir=base / "work", **files) as producer:
        producer.release()
        producer.next_piece()
        print(producer._work_dir.alive.read_text().split()[1], flush=True)
        time.sleep(60)
    """
)


@contextlib.contextmanager
def trainer(cache: RatingsCache, base: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A trainer in a process of its own, with the number of its producer's process."""
    command = [sys.executable, "-c", TRAINER, str(cache.folder), str(base)]
    environment = {**os.environ, "PYTHONPATH": str(FIXTURES)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_the_producer_dies_with_a_killed_trainer_and_takes_its_files_along(
    cache: RatingsCache, tmp_path: Path
) -> None:
    with trainer(cache, tmp_path) as (process, producer):
        assert running(producer)
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not running(producer))
    assert work_folders(tmp_path / "work") == []
    assert "the trainer is gone" in (tmp_path / "generator.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_trainer_leaves_nothing(
    cache: RatingsCache, tmp_path: Path, number: signal.Signals
) -> None:
    with trainer(cache, tmp_path) as (process, producer):
        process.send_signal(number)
        process.wait(20)
        wait_until(lambda: not running(producer))
    assert work_folders(tmp_path / "work") == []


def test_what_a_machine_crash_left_is_removed_by_the_next_run(
    cache: RatingsCache, tmp_path: Path, start: Callable[..., Producer]
) -> None:
    with trainer(cache, tmp_path) as (process, producer):
        os.kill(producer, signal.SIGKILL)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    left = work_folders(tmp_path / "work")
    assert len(left) == 1
    following = start()
    assert work_folders(tmp_path / "work") == [following._work_dir.root]
    assert following._work_dir.root != left[0]


def test_two_runs_in_one_data_directory_do_not_meet(start: Callable[..., Producer]) -> None:
    first, second = start(), start()
    first.release()
    second.release()
    assert first._work_dir.root != second._work_dir.root
    assert take_all(first, 3) == take_all(second, 3)
    first.close()
    assert second._work_dir.root.is_dir()
