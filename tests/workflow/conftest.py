"""A producer's process and the cache it reads, and the Docker engine where one answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
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


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    """The Docker engine, with the project's images."""
    try:
        engine = docker.from_env(timeout=120)
        engine.ping()
    except (DockerException, OSError):
        pytest.skip("no Docker engine answers")
    try:
        engine.images.get("trainbench-train:local")
    except ImageNotFound:
        pytest.skip("images are not built (scripts/build_images.py)")
    yield engine
    engine.close()
