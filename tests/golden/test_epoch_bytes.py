"""The bytes of a seed: a change in them is a change of format, to be made on purpose only.

NumPy does not promise equal streams across its versions (NEP 19); if these hashes change with an
upgrade and nothing else, runs of the two versions cannot be compared byte by byte.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from small_cache import cache_of, small_config

from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.input.epochs import EpochMaker, open_eval
from trainbench.ncf.input.flagfile import GenerationOptions

PADDED = [
    "99a07a335e0bdf3a00b787a3b9baa42cf8c10a32d8b47c09f659b5012162540d",
    "82e90c3ebd5542c8ad43e38ffdb62822ae571ed46a44c0431e81e0f82ce8fae3",
]
SPILLED = [
    "fe5b8ce22a80ea15d12a2139e444cbd76f08bb8c21c59a64cf41d564ffd7beb9",
    "c5d26a98563e2478d6c2f5935f36b20407efb3dc0f662d8e66cb5681edc10e17",
]
CANDIDATES = "80557face1a750aa528fae5dd820a6d811bdcc5ca28b8da4efe3c1839d36e34d"


def ratings() -> RatingsCache:
    """90 users of 50 items, by arithmetic alone."""
    rows = [[(7 * user + 3 * place) % 50 for place in range(user % 30 + 2)] for user in range(90)]
    return cache_of([row[:-1] for row in rows], [row[-1] for row in rows], 50)


def maker(last_batch: str) -> EpochMaker:
    config = small_config(batch_size=100, last_batch=last_batch)
    return EpochMaker(
        ratings(),
        GenerationOptions.of(config, cache_folder=Path(), compliance_file=Path(), seed=20_181_024),
    )


@pytest.mark.parametrize(("last_batch", "hashes"), [("pad", PADDED), ("spillover", SPILLED)])
def test_epochs_of_a_seed_are_the_known_ones(
    tmp_path: Path, last_batch: str, hashes: list[str]
) -> None:
    made = maker(last_batch)
    assert [made.write_epoch(epoch, tmp_path).epoch_sha256 for epoch in (0, 1)] == hashes


def test_candidates_of_a_seed_are_the_known_ones(tmp_path: Path) -> None:
    maker("pad").write_eval(tmp_path)
    items = np.load(tmp_path / "items.npy")
    assert hashlib.sha256(items.tobytes()).hexdigest() == CANDIDATES
    assert open_eval(tmp_path)[1] == CANDIDATES
