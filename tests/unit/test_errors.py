"""What is said of a disk that refuses: of which file, and why."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainbench.errors import MachineError, system_text
from trainbench.files import append_line, read_block, sha256_of, whole_file, writing


def disk(monkeypatch: pytest.MonkeyPatch, *, free: int, files_left: int) -> None:
    """Every disk has ``free`` bytes and room for ``files_left`` files."""
    found = SimpleNamespace(f_bavail=free, f_frsize=1, f_files=1_000, f_favail=files_left)
    monkeypatch.setattr("os.statvfs", lambda path: found)


def no_space(path: str | None = "data/x.npy") -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def test_a_full_disk_is_told_with_the_file_and_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, free=7, files_left=5)
    said = system_text(no_space(), needed_bytes=1_234)
    assert said.startswith("data/x.npy: No space left on device: disk full: 1,234 bytes needed, 7 ")
    assert "disk full: more is needed, 7 bytes free" in system_text(no_space())


def test_a_disk_without_room_for_files_is_not_called_full(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, free=10**9, files_left=0)
    said = system_text(no_space(), needed_bytes=1_234)
    assert "the disk can hold no more files, all 1,000 are used (1,000,000,000 bytes" in said
    assert "full" not in said


def test_no_space_though_there_is_some_names_other_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, free=10**9, files_left=5)
    said = system_text(no_space(), needed_bytes=1_234)
    assert "No space left on device, though 1,000,000,000 bytes are free: 1,234 bytes" in said
    assert "full" not in said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EDQUOT, "Disk quota exceeded: 1,234 bytes needed; free some of this user's space"),
        (errno.EFBIG, "File too large: 1,234 bytes needed; raise the limit"),
        (errno.EIO, "Input/output error: check the disk and its connection"),
    ],
)
def test_other_refusals_are_told_as_what_they_are(number: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with pytest.raises(MachineError) as caught, writing(path, 1_234):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "full" not in str(caught.value)


def test_a_write_that_numpy_gives_up_is_no_defect(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"x\.npy: No space left"), writing(tmp_path / "x.npy"):
        raise OSError("4096 requested and 512 written")


class BrokenDisk:
    """A file on a disk that gives no bytes."""

    def read(self, size: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_an_error_of_a_read_or_a_write_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(OSError, match=f"'{path}'"):
        read_block(path, BrokenDisk())  # type: ignore[arg-type]
    with pytest.raises(OSError, match=f"'{path}'"), whole_file(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(OSError, match="Is a directory"):
        sha256_of(tmp_path)
    with pytest.raises(OSError, match="/dev/full"):
        append_line(Path("/dev/full"), "x")
