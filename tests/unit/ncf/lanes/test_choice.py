"""Claims about the choice of a form: when it is measured, what decides, who follows it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_ncf import SMALL

from trainbench.machine import system
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.config import Lanes, NcfConfig
from trainbench.ncf.lanes import choice, measure
from trainbench.ncf.lanes.choice import Measurement
from trainbench.trials import trial_set
from trainbench.trials.paths import DataDir, RunDir
from trainbench.trials.spec import SetSpec, TrialSpec

OPEN = replace(SMALL, division="open")
AUTO = replace(OPEN, xla=True)
RATES = {"none": 100_000, "16x1": 150_000}


@pytest.fixture
def ratings(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A cache of as many ratings as are asked for, and a measurement that notes its calls."""
    cache = SimpleNamespace(num_users=9, num_items=12, record={"counts": {"train": 10**7}})
    cache.asked, cache.load = [], None

    def measured(config: NcfConfig, users: int, items: int) -> Measurement:
        cache.asked.append((users, items))
        return Measurement(RATES, 1_700_000_000, cache.load)

    monkeypatch.setattr(choice, "find_cache", lambda *_: Path())
    monkeypatch.setattr(choice, "open_cache", lambda *_, **__: cache)
    monkeypatch.setattr(choice, "measured", measured)
    return cache


def asked(tmp_path: Path, config: NcfConfig = AUTO, **more: Any) -> SetSpec:
    return SetSpec(NCF, config, DataDir(tmp_path), **more)


FOUND = {"lanes": "16x1", "samples_per_s": RATES, "measured_unix_s": 1_700_000_000}


def test_a_long_set_is_measured_for(tmp_path: Path, ratings: SimpleNamespace) -> None:
    assert choice.choose(asked(tmp_path)) == FOUND
    assert ratings.asked == [(9, 12)]


def test_what_was_measured_is_taken_again_with_its_time_and_for_short_sets_too(
    tmp_path: Path, ratings: SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    choice.choose(asked(tmp_path))
    ratings.record["counts"]["train"] = 10
    assert choice.choose(asked(tmp_path)) == FOUND
    assert len(ratings.asked) == 1
    assert (
        "lanes=16x1, measured on such a machine at 2023-11-14 22:13 UTC" in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda config, patch: replace(config, batch_size=64),
        lambda config, patch: replace(config, optimizer="lazy_adam"),
        lambda config, patch: replace(config, deterministic=not config.deterministic),
        lambda config, patch: patch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2") or config,
        lambda config, patch: patch.setenv("TF_NUM_INTRAOP_THREADS", "1") or config,
        lambda config, patch: patch.setattr(system, "cpu", lambda: {"model": "other"}) or config,
        lambda config, patch: patch.setattr(system, "packages", Other) or config,
    ],
    ids=["batch", "optimizer", "deterministic", "oneDNN", "threads", "CPU", "TensorFlow"],
)
def test_another_machine_version_or_shape_is_measured_anew(
    change: Callable[[NcfConfig, pytest.MonkeyPatch], NcfConfig],
    tmp_path: Path,
    ratings: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choice.choose(asked(tmp_path))
    choice.choose(asked(tmp_path, change(AUTO, monkeypatch)))
    assert len(ratings.asked) == 2
    assert len(json.loads(DataDir(tmp_path).lanes.read_text())) == 2


class Other(dict[str, str]):
    """Versions of other packages."""

    def __missing__(self, name: str) -> str:
        return "0"


def test_what_a_busy_machine_gave_is_not_kept(
    tmp_path: Path, ratings: SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    ratings.load = SimpleNamespace(busy=True, sentence=lambda: "others took 40 %")
    assert choice.choose(asked(tmp_path)) == FOUND
    assert "measured again for the next run: others took 40 %" in capfd.readouterr().err
    choice.choose(asked(tmp_path))
    assert len(ratings.asked) == 2


def kept(rates: str, when: str) -> str:
    return f'{{"KEY": {{"samples_per_s": {rates}, "measured_unix_s": {when}}}}}'


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"KEY": 1}'),
        kept('{"none": "x"}', "1"),
        kept('{"none": 1, "wings": 5}', "1"),
        kept('{"16x1": 5}', "1"),
        kept("{}", "1"),
        kept('{"none": 1}', f"{10**20}"),
        kept('{"none": 0, "16x1": true}', "1"),
    ],
)
def test_a_damaged_file_is_measured_anew(
    text: str, tmp_path: Path, ratings: SimpleNamespace
) -> None:
    known = DataDir(tmp_path).lanes
    known.write_text(text.replace("KEY", choice._key(choice.identity(AUTO, 9, 12))))
    assert choice.choose(asked(tmp_path)) == FOUND
    choice.choose(asked(tmp_path))
    assert len(ratings.asked) == 1


