"""The producer as a real process: the order of its work and what it makes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import wait_until
from producer_process import await_beat, pid_of, suspend, take_all
from small_cache import small_config

from trainbench.compliance.tags import ncf as tags
from trainbench.errors import TrainbenchError
from trainbench.movielens import archive, datasets, split
from trainbench.movielens.cache import RatingsCache, open_cache
from trainbench.ncf.config import ml_1m
from trainbench.ncf.input.epochs import EpochMaker
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.generate import disk_bytes
from trainbench.ncf.input.producer import Producer
from trainbench.trials.paths import DataDir


def ml_1m_cache(shared_dir: Path, folder: Path) -> RatingsCache:
    data, dataset = DataDir(folder / "data"), datasets.dataset("ml-1m")
    source = shared_dir / "data" / "ml-1m.zip"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    archive.download(dataset, data, archive=source, sha256=digest)
    return open_cache(split.run(ml_1m().split_spec, data), verify=True)


def test_the_producer_touches_no_data_before_the_flagfile(
    start: Callable[..., Producer], cache: RatingsCache
) -> None:
    producer = start()
    pid = pid_of(producer)
    await_beat(producer)
    assert [p.name for p in producer._work_dir.root.glob("*") if p.is_dir()] == []
    assert str(cache.folder) not in Path(f"/proc/{pid}/maps").read_text()
    producer.release()
    found = producer.eval_candidates()
    assert found.items.shape == (400, 10)
    assert found.sha256 == hashlib.sha256(found.items.tobytes()).hexdigest()
    assert str(cache.folder) in Path(f"/proc/{pid}/maps").read_text()


def test_the_producer_sees_no_gpu_and_has_no_tensorflow(start: Callable[..., Producer]) -> None:
    producer = start()
    producer.release()
    producer.next_piece()
    pid = pid_of(producer)
    assert b"\0CUDA_VISIBLE_DEVICES=\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    assert "tensorflow" not in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize("last_batch", ["pad", "mask", "spillover"])
def test_workers_cycles_and_process_modes_do_not_change_a_byte(
    start: Callable[..., Producer], last_batch: str
) -> None:
    hashes = []
    for workers, per_cycle, ahead, generator in [
        (1, 1, 1, "subprocess"),
        (4, 2, 2, "subprocess"),
        ("auto", 3, 1, "inline"),
    ]:
        config = small_config(
            generator_workers=workers,
            epochs_per_cycle=per_cycle,
            cycles_ahead=ahead,
            generator=generator,
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


def test_the_wait_is_measured(
    start: Callable[..., Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on only while somebody sleeps."""
    producer, now_s, real = start(), 0.0, time.sleep

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        os.kill(pid_of(producer), signal.SIGCONT)
        real(seconds)

    suspend(producer)
    producer.release()
    monkeypatch.setattr(time, "perf_counter", lambda: now_s)
    monkeypatch.setattr(time, "sleep", sleep)
    assert producer.eval_candidates().wait_s == now_s > 0
    producer.next_piece()
    wait_until(producer._work_dir.cycle(1).exists)
    assert producer.next_piece().wait_s == 0


def test_the_compliance_log_says_what_was_generated(
    start: Callable[..., Producer], tmp_path: Path
) -> None:
    for generator in ("subprocess", "inline"):
        producer = start(small_config(max_epochs=1, generator=generator))
        producer.release()
        take_all(producer, 1)
        producer.close()
    lines = (tmp_path / "compliance_generator.log").read_text().splitlines()
    said = [line.partition(") ")[2] for line in lines]
    assert said[: len(said) // 2] == said[len(said) // 2 :]
    found = [text.partition(":")[0] for text in said[: len(said) // 2]]
    assert found == [
        tags.INPUT_STEP_EVAL_NEG_GEN,
        tags.CANDIDATES_SHA256,
        tags.EVAL_HP_NUM_USERS,
        tags.EVAL_SIZE,
        tags.INPUT_STEP_TRAIN_NEG_GEN,
        tags.INPUT_HP_NUM_NEG,
        tags.INPUT_HP_SAMPLE_TRAIN_REPLACEMENT,
        tags.INPUT_ORDER,
        tags.INPUT_SHARD,
        tags.INPUT_SIZE,
        tags.INPUT_BATCH_SIZE,
    ]
    assert "eval_hp_num_users: 400" in said
    assert "eval_size: 4000" in said


def test_the_disk_holds_no_more_than_was_stated(
    start: Callable[..., Producer], cache: RatingsCache, tmp_path: Path
) -> None:
    config = small_config(generator="subprocess", max_epochs=9, epochs_per_cycle=2, cycles_ahead=1)
    producer = start(config)
    producer.release()
    options = GenerationOptions.of(
        config, cache_folder=cache.folder, compliance_file=tmp_path, seed=5
    )
    maker = EpochMaker(cache, options)
    maker.close()
    bound = disk_bytes(cache, options, maker.pieces)
    root = producer._work_dir.root
    for _ in range(3):
        producer.next_piece()
        wait_until(lambda: producer._work_dir.cycles_waiting() == 1)
        on_disk_now = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
        assert on_disk_now <= bound
        assert len(list(root.glob("*cycle_*")) + list(root.glob("in_use_*"))) <= 2
    assert f"{bound / 1e6:.2f} MB on disk" in (tmp_path / "generator.log").read_text()


def test_asking_beyond_the_last_epoch_is_an_error(start: Callable[..., Producer]) -> None:
    producer = start(small_config(generator="subprocess", max_epochs=1))
    producer.release()
    producer.next_piece()
    with pytest.raises(TrainbenchError, match="max_epochs is 1"):
        producer.next_piece()
