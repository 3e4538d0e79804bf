"""Epochs of arbitrary rating sets: complete, true, constant in shape, and the same bytes always."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cache import cache_of, random_cache, small_config

from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.config import MASKED, NcfConfig
from trainbench.ncf.input.epochs import EpochData, EpochMaker, hash_batches, open_epoch
from trainbench.ncf.input.flagfile import GenerationOptions


@st.composite
def rating_sets(draw: st.DrawFn) -> RatingsCache:
    items = draw(st.integers(3, 40))
    user = st.lists(st.integers(0, items - 1), min_size=1, max_size=items - 1, unique=True)
    rows = draw(
        st.lists(user, min_size=1, max_size=12).filter(lambda r: any(len(u) > 1 for u in r))
    )
    return cache_of([row[:-1] for row in rows], [row[-1] for row in rows], items)


@contextmanager
def epochs(cache: RatingsCache, config: NcfConfig, seed: int = 0) -> Iterator[list[EpochData]]:
    options = GenerationOptions.of(config, cache_folder=Path(), compliance_file=Path(), seed=seed)
    maker = EpochMaker(cache, options)
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(epoch) for epoch in range(config.max_epochs)]
        for epoch, folder in enumerate(folders):
            folder.mkdir()
            maker.write_epoch(epoch, folder)
        maker.close()
        yield [open_epoch(folder, wait_s=0.0) for folder in folders]


def samples(data: EpochData) -> list[tuple[int, int, int]]:
    parts = (data.users, data.items, data.labels)
    return list(zip(*(part.ravel().tolist() for part in parts), strict=True))


@settings(max_examples=60, deadline=None)
@given(
    cache=rating_sets(), batch=st.integers(1, 50), negatives=st.integers(1, 5), seed=st.integers(0)
)
def test_an_epoch_is_every_positive_once_and_its_negatives(
    cache: RatingsCache, batch: int, negatives: int, seed: int
) -> None:
    config = small_config(batch_size=batch, train_negatives=negatives, max_epochs=1)
    with epochs(cache, config, seed) as [data]:
        assert data.users.shape == data.items.shape == data.labels.shape
        assert data.users.shape[1] == batch
        assert data.num_samples - data.num_repeated == cache.num_train * (1 + negatives)
        assert data.num_repeated < batch
        # The repeated samples come first, so all behind them is the epoch itself.
        once = samples(data)[data.num_repeated :]
        rated = list(zip(cache.users.tolist(), cache.items.tolist(), strict=True))
        assert Counter((u, i) for u, i, label in once if label == 1) == Counter(rated)
        negative = [(u, i) for u, i, label in once if label == 0]
        assert not set(negative) & set(rated)
        assert Counter(u for u, _ in negative) == {
            user: count * negatives for user, count in Counter(u for u, _ in rated).items()
        }
        assert set(samples(data)[: data.num_repeated]) <= set(once)
        assert hash_batches(data) == (data.first_batch_sha256, data.epoch_sha256)


@settings(max_examples=30, deadline=None)
@given(cache=rating_sets(), batch=st.integers(1, 60), seed=st.integers(0, 100))
def test_a_masked_epoch_is_every_sample_once_and_a_rest_that_does_not_train(
    cache: RatingsCache, batch: int, seed: int
) -> None:
    config = small_config(batch_size=batch, max_epochs=2)
    with (
        epochs(cache, config, seed) as padded,
        epochs(cache, replace(config, last_batch="mask"), seed) as masked,
    ):
        for pad, mask in zip(padded, masked, strict=True):
            assert mask.users.shape == pad.users.shape
            assert mask.num_repeated == pad.num_repeated
            real = mask.num_samples - mask.num_repeated
            assert samples(mask)[:real] == samples(pad)[pad.num_repeated :]
            user, item, _ = samples(mask)[real - 1]
            assert samples(mask)[real:] == [(user, item, MASKED)] * mask.num_repeated
            assert hash_batches(mask) == (mask.first_batch_sha256, mask.epoch_sha256)


@settings(max_examples=30, deadline=None)
@given(cache=rating_sets(), batch=st.integers(1, 10), seed=st.integers(0, 100))
def test_spilled_samples_open_the_next_epoch_and_none_is_lost(
    cache: RatingsCache, batch: int, seed: int
) -> None:
    config = small_config(batch_size=batch, max_epochs=4)
    with (
        epochs(cache, config, seed) as padded,
        epochs(cache, replace(config, last_batch="spillover"), seed) as spilled,
    ):
        in_order = [s for data in padded for s in samples(data)[data.num_repeated :]]
        assert [data.num_repeated for data in spilled] == [0] * 4
        received = [s for data in spilled for s in samples(data)]
        assert received == in_order[: len(received)]
        assert len(in_order) - len(received) < batch


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**62), last_batch=st.sampled_from(["pad", "mask", "spillover"]))
def test_workers_do_not_change_a_byte(seed: int, last_batch: str) -> None:
    cache = random_cache(1_200, 80, seed=1)  # more than one chunk and more than one bucket
    hashes = []
    for workers in (1, 2, 4, "auto"):
        config = small_config(generator_workers=workers, last_batch=last_batch, max_epochs=2)
        with epochs(cache, config, seed) as made:
            hashes.append([data.epoch_sha256 for data in made])
    assert all(of_run == hashes[0] for of_run in hashes)
    assert len(set(hashes[0])) == 2


def test_labels_and_negatives_keep_their_share_in_every_part_of_an_epoch() -> None:
    with epochs(random_cache(400, 60, seed=2), small_config(max_epochs=1)) as [data]:
        tenths = np.array_split(data.labels.ravel(), 10)
        share = np.array([part.mean() for part in tenths])
        spread = np.sqrt(0.2 * 0.8 / len(tenths[0]))
        assert (np.abs(share - 0.2) < 5 * spread).all()
