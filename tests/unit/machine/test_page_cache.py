"""The page cache is dropped by the narrowest means, and the record claims what happened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainbench.machine import page_cache

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(page_cache.DROP_CACHES, os.W_OK),
    reason="only root outside a read-only /proc may drop the page cache",
)


def _cached(monkeypatch: pytest.MonkeyPatch, *readings: int) -> None:
    left = iter(readings)
    monkeypatch.setattr(page_cache, "cached_kib", lambda: next(left))


def test_three_is_written_to_the_named_location(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cached(monkeypatch, 900, 900, 100)
    location = tmp_path / "drop_caches"
    location.touch()
    drop = page_cache.drop_page_cache(str(location))
    assert location.read_text() == "3\n"
    assert drop == page_cache.CacheDrop(True, "direct write", 900, 100)
    assert drop.sentence() == "page cache dropped (direct write): Cached 900 kB -> 100 kB"


def test_a_drop_without_proof_is_not_a_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cached(monkeypatch, 100, 100, 90_000, 90_000, 180_000, 180_000)
    monkeypatch.setenv("PATH", str(tmp_path))
    location = tmp_path / "drop_caches"
    location.touch()
    drop = page_cache.drop_page_cache(str(location))
    assert not drop.dropped
    assert drop.reason is not None
    assert "Cached rose from 100 to 90000 kB" in drop.reason


def test_what_others_read_meanwhile_does_not_undo_a_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cached(monkeypatch, 100, 100, 900)
    assert page_cache.drop_page_cache(str(tmp_path / "drop_caches")).dropped


def test_every_failed_attempt_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    drop = page_cache.drop_page_cache(str(tmp_path / "absent" / "drop_caches"))
    assert not drop.dropped
    assert drop.reason is not None
    assert "direct write: " in drop.reason
    assert "sudo: " in drop.reason
    assert drop.sentence().startswith("page cache NOT dropped: ")


def test_without_meminfo_there_is_no_figure(tmp_path: Path) -> None:
    assert page_cache.cached_kib(tmp_path / "meminfo") is None
    (tmp_path / "meminfo").write_text("MemTotal: 5 kB\nCached:         1464012 kB\n")
    assert page_cache.cached_kib(tmp_path / "meminfo") == 1_464_012


@needs_root
def test_the_real_kernel_drops_a_file_that_was_cached(tmp_path: Path) -> None:
    ballast = tmp_path / "ballast"
    ballast.write_bytes(os.urandom(64 << 20))
    ballast.read_bytes()
    drop = page_cache.drop_page_cache()
    assert drop.dropped
    assert drop.cached_before_kib is not None
    assert drop.cached_after_kib is not None
    assert drop.cached_before_kib - drop.cached_after_kib > 32 << 10
