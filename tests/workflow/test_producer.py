"""The producer as a real process: its start, its work, its end, and what can go wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_cache import on_disk, random_cache, small_config

from trainbench.compliance import keys
from trainbench.config import NcfConfig, ml_1m
from trainbench.data import archive, datasets, preprocess
from trainbench.data.cache import RatingsCache, open_cache
from trainbench.errors import ConfigError, DataIntegrityError, MachineError, TrainbenchError
from trainbench.ncf.epochs import hash_batches
from trainbench.ncf.flagfile import GenerationOptions
from trainbench.ncf.generate import disk_bytes
from trainbench.ncf.producer import Producer, start_producer
from trainbench.paths import DataDir

PROCESS = small_config(use_subprocess=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> RatingsCache:
    return on_disk(random_cache(400, 120, seed=4), tmp_path_factory.mktemp("cache") / "small")


@pytest.fixture
def start(cache: RatingsCache, tmp_path: Path) -> Iterator[Callable[..., Producer]]:
    with contextlib.ExitStack() as stack:

        def start(config: NcfConfig = PROCESS, seed: int = 5, **options: object) -> Producer:
            given = {
                "work_dir": tmp_path / "work",
                "log_file": tmp_path / "generator.log",
                "compliance_file": tmp_path / "compliance_generator.log",
                "cache": cache,
                **options,
            }
            producer = start_producer(config=config, seed=seed, **given)  # type: ignore[arg-type]
            return stack.enter_context(producer)

        yield start


def work_folders(parent: Path) -> list[Path]:
    return sorted(parent.glob("ncf-*"))


def pid_of(producer: Producer) -> int:
    return int(producer._meeting.alive.read_text().split()[1])


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def take_all(producer: Producer, epochs: int) -> list[str]:
    """Hashes of the candidates and of all epochs, each computed from what was received."""
    candidates = hashlib.sha256(producer.eval_candidates().items.tobytes()).hexdigest()
    received = [producer.next_epoch() for _ in range(epochs)]
    assert [data.epoch for data in received] == list(range(epochs))
    hashes = [hash_batches(data) for data in received]
    assert hashes == [(data.first_batch_sha256, data.epoch_sha256) for data in received]
    return [candidates, *(all_batches for _, all_batches in hashes)]


def ml_1m_cache(shared_dir: Path, folder: Path) -> RatingsCache:
    data, dataset = DataDir(folder / "data"), datasets.dataset("ml-1m")
    source = shared_dir / "data" / "ml-1m.zip"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    archive.download(dataset, data, archive=source, sha256=digest)
    return open_cache(preprocess.run(ml_1m(), data), verify=True)


# Order and content


def test_the_producer_touches_no_data_before_the_flagfile(
    start: Callable[..., Producer], cache: RatingsCache
) -> None:
    producer = start()
    pid = pid_of(producer)
    time.sleep(0.5)
    assert [p.name for p in producer._meeting.root.glob("*") if p.is_dir()] == []
    assert str(cache.folder) not in Path(f"/proc/{pid}/maps").read_text()
    producer.release()
    assert producer.eval_candidates().items.shape == (400, 10)
    assert str(cache.folder) in Path(f"/proc/{pid}/maps").read_text()


def test_the_producer_sees_no_gpu_and_has_no_tensorflow(start: Callable[..., Producer]) -> None:
    producer = start()
    producer.release()
    producer.next_epoch()
    pid = pid_of(producer)
    assert b"\0CUDA_VISIBLE_DEVICES=\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    assert "tensorflow" not in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize("last_batch", ["pad", "spillover"])
def test_workers_cycles_and_process_modes_do_not_change_a_byte(
    start: Callable[..., Producer], last_batch: str
) -> None:
    hashes = []
    for workers, per_cycle, ahead, subprocess_ in [
        (1, 1, 1, True),
        (4, 2, 2, True),
        (2, 3, 1, False),
    ]:
        config = small_config(
            generator_workers=workers,
            epochs_per_cycle=per_cycle,
            cycles_ahead=ahead,
            use_subprocess=subprocess_,
            last_batch=last_batch,
        )
        producer = start(config)
        producer.release()
        hashes.append(take_all(producer, config.max_epochs))
        producer.close()
    assert len({tuple(of_run) for of_run in hashes}) == 1
    assert len(set(hashes[0])) == 4


def test_ml_1m_has_one_hash_for_1_2_and_4_workers(
    start: Callable[..., Producer], shared_dir: Path, tmp_path: Path
) -> None:
    cache = ml_1m_cache(shared_dir, tmp_path)
    hashes = []
    for workers in (1, 2, 4):
        config = dataclasses.replace(ml_1m(), max_epochs=1, generator_workers=workers)
        producer = start(config, cache=cache)
        producer.release()
        hashes.append(take_all(producer, 1))
        producer.close()
    assert hashes[0] == hashes[1] == hashes[2]


def test_another_seed_gives_other_bytes(start: Callable[..., Producer]) -> None:
    config = small_config()
    hashes = []
    for seed in (1, 2):
        producer = start(config, seed=seed)
        producer.release()
        hashes += take_all(producer, 3)
    assert len(set(hashes)) == 8


def test_the_wait_is_measured(start: Callable[..., Producer]) -> None:
    producer = start()
    producer.release()
    assert producer.eval_candidates().wait_s > 0
    waited = producer.next_epoch().wait_s
    assert waited > 0
    assert eventually(lambda: producer._meeting.cycle(1).exists())
    assert producer.next_epoch().wait_s < 0.2


def test_the_compliance_log_says_what_was_generated(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    for use_subprocess in (True, False):
        producer = start(small_config(max_epochs=1, use_subprocess=use_subprocess))
        producer.release()
        take_all(producer, 1)
        producer.close()
    lines = (tmp_path / "compliance_generator.log").read_text().splitlines()
    said = [line.partition(") ")[2] for line in lines]
    assert said[: len(said) // 2] == said[len(said) // 2 :]
    tags = [text.partition(":")[0] for text in said[: len(said) // 2]]
    assert tags == [
        keys.INPUT_STEP_EVAL_NEG_GEN,
        keys.EVAL_HP_NUM_USERS,
        keys.EVAL_SIZE,
        keys.INPUT_STEP_TRAIN_NEG_GEN,
        keys.INPUT_HP_NUM_NEG,
        keys.INPUT_HP_SAMPLE_TRAIN_REPLACEMENT,
        keys.INPUT_ORDER,
        keys.INPUT_SHARD,
        keys.INPUT_SIZE,
        keys.INPUT_BATCH_SIZE,
    ]
    assert "eval_hp_num_users: 400" in said
    assert "eval_size: 4000" in said


def test_the_disk_holds_no_more_than_was_stated(
    start: Callable[..., Producer], cache: RatingsCache, tmp_path: Path
) -> None:
    config = small_config(use_subprocess=True, max_epochs=9, epochs_per_cycle=2, cycles_ahead=1)
    producer = start(config)
    producer.release()
    options = GenerationOptions.of(
        config, cache_folder=cache.folder, compliance_file=tmp_path, seed=5
    )
    bound = disk_bytes(cache, options)
    root = producer._meeting.root
    for _ in range(3):
        producer.next_epoch()
        time.sleep(0.3)
        on_disk_now = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
        assert on_disk_now <= bound
        assert len(list(root.glob("*cycle_*")) + list(root.glob("in_use_*"))) <= 2
    assert f"{bound / 1e6:.2f} MB on disk" in (tmp_path / "generator.log").read_text()


def test_asking_beyond_the_last_epoch_is_an_error(start: Callable[..., Producer]) -> None:
    producer = start(small_config(use_subprocess=True, max_epochs=1))
    producer.release()
    producer.next_epoch()
    with pytest.raises(TrainbenchError, match="max_epochs is 1"):
        producer.next_epoch()


# Endings


def test_closing_twice_leaves_no_process_and_no_file(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    producer = start()
    pid = pid_of(producer)
    producer.release()
    producer.next_epoch()
    producer.close()
    producer.close()
    assert not running(pid)
    assert work_folders(tmp_path / "work") == []


def test_a_producer_killed_in_a_cycle_stops_the_trainer_with_its_last_words(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    producer = start(small_config(use_subprocess=True, max_epochs=500, cycles_ahead=400))
    producer.release()
    assert eventually(lambda: any(producer._meeting.root.glob("cycle_*.part")))
    os.kill(pid_of(producer), signal.SIGKILL)
    assert eventually(lambda: not running(pid_of(producer)))
    with pytest.raises(
        TrainbenchError, match=r"ended with signal 9(.|\n)*alive as process"
    ) as caught:
        producer.next_epoch()
    assert str(tmp_path / "generator.log") in str(caught.value).splitlines()[0]
    with pytest.raises(TrainbenchError, match="signal 9"):
        producer.check()


def test_a_producer_that_hangs_stops_the_trainer(start: Callable[..., Producer]) -> None:
    producer = start(hung_after_s=3.0)
    pid = pid_of(producer)
    os.kill(pid, signal.SIGSTOP)
    producer.release()
    with pytest.raises(TrainbenchError, match=r"hangs: no sign of work for \d+ s"):
        producer.next_epoch()
    producer.close()
    assert not running(pid)


def test_waiting_for_the_trainer_is_not_hanging(start: Callable[..., Producer]) -> None:
    producer = start(small_config(use_subprocess=True, cycles_ahead=1), hung_after_s=2.5)
    producer.release()
    for _ in range(32):
        producer.check()
        time.sleep(0.1)


def test_a_producer_without_a_sign_of_life_is_given_up(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    silent = (sys.executable, "-c", "print('no idea'); import time; time.sleep(60)")
    with pytest.raises(TrainbenchError, match="gave no sign of life in 1 s"):
        start(command=silent, alive_timeout_s=1.0)
    assert work_folders(tmp_path / "work") == []


def test_a_producer_that_dies_at_birth_is_reported(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    failing = (sys.executable, "-c", "raise SystemExit('no such module')")
    with pytest.raises(TrainbenchError, match=r"exit code 1 before it was alive(.|\n)*no such mod"):
        start(command=failing)
    assert work_folders(tmp_path / "work") == []


def test_an_unknown_key_in_the_flagfile_stops_both(start: Callable[..., Producer]) -> None:
    producer = start()
    part = producer._meeting.root / "part"
    part.write_text("--sed=5\n")
    part.rename(producer._meeting.flagfile)
    producer._released = True
    with pytest.raises(ConfigError, match=r"exit code 2(.|\n)*unknown key 'sed'; did you mean"):
        producer.next_epoch()


def test_a_damaged_cache_is_a_matter_of_data_integrity(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    broken = on_disk(random_cache(5, 9), tmp_path / "broken")
    (tmp_path / "broken" / "items.npy").write_bytes(b"nothing")
    producer = start(cache=broken)
    producer.release()
    with pytest.raises(DataIntegrityError, match=r"exit code 3(.|\n)*items.npy"):
        producer.next_epoch()


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
    from trainbench.data.cache import open_cache
    from trainbench.ncf.producer import start_producer
    cache, base = open_cache(Path(sys.argv[1]), verify=False), Path(sys.argv[2])
    config = small_config(use_subprocess=True, max_epochs=1000)
    files = {"log_file": base / "generator.log", "compliance_file": base / "c.log"}
    with start_producer(cache, config, seed=1, work_dir=base / "work", **files) as producer:
        producer.release()
        producer.next_epoch()
        print(producer._meeting.alive.read_text().split()[1], flush=True)
        time.sleep(60)
    """
)


