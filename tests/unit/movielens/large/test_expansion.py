"""The fractal expansion keeps what the paper says, and is a function of ratings and seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.files import sha256_of
from trainbench.movielens import split
from trainbench.movielens.cache import open_cache
from trainbench.movielens.datasets import (
    Expansion,
    SplitSpec,
    SyntheticSize,
    read_manifest,
)
from trainbench.movielens.formats import Ratings
from trainbench.movielens.large import expand as shell
from trainbench.movielens.large.expand import expand
from trainbench.movielens.large.expansion import Seeds, expanded, rates, reduced
from trainbench.movielens.synthetic import draw, generate
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.degradations import degradations
from trainbench.ncf.steps import download
from trainbench.trials.paths import DataDir

FACTOR = Expansion(4, 6, seed=3)


def some_ratings(users: int = 300, items: int = 250, ratings: int = 12_000) -> Ratings:
    made = draw(SyntheticSize(users, items, ratings))
    rows = np.repeat(np.arange(users), np.diff(made.starts))
    times = np.random.default_rng(1).permutation(len(rows))
    return Ratings(rows * 3 + 7, made.items.astype(np.int64), times)


@pytest.fixture(scope="module")
def seeds() -> Seeds:
    return Seeds.of(some_ratings())


def dense(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    matrix = np.zeros(shape)
    matrix[rows, columns] = 1
    return matrix


def test_users_need_three_times_and_the_last_time_is_held_out() -> None:
    rows = np.array(
        [
            # user, item, second
            (8, 40, 3),
            (8, 10, 1),
            (8, 30, 3),
            (8, 20, 2),
            (5, 10, 1),
            (5, 20, 2),
            (5, 30, 2),
            (2, 20, 9),
            (2, 50, 7),
            (2, 40, 8),
        ]
    )
    seeds = Seeds.of(Ratings(rows[:, 0], rows[:, 1], rows[:, 2]))
    pairs = {*zip(seeds.train_rows.tolist(), seeds.train_columns.tolist(), strict=True)}
    # Users 2 and 8; items 10, 20, 30, 40, 50.
    assert pairs == {(0, 4), (0, 3), (1, 0), (1, 1)}
    tests = {*zip(seeds.test_rows.tolist(), seeds.test_columns.tolist(), strict=True)}
    assert tests == {(0, 1), (1, 3), (1, 2)}
    assert (seeds.rows, seeds.columns) == (2, 5)
    with pytest.raises(DataIntegrityError, match="none of 1 users has ratings of three"):
        Seeds.of(Ratings(rows[4:7, 0], rows[4:7, 1], rows[4:7, 2]))


def test_the_small_matrix_has_the_largest_singular_values(seeds: Seeds) -> None:
    matrix = dense(seeds.train_rows, seeds.train_columns, (seeds.rows, seeds.columns))
    wanted = np.linalg.svd(matrix, compute_uv=False)
    small = reduced(seeds, FACTOR)
    assert small.shape == (4, 6)
    np.testing.assert_allclose(np.linalg.svd(small, compute_uv=False), wanted[:4], rtol=1e-3)
    kept = rates(seeds, FACTOR)
    assert 0.01 <= kept.min() <= kept.max() == 0.95


def test_every_block_keeps_its_share_and_no_pair_is_made_twice(seeds: Seeds) -> None:
    kept = rates(seeds, FACTOR)
    for number in range(FACTOR.users):
        row = expanded(seeds, FACTOR, kept, number, 2)
        assert (np.diff(row.keys) > 0).all(), "ascending, each once"
        users, items = np.divmod(row.keys, row.width)
        found = np.bincount(items // seeds.columns, minlength=FACTOR.items)
        # Users whose held-out items were all dropped are left out, whatever they rated.
        wanted = kept[number] * len(seeds.train_rows) * len(row.users) / seeds.rows
        assert (np.abs(found - wanted) < 0.1 * wanted + 60).all()
        assert np.isin(users, row.users).all()
        held_out = row.users * row.width + row.items
        assert not np.isin(held_out, row.keys).any()


def test_popularity_and_activity_keep_their_fat_tails(seeds: Seeds) -> None:
    """The share of pairs that the most popular tenth has lies near that of the ratings.

    An expanded item is another of the ratings' items in each row of blocks, which evens them out.
    """
    kept = rates(seeds, FACTOR)
    rows = [expanded(seeds, FACTOR, kept, number, 2) for number in range(FACTOR.users)]
    keys = np.concatenate([row.keys + row.first * row.width for row in rows])
    users, items = np.divmod(keys, rows[0].width)

    def top_tenth(of: np.ndarray) -> float:
        counts = np.sort(np.bincount(of))[::-1]
        return float(counts[: len(counts) // 10].sum() / counts.sum())

    even = 0.1
    assert top_tenth(items) > (even + top_tenth(seeds.train_columns)) / 2
    assert top_tenth(users) > (even + top_tenth(seeds.train_rows)) / 2


def test_the_spectrum_of_a_block_decays_as_that_of_the_ratings(seeds: Seeds) -> None:
    """The Kronecker product's values are products; a block's are those of its rate and more noise.

    Leaving out ratings at random scales the leading values by the rate.
    """
    matrix = dense(seeds.train_rows, seeds.train_columns, (seeds.rows, seeds.columns))
    before = np.linalg.svd(matrix, compute_uv=False)
    kept = np.full((1, 1), 0.8)
    # With so many held-out items that no user is left out.
    columns = (seeds.test_columns[:, None] + np.arange(12, dtype=np.int32)) % seeds.columns
    many = replace(seeds, test_rows=np.repeat(seeds.test_rows, 12), test_columns=columns.ravel())
    row = expanded(many, Expansion(1, 1, 2), kept, 0, 1)
    users, items = np.divmod(row.keys, row.width)
    after = np.linalg.svd(dense(users, items, matrix.shape), compute_uv=False)
    assert after[0] == pytest.approx(0.8 * before[0], rel=0.03)
    np.testing.assert_allclose(after[:10], 0.8 * before[:10], rtol=0.25)


@pytest.fixture
def spec() -> SplitSpec:
    return SplitSpec("synthetic", SyntheticSize(120, 90, 4_000), expand=Expansion(2, 3))


def test_an_expansion_is_named_exactly_and_made_once(spec: SplitSpec, tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert spec.synthetic is not None
    base = generate(spec.synthetic, data)
    manifest = expand(spec, data)
    assert manifest == read_manifest(data.manifest("synthetic-by-2x3"))
    assert manifest.generated
    assert manifest.expanded is not None
    assert manifest.expanded.dataset == "synthetic"
    assert manifest.expanded.ratings_sha256 == base.ratings_sha256
    assert manifest.expanded.factor == Expansion(2, 3, 0)
    path = data.raw(spec.raw) / manifest.ratings_file
    assert manifest.ratings_sha256 == sha256_of(path)
    written = path.stat().st_mtime_ns
    assert expand(spec, data) == manifest
    assert path.stat().st_mtime_ns == written

    cache = open_cache(split.run(spec, data), verify=True)
    counts = manifest.counts
    assert counts is not None
    assert (cache.num_users, cache.num_items, cache.num_train) == (
        counts.users,
        counts.items,
        counts.ratings,
    )
    assert cache.record["manifest"]["expanded"]["factor"] == {"users": 2, "items": 3, "seed": 0}
    other = replace(spec, expand=Expansion(2, 3, seed=1))
    with pytest.raises(MachineError, match="found an expansion by"):
        split.run(other, data)
    assert expand(other, data).ratings_sha256 != manifest.ratings_sha256
    assert expand(spec, data).ratings_sha256 == manifest.ratings_sha256


def test_a_disk_too_small_for_all_steps_is_told_before_the_work(
    spec: SplitSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataDir(tmp_path)
    config = NCF.with_settings(NCF.preset("quick"), ["synthetic=120x90x4000", "expand=2x3"])
    usage = shell.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shell.shutil, "disk_usage", lambda path: usage._replace(free=900_000))
    with pytest.raises(MachineError) as refused:
        download(config, data)
    for part in ("pairs ", "cache ", "candidates ", "epochs ", "900,000 bytes free"):
        assert part in str(refused.value)
    assert not data.raw(config.split_spec.raw).exists()


def test_a_run_on_an_expansion_says_so() -> None:
    config = NCF.with_settings(NCF.preset("quick"), ["expand=2x3x5"])
    assert NCF.task(config) == "synthetic expanded by 2x3, seed 5"
    assert config.target_hit_rate is None, "no target was measured on it"
    notes = degradations(config, {}, {"generated": True, "expanded": {"dataset": "synthetic"}})
    reasons = {note[0] for note in notes if note[2]}
    assert "expanded_data" in reasons
    assert "generated_data" not in reasons


def test_an_expansion_that_keeps_no_user_is_refused_and_leaves_nothing(
    spec: SplitSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataDir(tmp_path)
    assert spec.synthetic is not None
    generate(spec.synthetic, data)
    monkeypatch.setattr(shell, "rates", lambda seeds, factor: np.zeros((2, 3)))
    with pytest.raises(DataIntegrityError, match="of 120 users expanded by 2x3, seed 0, none kept"):
        expand(spec, data)
    assert [path.name for path in data.raw(spec.raw).parent.iterdir()] == ["synthetic"]


def test_users_that_no_shard_can_number_are_refused_before_the_work(
    spec: SplitSpec, seeds: Seeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataDir(tmp_path)
    assert spec.synthetic is not None
    generate(spec.synthetic, data)
    monkeypatch.setattr(shell, "_seeds", lambda *given: replace(seeds, rows=5_000_000))
    with pytest.raises(DataIntegrityError, match="up to 2,560,000,000, wanted 2,147,483,647 at"):
        expand(replace(spec, expand=Expansion(512, 1)), data)


def test_own_ratings_are_not_called_as_an_expansion_of_others() -> None:
    with pytest.raises(ConfigError, match="own ratings need a name that is unlike these"):
        NCF.with_settings(NCF.preset("quick"), ["dataset=mine-by-2x3"])


@pytest.mark.parametrize("factor", ["0x3", "1x1", "2x600", "2x3x-1"])
def test_a_factor_that_makes_no_sense_is_refused(factor: str) -> None:
    with pytest.raises(ConfigError, match=f"expand={factor}"):
        NCF.with_settings(NCF.preset("quick"), [f"expand={factor}"])


def test_what_is_expanded_already_is_not_expanded_again() -> None:
    with pytest.raises(ConfigError, match="is an expansion already"):
        NCF.with_settings(NCF.preset("reference"), ["dataset=ml-20mx16x32", "expand=2x3"])
