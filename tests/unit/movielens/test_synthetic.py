"""Generated ratings: exact geometry, equal bytes, and a taste that can be learned."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainbench.errors import ConfigError, MachineError
from trainbench.movielens import synthetic
from trainbench.movielens.datasets import DATASETS, Counts, SyntheticSize
from trainbench.movielens.formats import check_counts, check_pairs, read_ratings
from trainbench.movielens.split import split
from trainbench.ncf.benchmark import NCF
from trainbench.trials.paths import DataDir

QUICK = SyntheticSize(users=1_500, items=1_200, ratings=120_000)


@st.composite
def sizes(draw: st.DrawFn) -> SyntheticSize:
    """Every size that is allowed, up to 60 users and 150 items, the extremes included."""
    users, items = draw(st.integers(2, 60)), draw(st.integers(40, 150))
    low, high = max(20 * users, items), users * (items // 2)
    if low > high:
        users, low, high = 10, max(200, items), 10 * (items // 2)
    return SyntheticSize(users, items, draw(st.integers(low, high)), draw(st.integers(0, 3)))


@settings(deadline=None, max_examples=40)
@given(sizes(), st.sampled_from(sorted(synthetic.TASTES)))
def test_geometry_is_exact_for_every_size(size: SyntheticSize, dataset: str) -> None:
    drawn = synthetic.draw(size, taste=synthetic.TASTES[dataset])
    per_user = np.diff(drawn.starts)
    users = np.repeat(np.arange(size.users), per_user)
    assert len(drawn.items) == size.ratings
    assert per_user.min() >= 20
    assert per_user.max() <= size.items // 2
    assert len(np.unique(users * size.items + drawn.items)) == size.ratings
    assert np.array_equal(np.unique(drawn.items), np.arange(size.items))


def test_the_file_reads_back_with_the_published_counts(tmp_path) -> None:
    data = DataDir(tmp_path)
    manifest = synthetic.generate(replace(QUICK, users=300, ratings=24_000), data)
    assert manifest.counts == Counts(300, 1_200, 24_000)
    path = data.raw("synthetic") / manifest.ratings_file
    ratings = read_ratings(path, DATASETS["synthetic"].layout)
    check_counts(path, ratings, manifest.counts)
    check_pairs(path, ratings)
    assert ratings.sha256 == manifest.ratings_sha256
    assert path.read_text().splitlines()[0] == "userId,movieId,rating,timestamp"
    # As in ml-20m: ordered by user and movie, ids with gaps, stars in halves.
    keys = list(zip(ratings.users.tolist(), ratings.items.tolist(), strict=True))
    assert keys == sorted(keys)
    assert len(np.unique(ratings.items)) < ratings.items.max()
    assert len(np.unique(ratings.users)) < ratings.users.max()


def test_one_seed_one_file_and_another_seed_another(tmp_path) -> None:
    size = SyntheticSize(users=40, items=90, ratings=1_000)
    hashes = [
        synthetic.generate(s, DataDir(tmp_path / name)).ratings_sha256
        for name, s in (("a", size), ("b", size), ("c", replace(size, seed=1)))
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    content = (tmp_path / "a/raw/synthetic/ratings.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == hashes[0]


def test_generated_bytes_stay_what_they_were(tmp_path) -> None:
    """A changed hash means changed data for every user: raise ``synthetic.VERSION`` with it."""
    manifest = synthetic.generate(
        SyntheticSize(users=40, items=90, ratings=1_000), DataDir(tmp_path)
    )
    assert manifest.generator_version == 3
    assert manifest.ratings_sha256.startswith("e7f9bc7c41d29154")


def test_whole_ratings_are_left_and_damaged_ones_made_anew(tmp_path, capsys) -> None:
    data = DataDir(tmp_path)
    size = SyntheticSize(users=40, items=90, ratings=1_000)
    first = synthetic.generate(size, data)
    assert synthetic.generate(size, data) == first
    assert "unchanged" in capsys.readouterr().err
    path = data.raw("synthetic") / first.ratings_file
    content = path.read_bytes()
    path.write_bytes(content.replace(b"3.0", b"3.5", 1))
    assert synthetic.generate(size, data) == first
    assert path.read_bytes() == content


def test_a_full_disk_is_told_before_anything_is_written(tmp_path) -> None:
    size = SyntheticSize(users=10**11, items=10**6, ratings=10**15)
    with pytest.raises(MachineError, match=r"disk full: [0-9,]+ bytes needed, [0-9,]+ bytes free"):
        synthetic.generate(size, DataDir(tmp_path))
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratings": 29_999}, "from 30,000"),
        ({"ratings": 900_001}, "to 900,000"),
        ({"items": 39}, "40 items"),
        ({"users": 0}, "at least 1 user"),
        ({"seed": -1}, "seed from 0 up"),
    ],
)
def test_a_size_that_cannot_be_names_its_bounds(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        synthetic.generate(replace(QUICK, **change), DataDir(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_quick_preset_generates_the_size_that_is_measured_here() -> None:
    assert NCF.preset("quick").synthetic == QUICK


def hit_rates(ratings, negatives: int = 999) -> dict[str, float]:
    """HR@10 of a popularity ranking and of item-item cosine neighbours, ties lost."""
    result = split(ratings, min_ratings=20, tie_break="stable")
    seen = np.zeros((len(result.user_ids), len(result.item_ids)), dtype=np.float32)
    seen[result.users, result.items] = 1
    popularity = seen.sum(axis=0)
    cosine = (seen.T @ seen) / np.sqrt(np.outer(popularity, popularity) + 1)
    np.fill_diagonal(cosine, 0)
    scores = {"popularity": np.broadcast_to(popularity, seen.shape), "neighbours": seen @ cosine}
    return {
        name: _hit_rate(score, seen, result.test_items, negatives) for name, score in scores.items()
    }


def _hit_rate(
    score: npt.NDArray[np.float32],
    seen: npt.NDArray[np.float32],
    held_out: npt.NDArray[np.int32],
    negatives: int,
) -> float:
    rng = np.random.default_rng(7)
    hits = 0
    for user, item in enumerate(held_out):
        free = np.flatnonzero(seen[user] == 0)
        drawn = np.unique(rng.choice(free, negatives))
        better = np.sum(score[user, drawn[drawn != item]] >= score[user, item])
        hits += bool(better < 10)
    return hits / len(held_out)


def test_taste_can_be_learned_and_popularity_alone_does_not_do(tmp_path) -> None:
    """Measured: popularity 0.10, neighbours 0.39; NeuMF reaches 0.43 after four epochs."""
    data = DataDir(tmp_path)
    manifest = synthetic.generate(QUICK, data)
    path = data.raw("synthetic") / manifest.ratings_file
    rates = hit_rates(read_ratings(path, DATASETS["synthetic"].layout))
    assert 0.05 < rates["popularity"] < 0.20
    assert rates["neighbours"] > rates["popularity"] + 0.20


def best_hit_rate(size: SyntheticSize, taste: synthetic.Taste, users: int) -> float:
    """HR@10 of who knows each user's taste and every popularity; of the first ``users`` users."""
    world = synthetic._world(size, taste)
    per_user = synthetic._activity(size)[:users]
    likes = synthetic._likes(synthetic._rng(size.seed, "tastes"), world, per_user)
    slots = np.split(synthetic._chosen(world, per_user, 0), np.cumsum(per_user)[:-1])
    weights = np.diff(world.weights_before)
    genre = np.repeat(np.arange(world.genres), np.diff(world.genre_starts))
    of_genre = np.add.reduceat(weights, world.genre_starts[:-1])
    rng, hits = np.random.default_rng(3), 0
    for user, rated in enumerate(slots):
        liked = np.bincount(likes[user], minlength=world.genres) / likes.shape[1]
        score = taste.share * (liked / of_genre)[genre] * weights
        score += (1 - taste.share) * weights / weights.sum()
        drawn = np.setdiff1d(rng.integers(0, size.items, 999), rated)
        hits += bool(np.sum(score[drawn] >= score[rng.choice(rated)]) < 10)
    return hits / users


