"""A producer's process and the cache it reads, for the tests of its work, its end and its disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from producer_process import PROCESS
from small_cache import on_disk, random_cache

from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.input.producer import Producer, start_producer


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
