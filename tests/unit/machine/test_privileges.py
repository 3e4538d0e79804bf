"""A step in a container gives up root and the engine before it reads foreign bytes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainbench.machine import privileges
from trainbench.machine.privileges import NOBODY, User, worker

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A socket that only the group 54321 may use, where the engine has its own."""
    path = tmp_path / "docker.sock"
    socket.socket(socket.AF_UNIX).bind(str(path))
    os.chown(path, 0, 54321)
    path.chmod(0o660)
    monkeypatch.setattr(privileges, "ENGINE_SOCKET", path)
    return path


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that others than root may enter; those of pytest are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def folder(tmp_path: Path, uid: int, gid: int) -> Path:
    data = tmp_path / "data"
    (data / "runs").mkdir(parents=True)
    (data / "runs" / "file").touch()
    for path in (data, data / "runs"):
        os.chown(path, uid, gid)
    return data


@as_root
def test_the_owner_of_the_data_folder_works_on_it_and_gets_what_root_left(
    tmp_path: Path, engine: Path
) -> None:
    data = folder(tmp_path, 1000, 1001)
    assert worker(data) == (1000, 1001)
    left = (data / "runs" / "file").stat()
    assert (left.st_uid, left.st_gid) == (1000, 1001)


@as_root
def test_a_folder_of_roots_is_handed_to_nobody_and_links_out_of_it_are_not_followed(
    tmp_path: Path, engine: Path
) -> None:
    data = folder(tmp_path, 0, 0)
    outside = tmp_path / "outside"
    outside.touch()
    (data / "link").symlink_to(outside)
    assert worker(data) == NOBODY
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (data, *data.rglob("*"))}
    assert owners == {NOBODY}
    assert outside.stat().st_uid == 0


@as_root
def test_the_group_that_may_use_the_engine_does_no_step(tmp_path: Path, engine: Path) -> None:
    assert worker(folder(tmp_path, 1000, 54321)) == User(1000, NOBODY.gid)


def child(code: str) -> object:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@as_root
def test_who_gave_up_can_neither_use_the_engine_nor_become_root(engine: Path) -> None:
    code = f"""
import json, os
from pathlib import Path
from trainbench.machine import privileges
privileges.ENGINE_SOCKET = Path({str(engine)!r})
privileges.give_up(privileges.User(1000, 1000))
found = privileges.of_this_process()
for attempt in (lambda: os.seteuid(0), lambda: os.setgroups([54321])):
    try:
        attempt()
    except PermissionError:
        continue
    found["regained"] = True
print(json.dumps(found))
"""
    assert child(code) == {
        "root": False,
        "groups": 0,
        "no_new_privileges": True,
        "engine": False,
    }


@as_root
def test_the_set_keeps_the_engine_writes_as_the_owner_and_its_trials_have_nothing(
    open_to_all: Path, engine: Path
) -> None:
    data = folder(open_to_all, 1000, 1001)
    code = f"""
import json, os, subprocess, sys
from pathlib import Path
from trainbench.machine import privileges
privileges.in_step = lambda: True
privileges.ENGINE_SOCKET = Path({str(engine)!r})
data = Path({str(data)!r})
privileges.own_user(data)
(data / "written").touch()
with privileges.unprivileged() as user:
    command = ["grep", "-E", "^(Uid|Gid|Groups):", "/proc/self/status"]
    trial = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **user)
print(json.dumps([os.geteuid(), os.getgroups(), trial.communicate()[0].split()]))
"""
    uids, gids = ["1000"] * 4, ["1001"] * 4
    assert child(code) == [1000, [54321], ["Uid:", *uids, "Gid:", *gids, "Groups:"]]
    written = (data / "written").stat()
    assert (written.st_uid, written.st_gid) == (1000, 1001)


def test_outside_a_container_nothing_changes(tmp_path: Path) -> None:
    before = (os.getresuid(), os.getresgid(), os.getgroups())
    privileges.own_user(tmp_path)
    with privileges.unprivileged() as user:
        assert user == {}
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@pytest.mark.parametrize(
    ("users", "rootless"),
    [("0 0 4294967295", False), ("0 1000 1\n1 100000 65536", True), ("0 300000 65536", False)],
)
def test_root_of_a_rootless_engine_is_its_caller_and_keeps_its_number(
    users: str, rootless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uid_map").write_text(users + "\n")
    monkeypatch.setattr(privileges, "UID_MAP", tmp_path / "uid_map")
    assert privileges.rootless() is rootless
    if os.getuid() == 0:
        owner = privileges.worker(tmp_path)
        assert owner == ((0, 0) if rootless else privileges.NOBODY)
