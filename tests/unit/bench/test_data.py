"""The data benchmark measures what it says, on ratings that look like the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainbench.bench import data as bench


def test_ratings_have_the_shape_of_ml_20m_and_no_pair_twice() -> None:
    arrays = bench.ratings(60_000)
    users, items = arrays["users"], arrays["items"]
    counts = np.diff(arrays["row_starts"])
    assert len(users) == len(items) == 60_000
    assert (np.bincount(users) == counts).all()
    assert counts.min() >= 19
    assert abs(counts.mean() - bench.PAIRS / bench.USERS) < 1
    assert len(np.unique(users * bench.ITEMS + items)) == 60_000
    held_out = np.arange(len(counts)) * bench.ITEMS + arrays["test_items"]
    assert not np.isin(held_out, users * bench.ITEMS + items).any()


def test_the_table_has_a_row_per_size_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = bench.run([20_000, 40_000], repeats=1, waits_size=9_000, folder=tmp_path)
    assert [cost.samples for cost in costs] == [100_000, 200_000]
    assert all(cost.negatives_per_s > 0 and cost.peak_gib > 0 for cost in costs)
    printed = capsys.readouterr().out
    assert printed.count(" GiB ") == 2
    assert "input_wait_s at 600,000 samples/s" in printed
    assert list(tmp_path.iterdir()) == []
