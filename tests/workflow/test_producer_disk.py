"""The producer on a disk that is too small."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import wait_until

from trainbench.errors import MachineError
from trainbench.ncf.input.producer import Producer


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


def test_a_disk_too_small_for_a_cycle_is_told_with_the_bytes_before_any_work(
    start: Callable[..., Producer], small_disk: Path
) -> None:
    producer = start(work_dir=small_disk / "work")
    producer.release()
    with pytest.raises(
        MachineError, match=r"exit code 6(.|\n)*[\d,]{7,} bytes needed \(.*\), [\d,]+ bytes"
    ):
        producer.eval_candidates()


@pytest.mark.parametrize("small_disk", ["8m"], indirect=True)
def test_a_disk_that_fills_up_while_writing_is_told_the_same_way(
    start: Callable[..., Producer], small_disk: Path
) -> None:
    producer = start(work_dir=small_disk / "work")
    producer.release()
    wait_until(lambda: any(producer._work_dir.root.glob("cycle_*.part")))
    with contextlib.suppress(OSError):
        (small_disk / "other").write_bytes(bytes(16 << 20))
    with pytest.raises(MachineError, match=r"disk full: [\d,]+ bytes needed, [\d,]+ bytes free"):
        producer.next_piece()


def test_a_disk_that_is_full_before_the_first_sign_of_life_is_one_line(small_disk: Path) -> None:
    work = small_disk / "work"
    work.mkdir()
    with contextlib.suppress(OSError):
        (small_disk / "other").write_bytes(bytes(1 << 20))
    given = ["--work-dir", str(work), "--parent", str(os.getpid())]
    done = subprocess.run(
        [sys.executable, "-m", "trainbench.ncf.input.generate", *given],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 6
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "disk full" in line
