"""What forms of the step are measured on: tables that several of them have room for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainbench.configuration import to_json
from trainbench.ncf.config import NcfConfig, mlperf
from trainbench.ncf.lanes import measure
from trainbench.ncf.step import SWEEP_ROWS_PER_SAMPLE

ML_20M, ML_20M_BY_16X32 = (138_493, 26_744), (2_210_078, 855_776)


def test_a_billion_pairs_are_measured_on_tables_that_fit_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []

    def start(config: NcfConfig, size: tuple[int, int], names: list[str]) -> SimpleNamespace:
        sizes.append(size)
        nothing = {"names": names, "failure": "", "is_ready": lambda: True, "end": lambda: None}
        return SimpleNamespace(rate=lambda name: 1.0, **nothing)

    monkeypatch.setattr(measure.Part, "start", start)
    for size in (ML_20M, ML_20M_BY_16X32):
        names, file = [["none"], ["8192x2"]], tmp_path / "rates.json"
        given = {"config": to_json(mlperf()), "size": size, "names": names, "file": str(file)}
        assert measure.run(given) == 0
        found = {"rates": {"none": 1.0, "8192x2": 1.0}, "failed": {}}
        assert json.loads(file.read_text()) == found
    assert sizes[:2] == [ML_20M] * 2, "what is published is measured as it is"
    row_bytes, models = 12 * (mlperf().mf_dim + mlperf().mlp_layer_sizes[0] // 2), 2
    assert models * sum(sizes[-1]) * row_bytes < 4 * 2**30


@pytest.mark.parametrize("batch", [2_048, 65_536, 131_072])
def test_tables_that_are_updated_by_rows_are_measured_by_rows(batch: int) -> None:
    config = replace(mlperf(), batch_size=batch)
    for rows, measured in zip(
        ML_20M_BY_16X32, measure.measured_size(config, *ML_20M_BY_16X32), strict=True
    ):
        by_rows = SWEEP_ROWS_PER_SAMPLE * batch
        assert (measured > by_rows) == (rows > by_rows)
