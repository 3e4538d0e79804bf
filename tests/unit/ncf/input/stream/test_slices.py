"""Dealing an epoch's samples: fixed sizes, and every order equally likely."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from math import comb
from pathlib import Path

import numpy as np
import pytest
from chi_square import far_out
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cache import cache_of, small_config

from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.stream import slices
from trainbench.ncf.input.stream.sliced import SlicedMaker
from trainbench.ncf.input.stream.slices import Layout, dealt, drawn, slice_bounds


@given(
    samples=st.integers(1, 10_000),
    batch=st.integers(1, 300),
    last_batch=st.sampled_from(["pad", "mask", "spillover"]),
    carried=st.integers(0, 299),
    chunks=st.integers(1, 50),
)
def test_cells_and_rest_hold_every_sample_once(
    samples: int, batch: int, last_batch: str, carried: int, chunks: int
) -> None:
    # Fewer samples than a batch are refused with spillover.
    samples = max(samples, batch) if last_batch == "spillover" else samples
    carried = carried % batch if last_batch == "spillover" else 0
    layout = Layout.of(samples, batch, last_batch=last_batch, carried=carried, chunks=chunks)
    assert (layout.cells >= 0).all()
    assert layout.cells.sum() + layout.rest == samples
    assert layout.rest < batch
    full = int(layout.span_bounds[-1])
    assert full * batch == layout.cells.sum() + layout.opening * bool(full)
    assert (layout.rest == 0) | (last_batch != "pad")
    passes = layout.passes(1_000)
    assert [span for group in passes for span in group] == list(range(layout.spans))
    assert max(map(len, passes)) - min(map(len, passes)) <= 1


def test_slices_of_a_batch_differ_by_at_most_one_sample() -> None:
    for batch in (1, 63, 64, 100, 2_048, 65_536):
        widths = np.diff(slice_bounds(batch))
        assert widths.sum() == batch
        assert widths.max() - widths.min() <= 1


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=20).filter(any),
    st.integers(1, 7),
    st.integers(0, 1_000),
    st.sampled_from([10, 10**9]),
)
def test_hands_are_dealt_whole(cells: list[int], hands: int, seed: int, numpy_most: int) -> None:
    sizes, rng = np.array(cells, dtype=np.int64), np.random.default_rng(seed)
    chunks = rng.multinomial(sizes.sum(), np.ones(hands) / hands).astype(np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "_NUMPY_MOST", numpy_most)
        table = dealt(rng, sizes, chunks)
    assert (table >= 0).all()
    assert (table.sum(axis=0) == sizes).all()
    assert (table.sum(axis=1) == chunks).all()


def test_the_producer_shows_that_it_lives_after_each_chunk_that_is_dealt() -> None:
    beats: list[None] = []
    chunks = np.full(50, 3)
    dealt(np.random.default_rng(1), np.full(10, 15), chunks, lambda: beats.append(None))
    # What is left for the last one needs no draw.
    assert len(beats) == 49


def test_a_draw_of_any_size_is_multivariate_hypergeometric() -> None:
    cells, wanted, tries = np.array([3, 2, 4]), 4, 20_000
    rng = np.random.default_rng(5)
    found = Counter(tuple(drawn(rng, cells, wanted).tolist()) for _ in range(tries))
    expected = {
        (a, b, wanted - a - b): comb(3, a) * comb(2, b) * comb(4, wanted - a - b) / comb(9, wanted)
        for a in range(4)
        for b in range(3)
        if 0 <= wanted - a - b <= 4
    }
    assert found.keys() <= expected.keys()
    chi = sum((found[k] - tries * p) ** 2 / (tries * p) for k, p in expected.items())
    assert chi < far_out(len(expected) - 1)


def test_a_draw_from_billions_takes_each_cell_by_its_share() -> None:
    rng = np.random.default_rng(2)
    cells = np.array([4_000_000_000, 1_000_000_000, 10, 0])
    taken = drawn(rng, cells, 3_000_000_000)
    assert taken.sum() == 3_000_000_000
    assert taken[3] == 0
    # Six standard deviations of the hypergeometric distribution: 12,649 for the first two.
    assert abs(taken[0] - 2_400_000_000) < 6 * 12_649 + 10


@pytest.mark.parametrize(("batch", "cell_samples"), [(1, 1), (2, 1), (4, 1 << 17)])
def test_all_orders_of_a_tiny_epoch_are_equally_likely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, cell_samples: int
) -> None:
    monkeypatch.setattr(slices, "CELL_SAMPLES", cell_samples)
    # Two users with one pair and one item that is not rated: four samples, always the same.
    cache = cache_of([[0], [1]], [1, 0], items=2)
    config = small_config(batch_size=batch, train_negatives=1)
    tries, found = 240, Counter[tuple[int, ...]]()
    with ThreadPoolExecutor(1) as pool:
        for seed in range(tries):
            options = GenerationOptions.of(
                config, cache_folder=Path(), compliance_file=Path(), seed=seed
            )
            SlicedMaker(cache, options, pool, ahead=2).write_piece(0, 0, tmp_path)
            users, labels = (np.load(tmp_path / f"{name}.npy") for name in ("users", "labels"))
            found[tuple((2 * users + labels).ravel().tolist())] += 1
    orders = list(permutations(range(4)))
    assert set(found) <= set(orders)
    counts = np.array([found[order] for order in orders])
    assert ((counts - tries / 24) ** 2 / (tries / 24)).sum() < far_out(23)