def test_a_file_that_cannot_be_written_is_said_and_the_choice_stands(
    tmp_path: Path, ratings: SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    DataDir(tmp_path).lanes.mkdir()
    assert choice.choose(asked(tmp_path)) == FOUND
    assert "not recorded: which form of the step is fastest here" in capfd.readouterr().err


@pytest.mark.parametrize(("has", "lanes"), [(True, "16x1"), (False, "none")])
def test_bfloat16_without_instructions_for_it_is_trained_without_lanes_unmeasured(
    has: bool,
    lanes: str,
    tmp_path: Path,
    ratings: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = tmp_path / "cpuinfo"
    flags.write_text(f"flags : avx2 fma avx512f {'avx512_bf16' if has else ''}\n")
    monkeypatch.setattr(system, "CPU_INFO", flags)
    assert choice.choose(asked(tmp_path, replace(AUTO, precision="bf16")))["lanes"] == lanes
    assert len(ratings.asked) == has


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


def test_for_a_short_set_nothing_is_measured(tmp_path: Path, ratings: SimpleNamespace) -> None:
    ratings.record["counts"]["train"] = 100_000
    assert choice.choose(asked(tmp_path)) == {"lanes": "none"}
    assert not ratings.asked
    choice.choose(asked(tmp_path, runs=4))
    assert ratings.asked


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
    assert Measurement(rates).fastest == wanted


def test_a_trial_follows_the_choice_and_none_is_none() -> None:
    assert choice.chosen(AUTO, {"lanes": "16x2"}).lanes == Lanes(16, 2)
    assert choice.chosen(AUTO, {"lanes": "none"}).lanes is None
    assert choice.chosen(AUTO, {}).lanes is None


@pytest.mark.parametrize(
    ("batch", "cpus", "wanted"),
    [
        (2_048, 2, [["none"], ["1024x1"]]),
        (65_536, 2, [["none"], ["8192x1", "2048x1"]]),
        (65_536, 16, [["none"], ["8192x8", "2048x8"], ["8192x16", "2048x16"]]),
        (2_048, 1, [["none"], ["1024x1"]]),
    ],
)
def test_each_number_of_threads_has_a_process(
    batch: int, cpus: int, wanted: list[list[str]]
) -> None:
    assert choice.candidates(batch, cpus) == wanted


def test_forms_are_measured_in_processes_of_their_own_and_one_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice, "candidates", lambda *_: [["none"], ["16x1", "7x1"], ["0x1"]])
    found = choice.measured(OPEN, 50, 60)
    assert set(found.samples_per_s) == {"none", "16x1", "7x1"}
    assert all(rate > 0 for rate in found.samples_per_s.values())
    assert abs(found.measured_unix_s - time.time()) < 600
    assert "lanes=0x1 not measured: " in capfd.readouterr().err


def test_a_measurement_that_fails_leaves_the_form_without_lanes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice.child, "command", lambda *_: ["sh", "-c", "echo no memory; exit 6"])
    found = choice.measured(OPEN, 50, 60)
    assert found.record() == {"lanes": "none", "samples_per_s": {}}
    assert "no form was measured: no memory" in capfd.readouterr().err


def test_what_is_measured_runs_on_random_samples_of_the_same_shapes() -> None:
    form = measure._Form.of(replace(OPEN, batch_size=16_384, lanes=None), 50, 60)
    data = form.data
    assert data.users.shape == data.items.shape == data.labels.shape == (2, 16_384)
    assert form.trainer.geometry.num_users == 50
    assert data.users.max() < 50
    assert data.items.max() < 60


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
