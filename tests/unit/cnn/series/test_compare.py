"""Two results side by side: verdict, exit code, cautions."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from trainbench.cli.main import cli
from trainbench.cnn.series.compare import compare_speeds
from trainbench.errors import ConfigError, RegressionError

RECORD: dict[str, Any] = {
    "schema": 1,
    "params": {"model": "resnet50", "repeat": 5, "result_json": "x.json"},
    "stats": {"images_per_sec": 100.0, "num_workers": 1},
    "batch_size": 32,
    "step_times_s": [],
    "repeats": None,
    "degraded": [],
    "environment": {"cpu": {"model": "A"}, "gpus": [], "packages": {"tensorflow": "2.21.0"}},
}


def written(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**copy.deepcopy(RECORD), **changes}))
    return path


def repeated(path: Path, speeds: list[float], **changes: Any) -> Path:
    return written(path, repeats={"runs": len(speeds), "images_per_sec": speeds}, **changes)


BEFORE = [100.0, 101.0, 99.5, 100.5, 99.0]


def stepped(path: Path, mean_s: float, seed: int, steps: int = 400) -> Path:
    times = np.random.default_rng(seed).normal(mean_s, mean_s / 20, steps)
    return written(path, step_times_s=[float(t) for t in times])


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)])


def test_a_slowdown_beyond_the_threshold_is_exit_code_7(tmp_path: Path) -> None:
    a = repeated(tmp_path / "a.json", BEFORE)
    b = repeated(tmp_path / "b.json", [0.93 * speed for speed in BEFORE])
    done = invoke(a, b, "--threshold-percent", 3)
    assert isinstance(done.exception, RegressionError)
    assert done.exception.exit_code == 7
    assert "verdict: slower\n" in done.output
    assert "change: -7.00 % (95 % interval -8." in done.output
    # The same slowdown is allowed by a threshold above it.
    done = invoke(a, b, "--threshold-percent", 10)
    assert done.exit_code == 0
    assert "verdict: slower, but not significantly by more than 10 %\n" in done.output


def test_equal_and_faster_results_are_exit_code_0(tmp_path: Path) -> None:
    a = repeated(tmp_path / "a.json", BEFORE)
    same = repeated(tmp_path / "b.json", list(reversed(BEFORE)))
    faster = repeated(tmp_path / "c.json", [1.1 * speed for speed in BEFORE])
    assert "verdict: no significant difference\n" in invoke(a, same).output
    done = invoke(a, faster, "--json")
    assert done.exit_code == 0
    record = json.loads(done.output)
    assert (record["verdict"], record["slower"], record["samples"]) == ("faster", False, "runs")
    assert record["change"]["percent"] == pytest.approx(10)
    assert record["change"]["low"] < 10 < record["change"]["high"]
    assert record["change"]["hedges_g"] > 5
    assert [speed["samples"] for speed in record["speeds"]] == [5, 5]
    assert record["cautions"] == []


def test_the_shown_means_and_the_percentage_are_of_one_kind(tmp_path: Path) -> None:
    """A pause in one block: the arithmetic means are 24,280 and 24,244, the change is +42 %."""
    before = [29_000.0, 31_000.0, 30_500.0, 6_620.0]
    after = [24_100.0, 24_400.0, 24_300.0, 24_176.0]
    assert (np.mean(before), np.mean(after)) == (24_280, 24_244)
    a, b = repeated(tmp_path / "a.json", before), repeated(tmp_path / "b.json", after)
    record = json.loads(invoke(a, b, "--json").output)
    first, second = (speed["mean"] for speed in record["speeds"])
    assert 100 * (second / first - 1) == pytest.approx(record["change"]["percent"])
    text = invoke(a, b).output
    shown = next(line for line in text.splitlines() if line.startswith("images/sec, geometric"))
    assert [float(word.replace(",", "")) for word in shown.split()[-2:]] == pytest.approx(
        [first, second], abs=0.01
    )


def test_a_speed_that_is_not_above_0_is_refused(tmp_path: Path) -> None:
    a, b = repeated(tmp_path / "a.json", BEFORE), repeated(tmp_path / "b.json", [100.0, 0.0])
    with pytest.raises(ConfigError, match="above 0"):
        compare_speeds(a, b)


def test_single_runs_are_compared_by_blocks_of_steps_with_a_caution(tmp_path: Path) -> None:
    a = stepped(tmp_path / "a.json", 0.100, seed=1)
    found = compare_speeds(a, stepped(tmp_path / "b.json", 0.110, seed=2))
    assert found.samples == "blocks of steps"
    assert [speed.samples for speed in found.speeds] == [20, 20]
    assert found.change.low < -9.09 < found.change.high
    assert found.slower
    assert "steps of one run resemble one another" in found.cautions[0]
    assert not compare_speeds(a, stepped(tmp_path / "c.json", 0.100, seed=5)).slower


def test_a_repeated_result_meets_a_single_one_by_its_median_run(tmp_path: Path) -> None:
    a = stepped(tmp_path / "a.json", 0.100, seed=1)
    times = json.loads(a.read_text())["step_times_s"]
    b = repeated(tmp_path / "b.json", BEFORE, step_times_s=times)
    found = compare_speeds(a, b)
    assert found.samples == "blocks of steps"
    assert found.change.percent == 0


def test_different_work_and_different_systems_are_told(tmp_path: Path) -> None:
    a = repeated(tmp_path / "a.json", BEFORE)
    params = {"model": "vgg16", "repeat": 3, "result_json": "y.json"}
    environment = {**RECORD["environment"], "packages": {"tensorflow": "2.20.0"}}
    b = repeated(tmp_path / "b.json", BEFORE[:3], params=params, environment=environment)
    found = compare_speeds(a, b)
    assert found.settings.rows == (
        ("--model", "resnet50", "vgg16"),
        ("system packages", "tensorflow 2.21.0", "tensorflow 2.20.0"),
    )
    assert [caution.split(":")[0].split(";")[0] for caution in found.cautions] == [
        "fewer than 4 runs on one side",
        "the two did not do the same work",
        "the two did not run on the same system",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a result of trainbench cnn"),
        ("[]", "not a result of trainbench cnn"),
        ('{"stats": {"images_per_sec": 0}, "batch_size": 4}', "nothing was timed"),
        ('{"stats": {"images_per_sec": 9}, "batch_size": 4}', "0 steps, at least 4 are needed"),
    ],
)
def test_a_file_that_is_no_result_is_refused_by_name(
    tmp_path: Path, content: str, message: str
) -> None:
    a, b = repeated(tmp_path / "a.json", BEFORE, step_times_s=[0.3] * 9), tmp_path / "b.json"
    b.write_text(content)
    with pytest.raises(ConfigError, match=rf"b\.json: .*{message}"):
        compare_speeds(a, b)


def test_a_missing_file_and_a_folder_of_ncf_say_what_to_do(tmp_path: Path) -> None:
    a = repeated(tmp_path / "a.json", BEFORE)
    with pytest.raises(ConfigError, match="write it with --result_json"):
        compare_speeds(a, tmp_path / "none.json")
    with pytest.raises(ConfigError, match="trainbench report --run"):
        compare_speeds(tmp_path, a)
