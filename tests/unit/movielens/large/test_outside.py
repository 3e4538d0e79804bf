"""Ratings that are split on disk give the cache that memory gives, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainbench.errors import DataIntegrityError
from trainbench.files import sha256_of
from trainbench.movielens import formats, split
from trainbench.movielens.cache import open_cache
from trainbench.movielens.datasets import Manifest, SplitSpec, write_manifest
from trainbench.movielens.large.outside import Numbering
from trainbench.trials.paths import DataDir


def ratings_in(folder: Path, rows: list[tuple[int, int, int]]) -> DataDir:
    data = DataDir(folder)
    path = data.raw("mine") / "ratings.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{user},{item},1,{time}\n" for user, item, time in rows]
    path.write_text("userId,movieId,rating,timestamp\n" + "".join(lines))
    write_manifest(
        Manifest(
            dataset="mine",
            source="own ratings",
            ratings_file=path.name,
            ratings_bytes=path.stat().st_size,
            ratings_sha256=sha256_of(path),
            published=False,
        ),
        data,
    )
    return data


def both_ways(
    folder: Path, rows: list[tuple[int, int, int]], spec: SplitSpec
) -> list[dict[str, object] | str]:
    """What cache.json says, or the error, of ratings that are split in memory and on disk."""
    found: list[dict[str, object] | str] = []
    for name, most in (("memory", 1 << 30), ("disk", 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(split, "LARGEST_IN_MEMORY", most)
            patch.setattr(formats, "BLOCK_BYTES", 90 if most == 0 else 32 << 20)
            patch.setattr(split.outside.of_ratings, "__kwdefaults__", {"users_per_bucket": 3})
            data = ratings_in(folder / name, rows)
            try:
                record = open_cache(split.run(spec, data), verify=True).record
                found.append(record)
            except DataIntegrityError as error:
                found.append(str(error).replace(str(folder / name), ""))
    return found


WIDEST = st.sampled_from([-(2**63), -1, 0, 2**31, 2**62, 2**63 - 1])
RATING = st.tuples(st.integers(1, 9) | WIDEST, st.integers(-3, 12) | WIDEST, st.integers(0, 4))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(RATING, min_size=1, max_size=60, unique_by=lambda row: row[:2]),
    least=st.integers(1, 6),
)
def test_a_split_on_disk_is_the_split_in_memory(
    rows: list[tuple[int, int, int]], least: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("split")
    memory, disk = both_ways(folder, rows, SplitSpec("mine", min_ratings=least))
    assert memory == disk


@pytest.mark.parametrize("least", [1, 50])
def test_ratings_that_repeat_a_pair_are_told_alike(tmp_path: Path, least: int) -> None:
    """Also where no user has enough ratings."""
    rng = np.random.default_rng(5)
    rows = [(int(u), int(i), 5) for u, i in rng.integers(1, 9, (60, 2))]
    memory, disk = both_ways(tmp_path, rows, SplitSpec("mine", min_ratings=least))
    assert memory == disk
    assert "repeat a pair" in str(memory)


def test_the_reference_tie_break_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "LARGEST_IN_MEMORY", 0)
    monkeypatch.setattr(split.outside, "of_ratings", None)
    rows = [(1 + n % 7, n, n % 3) for n in range(70)]
    spec = SplitSpec("mine", min_ratings=2, tie_break="reference")
    assert open_cache(split.run(spec, ratings_in(tmp_path, rows)), verify=True).num_users == 7


@given(st.lists(st.lists(st.integers(-5, 15), max_size=12), max_size=6))
def test_ids_are_numbered_by_their_first_appearance_whatever_the_blocks(
    blocks: list[list[int]],
) -> None:
    numbering = Numbering()
    numbers = [numbering.of(np.array(block, dtype=np.int64)).tolist() for block in blocks]
    every = [id for block in blocks for id in block]
    order = list(dict.fromkeys(every))
    assert numbering.ids.tolist() == order
    assert [n for block in numbers for n in block] == [order.index(id) for id in every]