@contextlib.contextmanager
def trainer(cache: RatingsCache, base: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A trainer in a process of its own, with the number of its producer's process."""
    tests = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", TRAINER, str(cache.folder), str(base)]
    environment = {**os.environ, "PYTHONPATH": str(tests)}
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
        assert eventually(lambda: not running(producer), 10)
    assert work_folders(tmp_path / "work") == []
    assert "the trainer is gone" in (tmp_path / "generator.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_trainer_leaves_nothing(
    cache: RatingsCache, tmp_path: Path, number: signal.Signals
) -> None:
    with trainer(cache, tmp_path) as (process, producer):
        process.send_signal(number)
        process.wait(20)
        assert eventually(lambda: not running(producer), 10)
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
    assert work_folders(tmp_path / "work") == [following._meeting.root]
    assert following._meeting.root != left[0]


def test_two_runs_in_one_data_directory_do_not_meet(start: Callable[..., Producer]) -> None:
    first, second = start(), start()
    first.release()
    second.release()
    assert first._meeting.root != second._meeting.root
    assert take_all(first, 3) == take_all(second, 3)
    first.close()
    assert second._meeting.root.is_dir()


# A full disk


@pytest.fixture(params=["400k"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = tmp_path / "small_disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_too_small_for_a_cycle_is_told_with_the_bytes(
    start: Callable[..., Producer], small_disk: Path
) -> None:
    producer = start(work_dir=small_disk / "work")
    producer.release()
    assert producer.eval_candidates().items.shape == (400, 10)
    with pytest.raises(
        MachineError, match=r"exit code 6(.|\n)*[\d,]{7,} bytes needed, [\d,]+ bytes"
    ):
        producer.next_epoch()


@pytest.mark.parametrize("small_disk", ["1500k"], indirect=True)
def test_a_disk_that_fills_up_while_writing_is_told_the_same_way(
    start: Callable[..., Producer], small_disk: Path
) -> None:
    producer = start(work_dir=small_disk / "work")
    producer.release()
    assert eventually(lambda: any(producer._meeting.root.glob("cycle_*.part")))
    with contextlib.suppress(OSError):
        (small_disk / "other").write_bytes(bytes(2 << 20))
    with pytest.raises(MachineError, match=r"disk full: [\d,]+ bytes needed, [\d,]+ bytes free"):
        producer.next_epoch()
