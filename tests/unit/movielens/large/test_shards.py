"""Pairs in shards as they are published: read in blocks, split as given, damage named."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from trainbench.errors import DataIntegrityError
from trainbench.files import sha256_of
from trainbench.movielens import archive, split
from trainbench.movielens.cache import open_cache
from trainbench.movielens.datasets import SplitSpec, dataset, read_manifest
from trainbench.movielens.large import shards
from trainbench.progress import scaled
from trainbench.trials.paths import DataDir

NAME = "ml-20mx16x32"
Arrays = dict[str, np.ndarray]


def some_arrays(*, parts: int = 3, users: int = 40, items: int = 60, seed: int = 1) -> Arrays:
    """Shards of pairs: users by shard and ascending, without a gap but between shards."""
    rng = np.random.default_rng(seed)
    found: Arrays = {}
    for part in range(parts):
        train, test = [], []
        for user in range(part * 100, part * 100 + users):
            rated = rng.permutation(items)[: rng.integers(2, 20)]
            train += [[user, item] for item in np.sort(rated[1:])]
            test.append([user, rated[0]])
        found[f"trainx{parts}x5_{part}.npz"] = np.array(train)
        found[f"testx{parts}x5_{part}.npz"] = np.array(test)
    return found


def a_tar(path: Path, arrays: Arrays, folder: str = "ml-20mx16x32/") -> Path:
    with tarfile.open(path, "w") as tar:
        for name, array in arrays.items():
            text = io.BytesIO()
            np.savez_compressed(text, array)
            member = tarfile.TarInfo(folder + name)
            member.size = len(text.getvalue())
            tar.addfile(member, io.BytesIO(text.getvalue()))
    return path


def cache_of(tmp_path: Path, path: Path) -> Path:
    data = DataDir(tmp_path / "data")
    archive.download(dataset(NAME), data, archive=path, sha256=sha256_of(path))
    return split.run(SplitSpec(NAME), data)


def expected(arrays: Arrays) -> tuple[list[list[int]], list[int]]:
    """The training items of each user in order, and the held-out item."""
    train = np.concatenate([a for name, a in arrays.items() if name.startswith("train")])
    test = np.concatenate([a for name, a in arrays.items() if name.startswith("test")])
    users = np.unique(train[:, 0])
    rows = [train[train[:, 0] == user, 1].tolist() for user in users]
    return rows, [int(test[test[:, 0] == user, 1][0]) for user in users]


def test_the_given_split_is_the_cache(tmp_path: Path) -> None:
    arrays = some_arrays()
    cache = open_cache(cache_of(tmp_path, a_tar(tmp_path / "a.tar", arrays)), verify=True)
    rows, held_out = expected(arrays)
    starts = cache.row_starts
    found = [cache.items[a:b].tolist() for a, b in itertools.pairwise(starts)]
    assert found == rows
    assert cache.users.tolist() == np.repeat(np.arange(len(rows)), [*map(len, rows)]).tolist()
    assert cache.test_items.tolist() == held_out
    assert cache.user_ids.tolist() == [100 * p + u for p in range(3) for u in range(40)]
    assert cache.num_items == 60
    assert cache.record["manifest"]["split"] == "given"
    assert cache.record["tied_users"] == cache.record["counts"]["dropped_users"] == 0
    log = (cache.folder / "compliance_raw.log").read_text()
    fewest = min(map(len, rows)) + 1
    assert f"preproc_hp_min_ratings: {fewest}\n" in log, "nobody was left out here"


def test_the_order_of_pairs_in_the_shards_matters_within_a_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = some_arrays()
    whole = open_cache(cache_of(tmp_path / "a", a_tar(tmp_path / "a.tar", arrays)), verify=True)
    train = [name for name in arrays if name.startswith("train")]
    pairs = np.concatenate([arrays[name] for name in train])
    rng = np.random.default_rng(3)
    # Users in a random order, and what they have divided over the shards anyhow.
    place = rng.permutation(300)[pairs[:, 0]]
    mixed = pairs[np.argsort(place, kind="stable")]
    cut = np.sort(rng.integers(0, len(mixed), 2))
    arrays |= dict(zip(train, np.split(mixed.astype(np.int32), cut), strict=True))
    monkeypatch.setattr(shards, "BLOCK_ROWS", 37)
    small = partial(split.outside.of_pairs, users_per_bucket=7)
    monkeypatch.setattr(split.outside, "of_pairs", small)
    again = open_cache(cache_of(tmp_path / "b", a_tar(tmp_path / "b.tar", arrays)), verify=True)
    assert again.record["arrays"] == whole.record["arrays"]


def test_both_passes_over_the_pairs_say_how_far_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = some_arrays()
    cache = open_cache(cache_of(tmp_path, a_tar(tmp_path / "a.tar", arrays)), verify=True)
    told = capsys.readouterr().err
    every = cache.num_train + cache.num_users
    assert f"read {NAME}.tar: done, {scaled(every, 'pairs')} in" in told
    assert f"sort and write the cache: done, {scaled(cache.num_train, 'pairs')} in" in told


def test_nothing_is_unpacked_and_another_archive_is_marked(tmp_path: Path) -> None:
    path = a_tar(tmp_path / "a.tar", some_arrays())
    cache_of(tmp_path, path)
    data = DataDir(tmp_path / "data")
    assert sorted(p.name for p in data.raw(NAME).iterdir()) == ["manifest.json", f"{NAME}.tar"]
    manifest = read_manifest(data.manifest(NAME))
    assert manifest is not None
    assert not manifest.published
    assert manifest.note == "no checksum of this archive is known"
    assert all(check.ok for check in archive.verify(dataset(NAME), data))


def test_an_archive_of_which_no_checksum_is_known_needs_the_users_word(tmp_path: Path) -> None:
    path = a_tar(tmp_path / "a.tar", some_arrays())
    with pytest.raises(DataIntegrityError, match="none is published to compare with"):
        archive.download(dataset(NAME), DataDir(tmp_path / "data"), archive=path)


def without(name: str) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.pop(name)


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({name: change(arrays[name])})


def first_pair(user: int, item: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pairs: np.concatenate([[[user, item]], pairs[1:]])


TRAIN, TEST = "trainx3x5_1.npz", "testx3x5_1.npz"
DAMAGE: dict[str, tuple[Callable[[Arrays], object], str]] = {
    "a shard is missing": (without(TRAIN), "trainx3x5_1.npz is missing: found 5 shards, wanted 6"),
    "a test shard is missing": (without(TEST), "testx3x5_1.npz is missing"),
    "all are missing": (lambda arrays: arrays.clear(), "none called trainxAxB_K.npz"),
    "real numbers": (changed(TRAIN, lambda a: a.astype(float)), "arr_0 is float64"),
    "objects": (changed(TRAIN, lambda a: a.astype(object)), "arr_0 is object"),
    "three columns": (changed(TRAIN, lambda a: np.pad(a, ((0, 0), (0, 1)))), "wanted whole numb"),
    "one dimension": (changed(TEST, lambda a: a.ravel()), "wanted whole numbers"),
    "by columns": (changed(TRAIN, np.asfortranarray), "wanted whole numbers"),
    "a negative item": (changed(TRAIN, first_pair(100, -1)), "row 1: found user 100 and item -1"),
    "a user out of range": (changed(TEST, first_pair(2**31, 1)), "found user 2147483648"),
    "a user beyond what so many pairs can have": (
        changed(TEST, first_pair(2**31 - 2, 1)),
        "found user 2147483646 and item 1, wanted numbers from 0 to 16,777,216",
    ),
    "an item beyond it": (changed(TRAIN, first_pair(100, 2**31 - 2)), "item 2147483646, wanted"),
    "no pair at all": (
        lambda arrays: arrays.update({name: a[:0] for name, a in arrays.items()}),
        "no pair in it",
    ),
    "a user without test item": (changed(TEST, lambda a: a[1:]), "user 100 has no item in the"),
    "a user with two": (
        changed(TEST, lambda a: np.concatenate([a[:1], [[100, 59]], a[1:]])),
        "user 100 has several items in the test set",
    ),
    "a user without training": (
        changed(TEST, lambda a: np.concatenate([a, [[199, 3]]])),
        "user 199 has an item in the test set and no pair to train on",
    ),
    "a pair twice": (changed(TRAIN, lambda a: np.concatenate([a[:1], a])), "are a pair twice"),
    "a test pair in training": (
        lambda arrays: arrays.update({TRAIN: np.concatenate([arrays[TEST][:1], arrays[TRAIN]])}),
        "or also in the test set",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_and_leaves_no_cache(case: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[case]
    arrays = some_arrays()
    damage(arrays)
    path = a_tar(tmp_path / "a.tar", arrays)
    with pytest.raises(DataIntegrityError, match=message):
        cache_of(tmp_path, path)
    caches = tmp_path / "data" / "cache"
    assert not caches.exists() or not list(caches.iterdir())


def test_a_link_called_as_a_shard_is_not_followed(tmp_path: Path) -> None:
    arrays = some_arrays()
    whole = open_cache(cache_of(tmp_path / "a", a_tar(tmp_path / "a.tar", arrays)), verify=True)
    path = a_tar(tmp_path / "b.tar", arrays)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo(f"{NAME}/{TRAIN}")
        link.type, link.linkname = tarfile.SYMTYPE, TEST
        tar.addfile(link)
    again = open_cache(cache_of(tmp_path / "b", path), verify=True)
    assert again.record["arrays"] == whole.record["arrays"]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_tar_that_is_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    path = a_tar(tmp_path / "a.tar", some_arrays())
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1]
    whole = path.read_bytes()[: end.offset_data + end.size]
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataIntegrityError):
        cache_of(tmp_path, path)
    assert not list((tmp_path / "data" / "raw" / NAME).glob("*.tar"))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("shard", [TRAIN, TEST])
def test_a_flipped_bit_in_a_shard_is_found_by_the_download(
    shard: str, share: float, tmp_path: Path
) -> None:
    path = a_tar(tmp_path / "a.tar", some_arrays())
    with tarfile.open(path) as tar:
        member = tar.getmember(f"{NAME}/{shard}")
    content = bytearray(path.read_bytes())
    content[member.offset_data + int(member.size * share)] ^= 4
    path.write_bytes(content)
    data = DataDir(tmp_path / "data")
    with pytest.raises(DataIntegrityError, match=rf"a\.tar, {NAME}/{shard}: .*; use another copy"):
        archive.download(dataset(NAME), data, archive=path, sha256=sha256_of(path))
    assert list(data.raw(NAME).iterdir()) == []


def test_numbers_too_large_for_an_archive_are_taken_of_an_expansion_made_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_ANY_SET", 10)
    arrays = some_arrays()
    arrays[TRAIN][0, 1] = 2_000_000
    path = a_tar(tmp_path / "a.tar", arrays)
    with pytest.raises(DataIntegrityError, match="2000000"):
        split.outside.of_pairs(path, split.CacheFiles(tmp_path), tmp_path / "a")
    out = split.CacheFiles(tmp_path)
    found = split.outside.of_pairs(path, out, tmp_path / "b", expanded=True)
    assert len(found.item_ids) == 2_000_001


def test_other_counts_than_the_published_are_refused(tmp_path: Path) -> None:
    arrays = some_arrays()
    path = a_tar(tmp_path / "a.tar", arrays)
    cache_of(tmp_path, path)
    data = DataDir(tmp_path / "data")
    manifest = read_manifest(data.manifest(NAME))
    assert manifest is not None
    with pytest.raises(DataIntegrityError, match="published are 2,210,078, 855,776 and"):
        split._of_pairs(
            path,
            replace(manifest, counts=dataset(NAME).counts),
            split.CacheFiles(tmp_path),
            tmp_path / "rows",
        )
