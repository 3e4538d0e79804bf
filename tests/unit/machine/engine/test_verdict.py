"""What the probe's container saw becomes one line that names the reason and what to do."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainbench.errors import MachineError
from trainbench.machine.engine.endpoint import DEFAULT, Endpoint, Kind
from trainbench.machine.engine.verdict import Seen, Situation, refused, require, without_socket

SITUATION = Situation(Endpoint(DEFAULT, "the default"), Kind(), Path("/d"), Path("/c"))
GOOD = Seen(user="7", users="0 0 4294967295", token="done", code="9-99", write="done")
EACCES, EROFS, ENOENT = (f"error-{n}" for n in (errno.EACCES, errno.EROFS, errno.ENOENT))
NOT_THERE = 'invalid mount config for type "bind": bind source path does not exist: /d'


def line(seen: Seen = GOOD, wrote: bool = True, **situation: Any) -> str:
    with pytest.raises(MachineError) as raised:
        require(replace(SITUATION, **situation), seen, code="9-99", wrote=wrote)
    assert raised.value.exit_code == 6
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_as_it_should_be_raises_nothing() -> None:
    require(SITUATION, GOOD, code="9-99", wrote=True)


@pytest.mark.parametrize(
    ("seen", "wrote"),
    [
        (replace(GOOD, token=ENOENT), False),
        (GOOD, False),
        (replace(GOOD, code="8-88"), True),
        (replace(GOOD, code=ENOENT), True),
    ],
)
def test_other_files_than_here_are_another_view(seen: Seen, wrote: bool) -> None:
    assert "does not see this folder" in line(seen, wrote)
    assert "Docker beside Docker" in line(seen, wrote, in_container=True)
    assert "Docker is the snap" in line(seen, wrote, kind=Kind(snap=True))
    far = line(seen, wrote, endpoint=Endpoint("tcp://192.0.2.1:2376", "DOCKER_HOST"))
    assert "tcp://192.0.2.1:2376 (DOCKER_HOST) runs elsewhere" in far


def test_a_folder_that_the_engine_does_not_find_is_another_view_too() -> None:
    assert "DATA_DIR=/d: engine unix:///" in str(refused(SITUATION, NOT_THERE))
    text = "statfs /c: no such file or directory"
    assert str(refused(SITUATION, text)).startswith("/c: engine")


def test_selinux_is_named_with_the_command_that_labels_the_folders() -> None:
    for seen in (
        replace(GOOD, code=EACCES),
        replace(GOOD, write=EACCES),
        replace(GOOD, token=EACCES),
    ):
        said = line(seen, kind=Kind(selinux=True))
        assert "SELinux forbids containers to" in said
        assert "chcon -R -t container_file_t '/c' '/d'" in said


def test_a_folder_without_permission_is_named_with_the_user() -> None:
    assert "/d: user 7 of a container has no permission to write" in line(
        replace(GOOD, write=EACCES)
    )
    assert "/c: not readable for user 7" in line(replace(GOOD, code=EACCES))
    assert "choose a folder of your own" in line(
        replace(GOOD, write=EACCES), kind=Kind(rootless=True)
    )
    rootless = replace(GOOD, write=EACCES, users="0 1000 1")
    assert "in a rootless engine" in line(rootless)


def test_every_other_error_is_told_in_the_systems_words() -> None:
    assert "Read-only file system" in line(replace(GOOD, write=EROFS), wrote=False)
    assert "exec format error" in line(Seen(text="exec /python: exec format error\n"))
    assert "no such device" in str(refused(SITUATION, "OCI runtime create failed: no such device"))


@pytest.mark.parametrize(
    ("seen", "kind", "reason"),
    [
        (GOOD, Kind(), "has no socket where it runs"),
        (GOOD, Kind(rootless=True), "a rootless engine may not drop"),
        (replace(GOOD, users="0 1000 1"), Kind(), "a rootless engine may not drop"),
        (replace(GOOD, sockets={"/s": EACCES}), Kind(selinux=True), "SELinux forbids"),
        (replace(GOOD, sockets={"/s": EACCES}), Kind(), "Permission denied"),
        (replace(GOOD, sockets={"/s": "404"}), Kind(), "another engine answers there"),
        (replace(GOOD, sockets={"/s": "error-0"}), Kind(), "no answer"),
    ],
)
def test_training_without_a_socket_says_why_and_what_it_costs(
    seen: Seen, kind: Kind, reason: str
) -> None:
    said = without_socket(replace(SITUATION, kind=kind), seen)
    assert reason in said
    assert said.endswith("training will not drop the page cache, and its result says so")


def test_the_programs_lines_become_a_record() -> None:
    text = (
        "socket /a b.sock 200\nuser 5\nusers 0 0 4294967295\ntoken done\ncode 1-2\nwrite error-30\n"
    )
    seen = Seen.of(text)
    assert seen.sockets == {"/a b.sock": "200"}
    assert (seen.user, seen.token, seen.code, seen.write) == ("5", "done", "1-2", "error-30")
    assert not seen.rootless
