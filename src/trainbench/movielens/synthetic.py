"""Generated ratings in ml-20m's layout: for machines without a network, for tests, for scale.

The model of taste: every item belongs to one genre and has a popularity within it; every user
likes a few genres and draws most ratings from those, the rest from everything. Ratings come in
random order, so the last one, which is held out, is as predictable as any other.

Every draw is integer or IEEE-exact arithmetic (no exp, log or power), with one generator per
purpose, so that a seed gives the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainbench.errors import ConfigError
from trainbench.files import sha256_of, whole_file, writing
from trainbench.movielens.datasets import (
    DATASETS,
    Counts,
    Manifest,
    SyntheticSize,
    read_manifest,
    write_manifest,
)
from trainbench.progress import Progress, log_line
from trainbench.trials.paths import DataDir

VERSION = 3
MIN_RATINGS = 20
MIN_ITEMS = 2 * MIN_RATINGS

_USERS_PER_CHUNK = 4_096
_ROUNDS = 12
_BYTES_PER_ROW = 32

# Half stars in about ml-20m's shares.
_STARS = np.array(
    [f"{n / 2:.1f}" for n in (1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 8, 8, 8, 9, 10, 10)], dtype=object
)
_PURPOSES = ("ids", "activity", "genres", "tastes", "coverage", "times")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Taste:
    """What makes generated ratings hard to learn.

    Attributes:
        share: of ratings that follow the user's taste; the others are of any item.
        room: items of the genres that a user likes, for each of the user's ratings.
        genres: their number for each unit of the root of the number of items: the rank of what
            there is to learn.
    """

    share: float
    room: float
    genres: float


# By dataset. How well each is learned: tests/unit/movielens/test_synthetic.py and
# docs/convergence.md.
TASTES: Mapping[str, Taste] = {
    "synthetic": Taste(share=0.85, room=1.6, genres=1),
    "rehearsal": Taste(share=0.74, room=1.6, genres=3),
}


@dataclass(frozen=True)
class _World:
    """What the users of one dataset share. A slot is an item in the order of its genre.

    weights_before: float64[items + 1], sum of the popularity of all slots before; genre_starts:
    int64[genres + 1], first slot of each genre.
    """

    seed: int
    items: int
    taste: Taste
    weights_before: npt.NDArray[np.float64]
    genre_starts: Ints

    @property
    def genres(self) -> int:
        return len(self.genre_starts) - 1


@dataclass(frozen=True)
class Generated:
    """Ratings grouped by user: user ``u`` rated ``items[starts[u]:starts[u + 1]]``, unordered.

    items: int32[ratings], 0-based; starts: int64[users + 1].
    """

    items: npt.NDArray[np.int32]
    starts: Ints


def validated(size: SyntheticSize) -> SyntheticSize:
    """``size`` itself, or a ``ConfigError`` that names the bound it breaks.

    Every user has at least 20 ratings and at most half of the items, every item at least one.
    """
    if size.users < 1 or size.items < MIN_ITEMS or size.seed < 0:
        raise ConfigError(
            f"synthetic {size}: wanted at least 1 user, {MIN_ITEMS} items and a seed from 0 up"
        )
    low = max(MIN_RATINGS * size.users, size.items)
    high = size.users * (size.items // 2)
    if not low <= size.ratings <= high:
        raise ConfigError(
            f"synthetic ratings={size.ratings:,}: wanted from {low:,} ({MIN_RATINGS} per user, one "
            f"per item) to {high:,} (half of all pairs)"
        )
    return size


def draw(
    size: SyntheticSize,
    on_users: Callable[[int], object] = lambda users: None,
    *,
    taste: Taste = TASTES["synthetic"],
) -> Generated:
    """Who rated what: exactly ``size``, no pair twice, every item rated; deterministic.

    ``on_users`` hears of every batch of users done.
    """
    per_user = _activity(size)
    world = _world(size, taste)
    slots = np.empty(size.ratings, dtype=np.int32)
    starts = np.concatenate(([0], np.cumsum(per_user))).astype(np.int64)
    for first in range(0, size.users, _USERS_PER_CHUNK):
        last = min(first + _USERS_PER_CHUNK, size.users)
        slots[starts[first] : starts[last]] = _chosen(world, per_user[first:last], first)
        on_users(last - first)
    _cover(slots, size)
    # Genres must not show in the numbering of the items.
    item_of_slot = _rng(size.seed, "genres").permutation(size.items).astype(np.int32)
    return Generated(item_of_slot[slots], starts)


def _rng(seed: int, purpose: str, chunk: int = 0) -> np.random.Generator:
    key = (_PURPOSES.index(purpose), chunk)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _activity(size: SyntheticSize) -> Ints:
    """Ratings per user: 20 and a share of the rest with the tail of a Pareto of exponent 2."""
    most = size.items // 2
    weights = 1 / np.sqrt(1 - _rng(size.seed, "activity").random(size.users)) - 0.9
    per_user = np.full(size.users, MIN_RATINGS, dtype=np.int64)
    while left := size.ratings - int(per_user.sum()):
        open_users = np.flatnonzero(per_user < most)
        shares = weights[open_users] / np.cumsum(weights[open_users])[-1]
        extra = (shares * left).astype(np.int64)
        # What rounding leaves goes one by one, so that every turn makes progress.
        extra[: left - int(extra.sum())] += 1
        per_user[open_users] = np.minimum(per_user[open_users] + extra, most)
    return per_user


def _world(size: SyntheticSize, taste: Taste) -> _World:
    """Genres of equal size, as many as the taste has them; Zipf within and between them."""
    genres = max(2, int(taste.genres * np.sqrt(size.items)))
    genre_starts = np.arange(genres + 1) * size.items // genres
    genre_of = np.repeat(np.arange(genres), np.diff(genre_starts))
    rank = np.arange(size.items) - genre_starts[genre_of]
    weights = 1 / ((genre_of + genres / 8) * (rank + size.items / genres / 8))
    before = np.concatenate(([0.0], np.cumsum(weights)))
    return _World(size.seed, size.items, taste, before, genre_starts)


def _chosen(world: _World, per_user: Ints, first_user: int) -> Ints:
    """Slots that a chunk of users rated, grouped by user: draws without replacement.

    Users draw in rounds until each has enough distinct slots; the few who have not after the last
    round, because they have rated nearly all of their genres, are filled from all slots alike.
    """
    rng = _rng(world.seed, "tastes", first_user)
    likes = _likes(rng, world, per_user)
    pairs = np.empty(0, dtype=np.int64)
    for _ in range(_ROUNDS):
        missing = per_user - np.bincount(pairs // world.items, minlength=len(per_user))
        users = np.repeat(np.arange(len(per_user)), missing + missing // 2)
        if not len(users):
            break
        new = users * world.items + _drawn(rng, world, likes, users)
        pairs = _first_distinct(np.concatenate((pairs, new)), per_user, world.items)
    pairs = np.concatenate((pairs, *_fillers(rng, world, per_user, pairs)))
    return np.sort(pairs) % world.items


def _likes(rng: np.random.Generator, world: _World, per_user: Ints) -> Ints:
    """The genres each user of a chunk likes, int64[users, most]; popular genres more often.

    A row repeats its own genres to its end, so that a uniform column is a uniform liked genre.
    """
    room = per_user * world.taste.room * world.genres / world.items
    number = np.clip(np.ceil(room).astype(np.int64), 2, world.genres)
    most = int(number.max())
    at = rng.random((len(per_user), most)) * world.weights_before[-1]
    slots = np.searchsorted(world.weights_before, at, side="right") - 1
    genres = np.searchsorted(world.genre_starts, slots, side="right") - 1
    column = np.arange(most)[None, :] % number[:, None]
    return np.take_along_axis(genres, column, axis=1)


def _drawn(rng: np.random.Generator, world: _World, likes: Ints, users: Ints) -> Ints:
    """One slot for every entry of ``users``: from a genre the user likes, or from all of them."""
    genre = likes[users, rng.integers(0, likes.shape[1], len(users))]
    low = world.weights_before[world.genre_starts[genre]]
    high = world.weights_before[world.genre_starts[genre + 1]]
    anything = rng.random(len(users)) >= world.taste.share
    low[anything], high[anything] = 0.0, world.weights_before[-1]
    at = low + rng.random(len(users)) * (high - low)
    slots = np.searchsorted(world.weights_before, at, side="right") - 1
    return np.minimum(slots, world.items - 1)


def _first_distinct(pairs: Ints, per_user: Ints, items: int) -> Ints:
    """Each user's first ``per_user`` distinct pairs, a pair being ``user * items + slot``."""
    _, first = np.unique(pairs, return_index=True)
    pairs = pairs[np.sort(first)]
    pairs = pairs[np.argsort(pairs // items, kind="stable")]
    users = pairs // items
    found = np.bincount(users, minlength=len(per_user))
    rank = np.arange(len(pairs)) - (np.cumsum(found) - found)[users]
    return pairs[rank < per_user[users]]


def _fillers(
    rng: np.random.Generator, world: _World, per_user: Ints, pairs: Ints
) -> Iterator[Ints]:
    missing = per_user - np.bincount(pairs // world.items, minlength=len(per_user))
    for user in np.flatnonzero(missing):
        rated = pairs[pairs // world.items == user] % world.items
        free = np.setdiff1d(np.arange(world.items), rated)
        yield user * world.items + rng.permutation(free)[: missing[user]]


def _cover(slots: npt.NDArray[np.int32], size: SyntheticSize) -> None:
    """Give every slot that nobody rated one rating of a slot that has more than one, in place."""
    unrated = np.flatnonzero(np.bincount(slots, minlength=size.items) == 0)
    if not len(unrated):
        return
    _, first = np.unique(slots, return_index=True)
    spare = np.setdiff1d(np.arange(len(slots)), first)
    taken = _rng(size.seed, "coverage").permutation(spare)[: len(unrated)]
    slots[taken] = unrated


def generate(size: SyntheticSize, data: DataDir, name: str = "synthetic") -> Manifest:
    """Write DATA/raw/NAME/{ratings.csv, manifest.json}, or leave them if they are whole.

    ``name``: the dataset, one of ``TASTES``.

    Raises:
        ConfigError: a size that cannot be. MachineError: the disk is full; nothing is left behind.
    """
    size = validated(size)
    dataset = DATASETS[name]
    path = data.raw(dataset.name) / dataset.layout.ratings_file
    present = read_manifest(data.manifest(dataset.name))
    if present and _is_whole(present, size, path):
        log_line(f"download: {path} is there and unchanged ({size.ratings:,} generated ratings)")
        return present
    path.parent.mkdir(parents=True, exist_ok=True)
    sha256 = _write_csv(path, size, TASTES[name])
    manifest = Manifest(
        dataset=dataset.name,
        source="generator",
        ratings_file=path.name,
        ratings_bytes=path.stat().st_size,
        ratings_sha256=sha256,
        published=False,
        generated=True,
        generator=size,
        generator_version=VERSION,
        counts=Counts(size.users, size.items, size.ratings),
    )
    write_manifest(manifest, data)
    return manifest


def _is_whole(manifest: Manifest, size: SyntheticSize, path: Path) -> bool:
    return (
        (manifest.generator, manifest.generator_version) == (size, VERSION)
        and path.exists()
        and path.stat().st_size == manifest.ratings_bytes
        and sha256_of(path) == manifest.ratings_sha256
    )


def _write_csv(path: Path, size: SyntheticSize, taste: Taste) -> str:
    """Write the ratings by rename; the SHA-256 of the file."""
    digest = hashlib.sha256()
    with (
        whole_file(path, path.with_name(path.name + ".part")) as part,
        writing(path, size.ratings * _BYTES_PER_ROW),
        part.open("wb") as file,
    ):
        for text in _csv(size, taste):
            digest.update(text)
            file.write(text)
    return digest.hexdigest()


def _csv(size: SyntheticSize, taste: Taste) -> Iterator[bytes]:
    """The file in chunks, ordered by user and movie id as ml-20m is."""
    with Progress(size.users, unit="users", label="draw tastes") as progress:
        ratings = draw(size, progress.advance, taste=taste)
    rng = _rng(size.seed, "ids")
    user_ids = np.cumsum(rng.integers(1, 3, size.users))
    item_ids = np.cumsum(rng.integers(1, 9, size.items))
    yield b"userId,movieId,rating,timestamp\n"
    with Progress(size.ratings, unit="ratings", label="write ratings") as progress:
        for first in range(0, size.users, _USERS_PER_CHUNK):
            starts = ratings.starts[first : first + _USERS_PER_CHUNK + 1]
            rng = _rng(size.seed, "times", first)
            per_user = np.diff(starts)
            users = np.repeat(np.arange(len(per_user)), per_user)
            items = ratings.items[starts[0] : starts[-1]]
            items = items[np.lexsort((items, users))]
            columns = (
                user_ids[first + users].tolist(),
                item_ids[items].tolist(),
                _STARS[rng.integers(0, len(_STARS), len(items))].tolist(),
                _times(rng, users, per_user).tolist(),
            )
            yield "".join(map("%d,%d,%s,%d\n".__mod__, zip(*columns, strict=True))).encode()
            progress.advance(len(items))


def _times(rng: np.random.Generator, users: Ints, per_user: Ints) -> Ints:
    """Seconds since 1970, in random order within a user; one in seven repeats the one before."""
    kind = rng.integers(0, 100, len(users))
    gaps = np.where(kind < 99, rng.integers(1, 120, len(users)), rng.integers(3_600, 10**6))
    gaps[kind < 15] = 0
    sums = np.cumsum(gaps)
    ends = np.cumsum(per_user)
    began = rng.integers(800_000_000, 1_400_000_000, len(per_user))
    in_order = sums - sums[ends - per_user][users] + began[users]
    times: Ints = np.empty_like(in_order)
    times[np.lexsort((rng.random(len(users)), users))] = in_order
    return times
