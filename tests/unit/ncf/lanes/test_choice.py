"""Claims about the choice of a form: when it is measured, what decides, who follows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_ncf import SMALL

from trainbench.configuration import to_json
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.config import Lanes, NcfConfig
from trainbench.ncf.lanes import choice, measure
from trainbench.trials import trial_set
from trainbench.trials.paths import DataDir, RunDir
from trainbench.trials.spec import SetSpec, TrialSpec

OPEN = replace(SMALL, division="open")
AUTO = replace(OPEN, xla=True)


@pytest.fixture
def ratings(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A cache of as many ratings as are asked for, and a measurement that notes its calls."""
    cache = SimpleNamespace(num_users=9, num_items=12, record={"counts": {"train": 10**7}})
    cache.asked = []

    def measured(config: NcfConfig, users: int, items: int) -> dict[str, float]:
        cache.asked.append((users, items))
        return {"none": 100e3, "16x1": 150e3}

    monkeypatch.setattr(choice, "find_cache", lambda *_: Path())
    monkeypatch.setattr(choice, "open_cache", lambda *_, **__: cache)
    monkeypatch.setattr(choice, "measured", measured)
    return cache


def asked(tmp_path: Path, config: NcfConfig = AUTO, **more: Any) -> SetSpec:
    return SetSpec(NCF, config, DataDir(tmp_path), **more)


def test_a_long_epoch_is_measured_for(tmp_path: Path, ratings: SimpleNamespace) -> None:
    found = choice.choose(asked(tmp_path))
    assert found == {"lanes": "16x1", "samples_per_s": {"none": 100_000, "16x1": 150_000}}
    assert ratings.asked == [(9, 12)]


@pytest.mark.parametrize(
    "config",
    [replace(AUTO, devices="all"), replace(AUTO, devices="gpu"), replace(AUTO, xla=False)],
)
def test_where_lanes_cannot_be_used_nothing_is_measured(
    config: NcfConfig, tmp_path: Path, ratings: SimpleNamespace
) -> None:
    assert choice.choose(asked(tmp_path, config)) == {"lanes": "none"}
    assert not ratings.asked


def test_for_several_machines_nothing_is_measured(tmp_path: Path, ratings: SimpleNamespace) -> None:
    workers = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    spec = asked(tmp_path, options={"tf_config": json.dumps(workers)})
    assert choice.choose(spec) == {"lanes": "none"}
    assert not ratings.asked


def test_for_a_short_epoch_nothing_is_measured(tmp_path: Path, ratings: SimpleNamespace) -> None:
    ratings.record["counts"]["train"] = 100_000
    assert choice.choose(asked(tmp_path)) == {"lanes": "none"}
    assert not ratings.asked


@pytest.mark.parametrize("lanes", [None, Lanes(16, 1)])
def test_what_is_set_is_not_measured(
    lanes: Lanes | None, tmp_path: Path, ratings: SimpleNamespace
) -> None:
    config = replace(AUTO, lanes=lanes)
    assert choice.choose(asked(tmp_path, config)) == {}
    assert choice.chosen(config, {"lanes": "8x1"}) == config
    assert not ratings.asked


@pytest.mark.parametrize(
    ("rates", "wanted"),
    [
        ({"none": 100.0, "8x1": 104.0}, "none"),
        ({"none": 100.0, "8x1": 110.0, "16x1": 120.0}, "16x1"),
        ({"none": 100.0}, "none"),
        ({"8x1": 100.0}, "none"),
        ({}, "none"),
    ],
)
def test_lanes_must_be_clearly_faster(rates: Mapping[str, float], wanted: str) -> None:
    assert choice.fastest(rates) == wanted


def test_a_trial_follows_the_choice_and_none_is_none() -> None:
    assert choice.chosen(AUTO, {"lanes": "16x2"}).lanes == Lanes(16, 2)
    assert choice.chosen(AUTO, {"lanes": "none"}).lanes is None
    assert choice.chosen(AUTO, {}).lanes is None


@pytest.mark.parametrize(
    ("batch", "cpus", "wanted"),
    [
        (2_048, 2, [["none", "1024x2"], ["1024x1"]]),
        (65_536, 2, [["none", "8192x2"], ["8192x1", "2048x1"]]),
        (2_048, 1, [["none"], ["1024x1"]]),
    ],
)
def test_each_number_of_threads_has_a_process(
    batch: int, cpus: int, wanted: list[list[str]]
) -> None:
    assert choice.candidates(batch, cpus) == wanted


def test_forms_are_measured_in_a_process_of_their_own() -> None:
    found = choice.measured(OPEN, 50, 60)
    assert set(found) >= {"none", "16x1"}
    assert all(rate > 0 for rate in found.values())


def test_a_process_that_fails_is_told_and_leaves_the_form_without_lanes(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert choice.measured(replace(OPEN, devices="gpu"), 50, 60) == {}
    assert "not measured: error: devices=gpu" in capfd.readouterr().err


def test_what_is_measured_runs_on_random_samples_of_the_same_shapes(tmp_path: Path) -> None:
    data = measure.random_batches(50, 60, steps=3, batch=32)
    assert data.users.shape == data.items.shape == data.labels.shape == (3, 32)
    assert data.users.max() < 50
    assert data.items.max() < 60
    arguments = {"config": to_json(OPEN), "size": [50, 60], "names": ["none", "7x1"]}
    measure.run({**arguments, "file": str(tmp_path / "rates.json")})
    assert set(json.loads((tmp_path / "rates.json").read_text())) == {"none", "7x1"}


def test_a_continued_run_and_a_replay_keep_the_choice(
    tmp_path: Path, ratings: SimpleNamespace
) -> None:
    run = RunDir(tmp_path / "run")
    run.root.mkdir()
    run.run_file.write_text(json.dumps({"choice": {"lanes": "7x1"}}))
    assert trial_set.choice_of(asked(tmp_path), run) == {"lanes": "7x1"}
    replayed = asked(tmp_path, choice={"lanes": "5x1"})
    assert trial_set.choice_of(replayed, None) == {"lanes": "5x1"}
    assert not ratings.asked
    spec = TrialSpec.of(replayed, run, index=0, seed=1)
    assert TrialSpec.from_json(json.loads(json.dumps(spec.to_json()))).choice == {"lanes": "5x1"}
