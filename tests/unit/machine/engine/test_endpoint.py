"""The engine that is asked is the one that Docker's command line would ask."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from trainbench.errors import MachineError
from trainbench.machine.engine.endpoint import DEFAULT, Kind, choose, endpoint


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the context "far" (TLS) and the context "own", which is chosen."""
    hosts = {"far": "tcp://192.0.2.1:2376", "own": "unix:///run/user/7/docker.sock"}
    for name, host in hosts.items():
        known = hashlib.sha256(name.encode()).hexdigest()
        meta = tmp_path / ".docker" / "contexts" / "meta" / known
        meta.mkdir(parents=True)
        content = {"Name": name, "Endpoints": {"docker": {"Host": host}}}
        (meta / "meta.json").write_text(json.dumps(content))
    tls = hashlib.sha256(b"far").hexdigest()
    (tmp_path / ".docker" / "contexts" / "tls" / tls / "docker").mkdir(parents=True)
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "own"}')
    return tmp_path


def test_without_a_choice_it_is_the_default(tmp_path: Path) -> None:
    found = endpoint({"HOME": str(tmp_path)})
    assert (found.address, found.socket) == (DEFAULT, "/var/run/docker.sock")


def test_docker_host_comes_before_every_context(home: Path) -> None:
    env = {"HOME": str(home), "DOCKER_HOST": "unix:///a.sock", "DOCKER_CONTEXT": "far"}
    assert str(endpoint(env)) == "unix:///a.sock (DOCKER_HOST)"


def test_a_context_of_the_environment_comes_before_the_one_in_use(home: Path) -> None:
    far = endpoint({"HOME": str(home), "DOCKER_CONTEXT": "far"})
    assert (far.address, far.named_by) == ("tcp://192.0.2.1:2376", "docker context far")
    assert far.socket is None
    assert endpoint({"HOME": str(home)}).socket == "/run/user/7/docker.sock"
    assert endpoint({"HOME": str(home), "DOCKER_CONTEXT": "default"}).address == DEFAULT


def test_every_client_of_the_process_asks_the_chosen_engine(home: Path) -> None:
    env = {"HOME": str(home), "DOCKER_CONTEXT": "far"}
    choose(env)
    assert env["DOCKER_HOST"] == "tcp://192.0.2.1:2376"
    assert env["DOCKER_TLS_VERIFY"] == "1"
    assert Path(env["DOCKER_CERT_PATH"]).is_dir()
    assert endpoint({**env, "DOCKER_CONTEXT": ""}).address == "tcp://192.0.2.1:2376"


def test_a_context_that_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(MachineError, match="docker context nope: no such context; choose"):
        endpoint({"HOME": str(home), "DOCKER_CONTEXT": "nope"})


def test_a_damaged_configuration_is_none(home: Path) -> None:
    (home / ".docker" / "config.json").write_text("[1")
    assert endpoint({"HOME": str(home)}).address == DEFAULT


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        ({}, Kind()),
        ({"SecurityOptions": ["name=seccomp,profile=default"]}, Kind()),
        (
            {"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]},
            Kind(rootless=True),
        ),
        ({"SecurityOptions": ["name=userns"]}, Kind(remapped=True)),
        ({"SecurityOptions": ["name=selinux"]}, Kind(selinux=True)),
        ({"DockerRootDir": "/var/snap/docker/common/var-lib-docker"}, Kind(snap=True)),
        ({"SecurityOptions": None, "DockerRootDir": "/var/lib/docker"}, Kind()),
    ],
)
def test_an_engine_says_of_what_kind_it_is(info: dict[str, object], kind: Kind) -> None:
    assert Kind.of(info) == kind


def test_remapped_users_are_the_hosts_in_the_steps() -> None:
    assert Kind(remapped=True).options == {"userns_mode": "host"}
    assert Kind(rootless=True).options == {}
