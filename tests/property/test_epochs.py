"""Epochs of arbitrary rating sets: complete, true, constant in shape, and the same bytes always."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cache import cache_of, random_cache, small_config

from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.config import MASKED, NcfConfig
from trainbench.ncf.input.epochs import EpochMaker, piece_bytes
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.stream import slices
from trainbench.ncf.input.stream.pieces import EpochRecord, hash_batches, open_piece
from trainbench.ncf.input.stream.sliced import PASS_SAMPLES, SlicedMaker

FORMATS = st.sampled_from([1, 2])


@dataclass(frozen=True)
class Made:
    """One epoch as it was read from all its pieces."""

    record: EpochRecord
    pieces: int
    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    hashes: tuple[str, str]

    @property
    def samples(self) -> list[tuple[int, int, int]]:
        """All samples, batch after batch."""
        parts = (self.users, self.items, self.labels)
        return list(zip(*(part.ravel().tolist() for part in parts), strict=True))


@st.composite
def rating_sets(draw: st.DrawFn) -> RatingsCache:
    items = draw(st.integers(3, 40))
    user = st.lists(st.integers(0, items - 1), min_size=1, max_size=items - 1, unique=True)
    rows = draw(
        st.lists(user, min_size=1, max_size=12).filter(lambda r: any(len(u) > 1 for u in r))
    )
    return cache_of([row[:-1] for row in rows], [row[-1] for row in rows], items)


def options_of(config: NcfConfig, seed: int) -> GenerationOptions:
    return GenerationOptions.of(config, cache_folder=Path(), compliance_file=Path(), seed=seed)


@contextmanager
def epochs(
    cache: RatingsCache, config: NcfConfig, seed: int = 0, *, pass_samples: int = PASS_SAMPLES
) -> Iterator[list[Made]]:
    maker = EpochMaker(cache, options_of(config, seed), pass_samples=pass_samples)
    with tempfile.TemporaryDirectory() as name:
        yield [one_epoch(maker, config, epoch, Path(name)) for epoch in range(config.max_epochs)]
    maker.close()


def one_epoch(maker: EpochMaker, config: NcfConfig, epoch: int, parent: Path) -> Made:
    found = []
    for piece in range(maker.pieces.count):
        folder = parent / f"{epoch}-{piece}"
        folder.mkdir()
        maker.write_piece(epoch, piece, folder)
        found.append(open_piece(folder, wait_s=0.0))
        taken = sum(path.stat().st_size for path in folder.iterdir())
        assert taken <= piece_bytes(maker._options, maker.pieces)
    assert max(len(piece.users) for piece in found) >= maker.pieces.most_steps - 2
    assert [piece.is_last for piece in found] == [False] * (len(found) - 1) + [True]
    arrays = [np.concatenate(parts) for parts in zip(*(p.arrays for p in found), strict=True)]
    hashes = hash_batches(config.stream_format, found)
    return Made(found[-1].record, len(found), *arrays, hashes)


@settings(max_examples=60, deadline=None)
@given(
    cache=rating_sets(),
    batch=st.integers(1, 50),
    negatives=st.integers(1, 5),
    seed=st.integers(0),
    stream_format=FORMATS,
)
def test_an_epoch_is_every_positive_once_and_its_negatives(
    cache: RatingsCache, batch: int, negatives: int, seed: int, stream_format: int
) -> None:
    config = small_config(
        batch_size=batch, train_negatives=negatives, max_epochs=1, stream_format=stream_format
    )
    with epochs(cache, config, seed) as [data]:
        record = data.record
        assert data.users.shape == data.items.shape == data.labels.shape == (record.steps, batch)
        assert record.num_samples - record.num_repeated == cache.num_train * (1 + negatives)
        assert record.num_repeated < batch
        # The repeated samples come first, so all behind them is the epoch itself.
        once = data.samples[record.num_repeated :]
        rated = list(zip(cache.users.tolist(), cache.items.tolist(), strict=True))
        assert Counter((u, i) for u, i, label in once if label == 1) == Counter(rated)
        negative = [(u, i) for u, i, label in once if label == 0]
        assert not set(negative) & set(rated)
        assert Counter(u for u, _ in negative) == {
            user: count * negatives for user, count in Counter(u for u, _ in rated).items()
        }
        assert set(data.samples[: record.num_repeated]) <= set(once)
        assert data.hashes == (record.first_batch_sha256, record.epoch_sha256)


@settings(max_examples=30, deadline=None)
@given(cache=rating_sets(), batch=st.integers(1, 60), seed=st.integers(0, 100))
def test_a_masked_epoch_is_every_sample_once_and_a_rest_that_does_not_train(
    cache: RatingsCache, batch: int, seed: int
) -> None:
    for stream_format in (1, 2):
        config = small_config(batch_size=batch, max_epochs=2, stream_format=stream_format)
        with (
            epochs(cache, config, seed) as padded,
            epochs(cache, replace(config, last_batch="mask"), seed) as masked,
        ):
            for pad, mask in zip(padded, masked, strict=True):
                assert mask.users.shape == pad.users.shape
                assert mask.record.num_repeated == pad.record.num_repeated
                real = mask.record.num_samples - mask.record.num_repeated
                own = pad.samples[pad.record.num_repeated :]
                assert Counter(mask.samples[:real]) == Counter(own)
                user, item, _ = mask.samples[real - 1]
                filled = [(user, item, MASKED)] * mask.record.num_repeated
                assert mask.samples[real:] == filled
                assert mask.hashes == (mask.record.first_batch_sha256, mask.record.epoch_sha256)


@settings(max_examples=30, deadline=None)
@given(cache=rating_sets(), data=st.data(), seed=st.integers(0, 100))
def test_spilled_samples_open_the_next_epoch_and_none_is_lost(
    cache: RatingsCache, data: st.DataObject, seed: int
) -> None:
    # The producer refuses a batch that is larger than an epoch: spillover would leave no batch.
    samples = cache.num_train * (1 + small_config().train_negatives)
    batch = data.draw(st.integers(1, min(10, samples)))
    for stream_format in (1, 2):
        config = small_config(batch_size=batch, max_epochs=4, stream_format=stream_format)
        with (
            epochs(cache, config, seed) as padded,
            epochs(cache, replace(config, last_batch="spillover"), seed) as spilled,
        ):
            own = [made.samples[made.record.num_repeated :] for made in padded]
            assert [made.record.num_repeated for made in spilled] == [0] * 4
            received = [s for made in spilled for s in made.samples]
            last_epoch = len(own[-1]) - batch
            kept = Counter(s for epoch in own for s in epoch)
            assert not Counter(received) - kept
            assert sum(map(len, own)) - len(received) < batch
            assert len(received) > last_epoch
            carried = [made.record.num_carried for made in spilled]
            assert carried[0] == 0
            for before, after in zip(own, spilled[1:], strict=False):
                assert set(after.samples[: after.record.num_carried]) <= set(before)


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 2**62),
    last_batch=st.sampled_from(["pad", "mask", "spillover"]),
    stream_format=FORMATS,
)
def test_workers_do_not_change_a_byte(seed: int, last_batch: str, stream_format: int) -> None:
    cache = random_cache(1_200, 80, seed=1)  # more than one chunk and more than one bucket
    hashes = []
    for workers in (1, 2, 4, "auto"):
        config = small_config(
            generator_workers=workers,
            last_batch=last_batch,
            max_epochs=2,
            stream_format=stream_format,
        )
        with epochs(cache, config, seed) as made:
            hashes.append([data.record.epoch_sha256 for data in made])
    assert all(of_run == hashes[0] for of_run in hashes)
    assert len(set(hashes[0])) == 2


@pytest.mark.parametrize("last_batch", ["pad", "mask", "spillover"])
@pytest.mark.parametrize("batch", [48, 100, 2_048])
@pytest.mark.parametrize("pass_samples", [27_000, 33_000])
def test_an_epoch_in_many_pieces_has_the_bytes_of_one_in_memory(
    monkeypatch: pytest.MonkeyPatch, last_batch: str, batch: int, pass_samples: int
) -> None:
    monkeypatch.setattr(slices, "CELL_SAMPLES", 100)
    cache = random_cache(600, 80, seed=1)
    config = small_config(batch_size=batch, last_batch=last_batch, max_epochs=2)
    with epochs(cache, config) as whole, epochs(cache, config, pass_samples=pass_samples) as parts:
        for one, many in zip(whole, parts, strict=True):
            assert one.pieces == 1
            assert many.pieces > 2
            for name in ("users", "items", "labels"):
                np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
            assert one.hashes == many.hashes
            assert many.record.epoch_sha256 == one.record.epoch_sha256


def test_an_epoch_that_was_begun_and_left_does_not_show_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the left one, the first pass had kept what its second would have taken."""
    monkeypatch.setattr(slices, "CELL_SAMPLES", 100)
    cache, config = random_cache(600, 80, seed=1), small_config(batch_size=100, max_epochs=1)
    with epochs(cache, config) as whole, tempfile.TemporaryDirectory() as name:
        maker = EpochMaker(cache, options_of(config, 0), pass_samples=20_000)
        left = Path(name) / "left"
        left.mkdir()
        maker.write_piece(1, 0, left)
        found = one_epoch(maker, config, 0, Path(name))
        maker.close()
    np.testing.assert_array_equal(found.items, whole[0].items)


