"""The probe in a real engine: what it finds, what it refuses, and that it leaves nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from checkout import CHECKOUT
from docker.errors import DockerException

from trainbench.errors import MachineError
from trainbench.machine.engine import image
from trainbench.machine.engine.endpoint import Endpoint, endpoint
from trainbench.machine.engine.probe import Found, probe

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    try:
        engine = docker.from_env(timeout=120)
        engine.ping()
    except (DockerException, OSError):
        pytest.skip("no Docker engine answers")
    yield engine
    engine.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkout and a data folder of another user, which containers can reach."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o755)
    for name in ("checkout", "data"):
        (tmp_path / name).mkdir()
    shutil.copy(CHECKOUT / "settings.py", tmp_path / "checkout")
    (tmp_path / "checkout" / "settings.py").chmod(0o644)
    if os.getuid() == 0:
        os.chown(tmp_path / "data", 12345, 12345)
    return tmp_path


def probed(client: docker.DockerClient, place: Path, where: Endpoint | None = None) -> Found:
    info: dict[str, Any] = client.info()
    asked = where or endpoint(os.environ)
    return probe(client, asked, info, data=place / "data", checkout=place / "checkout")


def test_it_finds_the_socket_and_leaves_neither_file_nor_container(
    client: docker.DockerClient, place: Path
) -> None:
    assert probed(client, place) == Found(endpoint(os.environ).socket)
    assert list((place / "data").iterdir()) == []
    filters = {"label": image.LABEL}
    assert client.containers.list(all=True, filters=filters) == []
    [kept] = client.images.list(filters=filters)
    assert probed(client, place).notes == ()
    assert [kept] == client.images.list(filters=filters)


def test_a_socket_that_is_not_the_engines_is_not_given_to_training(
    client: docker.DockerClient, place: Path
) -> None:
    wrong = Endpoint(f"unix://{place}/gone.sock", "DOCKER_HOST")
    found = probed(client, place, wrong)
    assert found.socket in ("/var/run/docker.sock", None)
    assert not (place / "gone.sock").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act for another user")
def test_who_may_not_write_the_data_or_read_the_code_is_told(
    client: docker.DockerClient, place: Path
) -> None:
    (place / "data").chmod(0o555)
    with pytest.raises(MachineError, match="user 12345 of a container has no permission to write"):
        probed(client, place)
    (place / "data").chmod(0o755)
    (place / "checkout" / "settings.py").chmod(0o600)
    with pytest.raises(MachineError, match="not readable for user 12345"):
        probed(client, place)
    assert list((place / "data").iterdir()) == []
