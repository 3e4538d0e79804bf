"""From a downloaded archive to the cache: the real ratings, and files that users bring."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainbench.errors import DataIntegrityError
from trainbench.movielens import archive, split
from trainbench.movielens.cache import open_cache
from trainbench.movielens.datasets import dataset
from trainbench.movielens.formats import Ratings
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.config import NcfConfig
from trainbench.trials.paths import DataDir


def downloaded(data: DataDir, name: str, path: Path) -> NcfConfig:
    """A configuration whose ratings come from the archive at ``path``."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    archive.download(dataset(name), data, archive=path, sha256=sha256)
    return replace(NCF.preset("reference"), dataset=name)


def own_archive(folder: Path, text: str) -> Path:
    path = folder / "own.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("mine/ratings.csv", text)
    return path


def test_a_worked_example() -> None:
    """Two users with three ratings or more; user 9 has two and goes, with item 70."""
    rows = np.array(
        [
            # user, item, second
            (5, 30, 100),
            (5, 10, 300),
            (9, 70, 1),
            (9, 10, 2),
            (5, 20, 200),
            (2, 20, 50),
            (2, 40, 50),
            (2, 10, 10),
        ]
    )
    ratings = Ratings(rows[:, 0], rows[:, 1], rows[:, 2])
    result = split.split(ratings, min_ratings=3, tie_break="stable")
    assert result.user_ids.tolist() == [5, 2]
    assert result.item_ids.tolist() == [30, 10, 20, 40]
    assert result.users.tolist() == [0, 0, 1, 1]
    assert result.items.tolist() == [0, 2, 1, 2]
    assert result.row_starts.tolist() == [0, 2, 4]
    assert result.test_items.tolist() == [1, 3]
    assert (result.tied_users, result.dropped_users) == (1, 1)


def test_a_bad_row_in_a_users_file_stops_with_its_line(tmp_path: Path) -> None:
    rows = "".join(f"1,{item},4.0,{item}\n" for item in range(30))
    text = f"userId,movieId,rating,timestamp\n{rows}1,99,4.0\n"
    data = DataDir(tmp_path / "data")
    config = downloaded(data, "ml-20m", own_archive(tmp_path, text))
    with pytest.raises(DataIntegrityError, match=r"ratings\.csv, line 32: 3 fields instead of 4"):
        split.run(config.split_spec, data)
    assert not data.caches.exists()


def test_a_users_file_with_missing_columns_names_them(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    config = downloaded(data, "ml-20m", own_archive(tmp_path, "user,item\n1,2\n"))
    with pytest.raises(DataIntegrityError, match="missing columns userId, movieId, rating, time"):
        split.run(config.split_spec, data)
    assert not data.caches.exists()


def test_users_with_too_few_ratings_only_are_an_error(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    text = "userId,movieId,rating,timestamp\n1,2,3.0,4\n"
    config = downloaded(data, "ml-20m", own_archive(tmp_path, text))
    with pytest.raises(DataIntegrityError, match="none of 1 users has 20 ratings"):
        split.run(config.split_spec, data)


def test_a_users_own_ratings_are_not_held_to_the_published_counts(tmp_path: Path) -> None:
    rows = "".join(f"{user},{item},4.0,{item}\n" for user in (7, 3) for item in range(25))
    data = DataDir(tmp_path / "data")
    text = f"userId,movieId,rating,timestamp\n{rows}"
    config = downloaded(data, "ml-20m", own_archive(tmp_path, text))
    cache = open_cache(split.run(config.split_spec, data), verify=True)
    assert (cache.num_users, cache.num_items, cache.num_train) == (2, 25, 48)
    assert not cache.record["manifest"]["published"]


# Counts by the publisher; the hashes pin the test set across versions of everything.
REAL = {
    "ml-1m": ((6_040, 3_706, 994_169), 0, "27ed3df0d4bd2e7b"),
    "ml-latest-small": ((610, 9_724, 100_226), 94, "8bf641947ca7aaac"),
}


def test_the_two_tie_breaks_hold_out_other_items_of_a_tenth_of_the_users(
    shared_dir: Path, tmp_path: Path
) -> None:
    name = "ml-latest-small"
    data = DataDir(tmp_path)
    config = downloaded(data, name, shared_dir / "data" / dataset(name).archive)
    stable, reference = (
        open_cache(split.run(replace(config, tie_break=order).split_spec, data), verify=True)
        for order in ("stable", "reference")
    )
    assert stable.record["test_set_sha256"].startswith("2b10c675599e56a2")
    assert int((stable.test_items != reference.test_items).sum()) == 65  # 10.7 % of 610


@pytest.mark.parametrize("name", REAL)
def test_real_ratings_give_the_published_counts_and_one_test_set(
    name: str, shared_dir: Path, tmp_path: Path
) -> None:
    counts, tied, begins = REAL[name]
    data = DataDir(tmp_path)
    config = downloaded(data, name, shared_dir / "data" / dataset(name).archive)
    cache = open_cache(split.run(config.split_spec, data), verify=True)
    assert (cache.num_users, cache.num_items, cache.num_train) == counts
    assert cache.record["tied_users"] == tied
    assert cache.record["test_set_sha256"].startswith(begins)