@pytest.mark.parametrize("last_batch", ["pad", "mask", "spillover"])
@pytest.mark.parametrize("workers", [2, 4, 64])
def test_a_worker_makes_its_columns_of_every_batch_and_no_others(
    tmp_path: Path, workers: int, last_batch: str
) -> None:
    cache = random_cache(200, 60, seed=3)
    config = small_config(batch_size=128, last_batch=last_batch, max_epochs=2)
    with epochs(cache, config) as whole, ThreadPoolExecutor(2) as pool:
        for worker in (0, workers - 1):
            own = range(worker * 64 // workers, (worker + 1) * 64 // workers)
            maker = SlicedMaker(cache, options_of(config, 0), pool, ahead=4, slices=own)
            columns = slice(worker * 128 // workers, (worker + 1) * 128 // workers)
            for epoch in range(2):
                folder = tmp_path / f"{worker}-{epoch}"
                folder.mkdir()
                maker.write_piece(epoch, 0, folder)
                for name in ("users", "items", "labels"):
                    found = np.load(folder / f"{name}.npy")
                    np.testing.assert_array_equal(found, getattr(whole[epoch], name)[:, columns])


def test_labels_and_negatives_keep_their_share_in_every_part_of_an_epoch() -> None:
    with epochs(random_cache(400, 60, seed=2), small_config(max_epochs=1)) as [data]:
        tenths = np.array_split(data.labels.ravel(), 10)
        share = np.array([part.mean() for part in tenths])
        spread = np.sqrt(0.2 * 0.8 / len(tenths[0]))
        assert (np.abs(share - 0.2) < 5 * spread).all()