def test_what_can_be_known_of_the_rehearsal_is_little_more_than_the_target() -> None:
    """At full size: 0.76 of the plain generated ratings can be known, of the rehearsal's less."""
    size = NCF.preset("rehearsal").synthetic
    assert best_hit_rate(size, synthetic.TASTES["synthetic"], 1_000) > 0.73
    best = best_hit_rate(size, synthetic.TASTES["rehearsal"], 1_000)
    assert NCF.preset("mlperf").target_hit_rate + 0.02 < best < 0.71


def test_the_rehearsal_is_ml_20m_in_size_and_the_benchmark_in_all_else() -> None:
    config = NCF.preset("rehearsal")
    size, published = config.synthetic, DATASETS["ml-20m"].counts
    assert Counts(size.users, size.items, size.ratings) == published
    generated = {"preset": "mlperf", "dataset": "ml-20m", "synthetic": None}
    assert replace(config, **generated) == NCF.preset("mlperf")


def test_the_rehearsal_has_a_name_and_bytes_of_its_own(tmp_path) -> None:
    """A changed hash means changed data for every user: raise ``synthetic.VERSION`` with it."""
    size = SyntheticSize(users=40, items=90, ratings=1_000)
    found = [
        synthetic.generate(given, DataDir(tmp_path / name), "rehearsal")
        for name, given in (("a", size), ("b", size), ("c", replace(size, seed=1)))
    ]
    assert found[0] == found[1]
    assert found[0].ratings_sha256 != found[2].ratings_sha256
    assert found[0].dataset == "rehearsal"
    assert found[0].generated
    assert found[0].ratings_sha256.startswith("4e749d601909c8b9")


@pytest.mark.parametrize("dataset", synthetic.TASTES)
def test_popularity_is_skewed_and_activity_has_a_long_tail(dataset: str) -> None:
    drawn = synthetic.draw(QUICK, taste=synthetic.TASTES[dataset])
    popularity = np.sort(np.bincount(drawn.items))[::-1]
    activity = np.sort(np.diff(drawn.starts))[::-1]
    assert popularity[:120].sum() > 2.5 * 0.1 * QUICK.ratings
    assert activity[0] > 4 * np.median(activity)


def test_the_last_item_is_drawn_like_any_other(tmp_path) -> None:
    data = DataDir(tmp_path)
    manifest = synthetic.generate(QUICK, data)
    path = data.raw("synthetic") / manifest.ratings_file
    result = split(
        read_ratings(path, DATASETS["synthetic"].layout), min_ratings=20, tie_break="stable"
    )
    popularity = np.bincount(result.items, minlength=len(result.item_ids))
    users = np.arange(len(result.test_items))
    first = popularity[result.items[result.row_starts[users]]].mean()
    last = popularity[result.test_items].mean()
    assert last == pytest.approx(first, rel=0.1)
    assert 0.05 < result.tied_users / len(users) < 0.25
