"""`bench scale` runs the pipeline's own steps and says what each costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_cache import random_cache

from trainbench.bench import scale, scale_part
from trainbench.cli.machine import SCALE_STEPS, bench
from trainbench.errors import ConfigError, MachineError
from trainbench.movielens.datasets import Expansion, read_manifest
from trainbench.movielens.synthetic import validated
from trainbench.ncf.config import validated as valid_config
from trainbench.ncf.input.stream import sliced, slices
from trainbench.trials.paths import DataDir


@pytest.mark.parametrize("pairs", [2_000, 1_000_000, 1_223_962_043])
def test_every_size_is_one_that_can_be_generated(pairs: int) -> None:
    config = valid_config(scale.config_of(pairs))
    assert config.synthetic is not None
    size = validated(config.synthetic)
    assert size.ratings - size.users == pairs
    assert 100 < pairs / size.users < 200


def test_each_step_has_its_time_memory_and_disk_and_no_file_is_left(tmp_path: Path) -> None:
    words = ["scale", "--pairs", "4K", "--folder", str(tmp_path), "--json"]
    found = CliRunner().invoke(bench, [*words, *("--step", "candidates", "--step", "preprocess")])
    assert found.exit_code == 0, found.output
    costs = json.loads(found.stdout)["costs"]
    assert [cost["step"] for cost in costs] == ["preprocess", "candidates"]
    for cost in costs:
        assert cost["pairs"] == 4_000
        assert cost["seconds"] > 0
        assert cost["cpu_ns_each"] == pytest.approx(1e9 * cost["cpu_s"] / 4_000)
        assert 10_000_000 < cost["peak_bytes"] < 2_000_000_000
    # 28 users, 1,000 candidates each.
    assert costs[1]["disk_bytes"] >= 28 * 1_000 * 4
    assert list(tmp_path.iterdir()) == []


def test_the_full_size_is_an_expansion_of_the_benchmarks_own_geometry() -> None:
    config = valid_config(scale.full_size())
    size = config.synthetic
    assert size is not None
    assert config.expand is not None
    assert (size.items * config.expand.items, config.expand.text) == (855_808, "16x32")
    assert size.users * config.expand.users == 2_215_888


def test_an_expansion_is_measured_by_the_pairs_that_it_has(tmp_path: Path) -> None:
    config = scale.expansion_of(scale.config_of(4_000), Expansion(2, 3, seed=5))
    costs = [scale.measured(tmp_path, step, config, 1) for step in scale.STEPS[:-1]]
    manifest = read_manifest(DataDir(tmp_path).manifest("synthetic-by-2x3"))
    assert manifest is not None
    assert manifest.counts is not None
    assert manifest.expanded is not None
    assert manifest.expanded.factor == Expansion(2, 3, 5)
    assert {cost.pairs for cost in costs} == {manifest.counts.ratings}
    assert [cost.step for cost in costs] == ["download", "preprocess", "candidates", "epoch"]
    assert costs[3].samples == -(-manifest.counts.ratings * 5 // 65_536) * 65_536
    # Of a download the ratings and their expansion.
    assert costs[0].disk_bytes > 8 * manifest.counts.ratings


def test_of_a_large_epoch_the_first_pieces_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "CELL_SAMPLES", 100)
    monkeypatch.setattr(sliced.SlicedMaker, "_passes", lambda maker, layout: layout.passes(9_000))
    cache = random_cache(600, 80, seed=1)
    config = replace(scale.config_of(4_000), batch_size=100)
    every = cache.num_train * 5
    found = scale_part.epoch(config, cache, tmp_path)["samples"]
    assert found % 100 == 0
    assert 20_000 < found <= 4 * 9_000 < every / 2


def test_training_is_on_real_input_and_says_what_it_waited_for(tmp_path: Path) -> None:
    """Two epochs of three steps, of which four are wanted."""
    config = replace(scale.config_of(4_000), batch_size=8_192)
    for step in ("download", "preprocess"):
        scale.measured(tmp_path, step, config, 4)
    cost = scale.measured(tmp_path, "train", config, 4)
    assert cost.samples == 4 * 8_192
    assert cost.training is not None
    assert cost.training.pieces == 2
    assert cost.training.evaluated_users == 28
    assert cost.training.producer_peak_bytes > 10_000_000
    told = cost.row().splitlines()
    assert told[0].endswith("ns/sample")
    assert "for the first piece, " in told[1]
    assert "28 users evaluated" in told[1]


@pytest.mark.parametrize(
    "setting", ["dataset=ml-1m", "synthetic=50x100x2000", "expand=2x2", "tie_break=reference"]
)
def test_what_belongs_to_the_size_cannot_be_set(setting: str) -> None:
    name = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{name}=.*: the size decides it"):
        scale.run([4_000], settings=[setting])


def test_a_step_that_fails_is_named_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"preprocess of 0.004028 M ratings ended with 6: .*not"):
        scale.measured(tmp_path, "preprocess", scale.config_of(4_000), 1)


@pytest.mark.parametrize("text", ["1X", "", "1M,,2M", "nan", "many"])
def test_a_size_that_is_no_number_is_a_usage_error(text: str) -> None:
    assert CliRunner().invoke(bench, ["scale", "--pairs", text]).exit_code == 2


def test_no_size_at_all_is_a_usage_error() -> None:
    found = CliRunner().invoke(bench, ["scale", "--pairs", "none"])
    assert found.exit_code == 2
    assert "add --full" in found.output


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="wanted at least 2,000"):
        scale.run([1_000])


def test_the_command_knows_every_step() -> None:
    assert SCALE_STEPS == scale.STEPS
