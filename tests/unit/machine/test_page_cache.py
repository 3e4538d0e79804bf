"""The page cache is dropped by the narrowest means, and the record claims what happened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainbench.machine import page_cache
from trainbench.machine.page_cache import CacheLevel

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(page_cache.DROP_CACHES, os.W_OK),
    reason="only root outside a read-only /proc may drop the page cache",
)


MIB = 1024


def _cached(monkeypatch: pytest.MonkeyPatch, *mib: int, in_use: int = 0) -> None:
    """What the kernel says at each look, in MiB; the last one from then on."""
    levels = [CacheLevel(cached * MIB, mapped=in_use * MIB) for cached in mib]
    monkeypatch.setattr(
        page_cache, "cache_level", lambda: levels.pop(0) if len(levels) > 1 else levels[0]
    )


def _level(cached: int, *, mapped: int = 0, shared: int = 0) -> CacheLevel:
    return CacheLevel(cached * MIB, mapped * MIB, shared * MIB)


def test_three_is_written_to_the_named_location(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cached(monkeypatch, 900, 900, 40)
    location = tmp_path / "drop_caches"
    location.touch()
    drop = page_cache.drop_page_cache(str(location))
    assert location.read_text() == "3\n"
    assert (drop.dropped, drop.method, drop.location) == (True, "direct write", str(location))
    assert drop.sentence() == "page cache dropped (direct write): Cached 921600 kB -> 40960 kB"


def test_another_location_marks_the_run_whether_or_not_the_cache_fell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for after, codes in ((40, ["other_cache_drop"]), (900, OTHER_AND_NOT_DROPPED)):
        _cached(monkeypatch, 900, 900, after)
        notes = page_cache.drop_page_cache(str(tmp_path / "any_file")).notes()
        assert [code for code, _ in notes] == codes
        assert f"3 was written to {tmp_path / 'any_file'}, not to /proc/sys/vm" in notes[0][1]
    assert page_cache.CacheDrop(True, "sudo", 9, 1, location=page_cache.DROP_CACHES).notes() == []
    not_tried = page_cache.drop_if(False, str(tmp_path / "any_file"))
    assert [code for code, _ in not_tried.notes()] == ["caches_not_dropped"]


OTHER_AND_NOT_DROPPED = ["other_cache_drop", "caches_not_dropped"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            _level(2_074, mapped=539, shared=8), _level(563, mapped=540, shared=8), id="all"
        ),
        pytest.param(_level(600, mapped=540), _level(590, mapped=540), id="small before and after"),
        pytest.param(_level(560, mapped=540), _level(600, mapped=540), id="small, others read"),
        pytest.param(_level(3_000, mapped=500), _level(1_700, mapped=500), id="others read 1.2 GB"),
        pytest.param(
            _level(9_000, mapped=8_500, shared=8_300),
            _level(8_960, mapped=8_500, shared=8_300),
            id="a large database's shared memory",
        ),
    ],
)
def test_a_fall_or_a_small_rest_proves_a_drop(before: CacheLevel, after: CacheLevel) -> None:
    assert page_cache.doubt(before, after) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(_level(2_074, mapped=539), _level(2_074, mapped=539), id="any file"),
        pytest.param(_level(2_074, mapped=539), _level(2_090, mapped=539), id="others read 16 MiB"),
        pytest.param(
            _level(2_074, mapped=539), _level(2_060, mapped=539), id="others delete 14 MiB"
        ),
        pytest.param(
            _level(20_000, mapped=500), _level(19_000, mapped=500), id="others delete 1 GB"
        ),
        pytest.param(_level(200), _level(190), id="nothing in use"),
        pytest.param(None, None, id="no meminfo"),
    ],
)
def test_what_a_write_to_any_file_leaves_proves_nothing(
    before: CacheLevel | None, after: CacheLevel | None
) -> None:
    assert page_cache.doubt(before, after) is not None


def test_a_drop_without_proof_is_not_a_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cached(monkeypatch, 900, 900, 905, in_use=300)
    monkeypatch.setenv("PATH", str(tmp_path))
    drop = page_cache.drop_page_cache(str(tmp_path / "any_file"))
    assert not drop.dropped
    assert drop.reason is not None
    assert "Cached rose from 921600 to 926720 kB (307200 kB in use); wanted a fall" in drop.reason


def test_every_failed_attempt_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    drop = page_cache.drop_page_cache(str(tmp_path / "absent" / "drop_caches"))
    assert not drop.dropped
    assert drop.reason is not None
    assert "direct write: " in drop.reason
    assert "sudo: " in drop.reason
    assert drop.sentence().startswith("page cache NOT dropped: ")


def test_without_meminfo_there_is_no_figure(tmp_path: Path) -> None:
    assert page_cache.cache_level(tmp_path / "meminfo") is None
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 5 kB\nCached:         1464012 kB\nMapped: 7 kB\nShmem: 8 kB\n")
    assert page_cache.cache_level(meminfo) == CacheLevel(1_464_012, mapped=7, shared=8)


@needs_root
def test_the_real_kernel_drops_a_file_that_was_cached(tmp_path: Path) -> None:
    ballast = tmp_path / "ballast"
    ballast.write_bytes(os.urandom(64 << 20))
    ballast.read_bytes()
    drop = page_cache.drop_page_cache()
    assert drop.dropped, drop.reason
    assert drop.notes() == []
