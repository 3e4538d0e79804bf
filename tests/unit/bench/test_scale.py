"""`bench scale` runs the pipeline's own steps and says what each costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from trainbench.bench import scale
from trainbench.cli.machine import SCALE_STEPS, bench
from trainbench.errors import ConfigError, MachineError
from trainbench.movielens.synthetic import validated
from trainbench.ncf.config import validated as valid_config


@pytest.mark.parametrize("pairs", [2_000, 1_000_000, scale.FULL])
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


def test_a_step_that_fails_is_named_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"preprocess at 4,000 pairs ended with 6: .*not found"):
        scale.measured(tmp_path, "preprocess", 4_000, 1)


@pytest.mark.parametrize("text", ["1X", "", "1M,,2M", "nan", "many"])
def test_a_size_that_is_no_number_is_a_usage_error(text: str) -> None:
    assert CliRunner().invoke(bench, ["scale", "--pairs", text]).exit_code == 2


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="wanted at least 2,000"):
        scale.run([1_000])


def test_the_command_knows_every_step() -> None:
    assert SCALE_STEPS == scale.STEPS
