"""Epochs of large data sets: how their pieces are written, and what they take on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_cache import random_cache

from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.config import rehearsal
from trainbench.ncf.input.epochs import EpochMaker, piece_bytes
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.stream import pieces
from trainbench.ncf.input.stream.pieces import ARRAYS, BYTES_PER_SAMPLE, PieceFiles
from trainbench.ncf.input.stream.sliced import expected_pieces

OPTIONS = GenerationOptions.of(rehearsal(), cache_folder=Path(), compliance_file=Path(), seed=0)


def of_size(pairs: int, users: int) -> RatingsCache:
    """A cache with as many pairs as ``pairs`` says, of which only the users' numbers are there."""
    weights = np.random.default_rng(1).lognormal(0.0, 1.0, users)
    starts = np.concatenate(([0], np.floor(pairs * weights.cumsum() / weights.sum())))
    return replace(
        random_cache(3, 9),
        num_users=users,
        num_items=855_808,
        row_starts=starts.astype(np.int64),
    )


def test_the_producer_shows_that_it_lives_while_a_large_piece_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_WRITTEN_BYTES", 100)
    beats: list[None] = []
    batches = tuple(np.ones((70, 10), dtype=kind) for kind in ("<i4", "<i4", "|u1"))
    with PieceFiles(tmp_path, 70, 10, on_progress=lambda: beats.append(None)) as out:
        out.write(batches)
    assert len(beats) == 700 * BYTES_PER_SAMPLE / 100
    for name, wanted in zip(ARRAYS, batches, strict=True):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), wanted)


@pytest.mark.parametrize(
    ("pairs", "users"),
    [
        (20_000_000, 140_000),
        (28_000_000, 196_000),
        (32_000_000, 200_948),
        (60_000_000, 97_000),
        (1_223_962_043, 2_210_078),
    ],
)
def test_what_epochs_take_on_disk_is_expected_before_there_is_a_cache(
    pairs: int, users: int
) -> None:
    maker = EpochMaker(of_size(pairs, users), OPTIONS)
    there_are = maker.pieces
    maker.close()
    expected = expected_pieces(pairs, OPTIONS)
    takes = piece_bytes(OPTIONS, there_are)
    assert takes <= piece_bytes(OPTIONS, expected) <= 1.25 * takes
