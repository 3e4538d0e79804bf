"""Epochs of large data sets: in how many pieces they come is known before there is a cache."""

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


@pytest.mark.parametrize(
    ("pairs", "users"),
    [(20_000_000, 140_000), (60_000_000, 97_000), (1_223_962_043, 2_210_078)],
)
def test_what_epochs_take_on_disk_is_expected_before_there_is_a_cache(
    pairs: int, users: int
) -> None:
    maker = EpochMaker(of_size(pairs, users), OPTIONS)
    pieces = maker.pieces
    maker.close()
    expected = expected_pieces(pairs, OPTIONS)
    takes = piece_bytes(pairs, OPTIONS, pieces)
    assert takes <= piece_bytes(pairs, OPTIONS, expected) <= 1.25 * takes
