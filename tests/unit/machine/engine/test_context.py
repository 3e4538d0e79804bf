"""A build context has the same bytes in a clone and in an unpacked archive."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from checkout import CHECKOUT
from docker.utils import build

from trainbench.machine.engine.context import same_bytes


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The train image's context under three umasks, one of them long ago."""
    monkeypatch.setattr(build, "create_archive", build.create_archive)
    same_bytes()
    same_bytes()
    found = []
    for mode in (0o644, 0o664, 0o600):
        folder = tmp_path / f"{mode:o}"
        shutil.copytree(CHECKOUT / "containers" / "train", folder)
        (folder / "tool").write_text("#!/bin/sh\n")
        for path in folder.iterdir():
            path.chmod(mode)
            os.utime(path, (mode, mode))
        (folder / "tool").chmod(mode | 0o100)
        found.append(build.tar(str(folder)).read())
    return found


def test_modes_and_times_of_files_do_not_change_it(contexts: list[bytes]) -> None:
    assert contexts[0] == contexts[1] == contexts[2]


def test_files_keep_their_content_and_programs_their_bit(contexts: list[bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(contexts[1])) as tar:
        modes = {member.name: member.mode for member in tar}
        dockerfile = tar.extractfile("Dockerfile")
        assert dockerfile is not None
        assert dockerfile.read() == (CHECKOUT / "containers/train/Dockerfile").read_bytes()
    assert modes["tool"] == 0o755
    assert {mode for name, mode in modes.items() if name != "tool"} == {0o644}
