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
from trainbench.ncf.input.epochs import EpochMaker
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.stream.pieces import open_eval

# By stream format and last_batch, of epochs 0 and 1.
EPOCHS = {
    (1, "pad"): [
        "99a07a335e0bdf3a00b787a3b9baa42cf8c10a32d8b47c09f659b5012162540d",
        "82e90c3ebd5542c8ad43e38ffdb62822ae571ed46a44c0431e81e0f82ce8fae3",
    ],
    (1, "spillover"): [
        "fe5b8ce22a80ea15d12a2139e444cbd76f08bb8c21c59a64cf41d564ffd7beb9",
        "c5d26a98563e2478d6c2f5935f36b20407efb3dc0f662d8e66cb5681edc10e17",
    ],
    (2, "pad"): [
        "aa09fe775dd4c2b83c623b5a68f4ac78864c014caf4bc9adf676d92af118c6e1",
        "dd8abf99f4a21afb484650b67d651f5522f099067ed456ee302dbd316482a48e",
    ],
    (2, "mask"): [
        "ea904dfdccc11a0c557e31095911d2e7790260cbb1b8c9b7025f50f9bf24c776",
        "325904bdaf971ab653a2f788796946811f926492105ddfc06bfbe6e0bf4b954a",
    ],
    (2, "spillover"): [
        "da1eef013c961afb332569ff2cbd04149e78c351c981c3ea57b10c55764871e0",
        "7aa9ca680b2313ea6af1940aad5ca17c0629e8f1d213411caea2894051dd61db",
    ],
}
CANDIDATES = "80557face1a750aa528fae5dd820a6d811bdcc5ca28b8da4efe3c1839d36e34d"


def ratings() -> RatingsCache:
    """90 users of 50 items, by arithmetic alone."""
    rows = [[(7 * user + 3 * place) % 50 for place in range(user % 30 + 2)] for user in range(90)]
    return cache_of([row[:-1] for row in rows], [row[-1] for row in rows], 50)


def maker(last_batch: str, stream_format: int = 2) -> EpochMaker:
    config = small_config(batch_size=100, last_batch=last_batch, stream_format=stream_format)
    return EpochMaker(
        ratings(),
        GenerationOptions.of(config, cache_folder=Path(), compliance_file=Path(), seed=20_181_024),
    )


@pytest.mark.parametrize(("stream_format", "last_batch"), EPOCHS)
def test_epochs_of_a_seed_are_the_known_ones(
    tmp_path: Path, stream_format: int, last_batch: str
) -> None:
    made = maker(last_batch, stream_format)
    found = [made.write_piece(epoch, 0, tmp_path).epoch_sha256 for epoch in (0, 1)]
    assert found == EPOCHS[stream_format, last_batch]


def test_candidates_of_a_seed_are_the_known_ones(tmp_path: Path) -> None:
    maker("pad").write_eval(tmp_path)
    items = np.load(tmp_path / "items.npy")
    assert hashlib.sha256(items.tobytes()).hexdigest() == CANDIDATES
    assert open_eval(tmp_path)[1] == CANDIDATES
