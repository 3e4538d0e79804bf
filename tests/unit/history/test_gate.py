"""Two results side by side: verdict, exit code, cautions."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from run_dir import change
from stored_runs import stored

from trainbench.cli.main import cli
from trainbench.compliance.stitch import stitch_run
from trainbench.errors import ConfigError, RegressionError
from trainbench.history import gate
from trainbench.history.gate import Comparison
from trainbench.history.reading import read
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.page.render import write_report
from trainbench.trials.paths import RunDir

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


def compare_speeds(a: Path, b: Path) -> Comparison:
    return gate.compare(read(a), read(b))


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
    shown = next(line for line in text.splitlines() if "(images/s), geometric mean" in line)
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
    (speed,) = found.judged
    assert speed.samples == "blocks of steps"
    assert [speed.before.samples, speed.after.samples] == [20, 20]
    assert speed.change
    assert speed.change.low < -9.09 < speed.change.high
    assert found.worse
    assert "steps of one run resemble one another" in found.cautions[0]
    assert not compare_speeds(a, stepped(tmp_path / "c.json", 0.100, seed=5)).worse


def test_a_repeated_result_meets_a_single_one_by_its_median_run(tmp_path: Path) -> None:
    a = stepped(tmp_path / "a.json", 0.100, seed=1)
    times = json.loads(a.read_text())["step_times_s"]
    b = repeated(tmp_path / "b.json", BEFORE, step_times_s=times)
    found = compare_speeds(a, b)
    assert found.judged[0].samples == "blocks of steps"
    assert found.judged[0].percent == 0


def test_different_work_and_different_systems_are_told(tmp_path: Path) -> None:
    a = repeated(tmp_path / "a.json", BEFORE)
    params = {"model": "vgg16", "repeat": 3, "result_json": "y.json"}
    environment = {**RECORD["environment"], "packages": {"tensorflow": "2.20.0"}}
    b = repeated(tmp_path / "b.json", BEFORE[:3], params=params, environment=environment)
    found = compare_speeds(a, b)
    assert found.settings == (
        ("--model", "resnet50", "vgg16"),
        ("software tensorflow", "2.21.0", "2.20.0"),
    )
    assert [caution.split(":")[0].split(";")[0] for caution in found.cautions] == [
        "fewer than 4 runs on one side",
        "the two did not do the same work",
        "the two did not run on the same system",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a result of trainbench cnn or a report"),
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


def test_a_missing_file_and_a_folder_without_a_run_say_what_to_do(tmp_path: Path) -> None:
    a = repeated(tmp_path / "a.json", BEFORE)
    with pytest.raises(ConfigError, match=r"no such file or folder; wanted .* --result_json"):
        compare_speeds(a, tmp_path / "none.json")
    with pytest.raises(ConfigError, match=r"not the folder of a run .* wanted a run"):
        compare_speeds(tmp_path, a)


def trials(root: Path, times_s: list[float], **system: Any) -> RunDir:
    """A run with a trial for each of ``times_s``."""
    (run,) = stored(root, [1.0], trials=len(times_s), **system)
    for trial, time_s in zip(run.trials, times_s, strict=True):
        change(trial.status, time_to_train_s=time_s, state="converged")
        lines = map(json.loads, trial.epochs.read_text().splitlines())
        fast = [{**line, "samples_per_s": 4e7 / time_s} for line in lines]
        trial.epochs.write_text("".join(json.dumps(line) + "\n" for line in fast))
    return run


TIMES = [400.0, 404.0, 398.0, 402.0, 399.0]


def slower(times_s: list[float], by: float) -> list[float]:
    return [time_s * (1 + by) for time_s in times_s]


def test_runs_are_compared_by_their_trials_in_time_and_speed(tmp_path: Path) -> None:
    a, b = trials(tmp_path / "a", TIMES), trials(tmp_path / "b", slower(TIMES, 0.07))
    done = invoke("--baseline", a.root, b.root, "--threshold-percent", 5, "--json")
    assert isinstance(done.exception, RegressionError)
    record = json.loads(done.stdout)
    told = {one["quantity"]: one for one in record["quantities"]}
    assert told["time_to_train_s"]["percent"] == pytest.approx(7)
    assert told["samples_per_s"]["percent"] == pytest.approx(100 / 1.07 - 100)
    assert told["time_to_train_s"]["verdict"] == "slower"
    assert told["time_to_train_s"]["samples"] == "trials"
    assert record["cautions"] == []
    assert record["target"] == "target reached by 5 of 5 trials, of the baseline by 5 of 5"
    # 7 % are within a threshold of 7.5 %, and the way back is faster.
    assert invoke(a.root, b.root, "--threshold-percent", 7.5).exit_code == 0
    assert invoke(b.root, a.root).output.count("verdict: faster\n") == 1


def test_a_report_stands_for_its_run(tmp_path: Path) -> None:
    a = trials(tmp_path / "a", TIMES)
    b = trials(tmp_path / "b", TIMES)
    for run in (a, b):
        stitch_run(run, system="box")
    page = write_report(a, tmp_path / "report", benchmark=NCF).results_json
    folder, report = read(b.root), read(page)
    assert report.task_key == folder.task_key
    assert report.fingerprint == folder.fingerprint
    assert not compare_speeds(page, b.root).cautions
    # Without run.json, what the logs say is taken.
    b.run_file.unlink()
    assert read(b.root).values["best_hit_rate"] == folder.values["best_hit_rate"]


def test_a_missed_target_closes_the_gate(tmp_path: Path) -> None:
    a, b = trials(tmp_path / "a", TIMES), trials(tmp_path / "b", TIMES)
    for trial in b.trials:
        change(trial.status, state="not_converged", time_to_train_s=None)
    done = invoke(a.root, b.root)
    assert isinstance(done.exception, RegressionError)
    assert "target missed: reached by 0 of 5 trials, of the baseline by 5 of 5" in done.output
    assert invoke(b.root, a.root).exit_code == 0


def test_one_trial_of_five_that_missed_is_no_proof(tmp_path: Path) -> None:
    a, b = trials(tmp_path / "a", TIMES), trials(tmp_path / "b", TIMES)
    change(b.trial(0).status, state="not_converged", time_to_train_s=None)
    assert invoke(a.root, b.root).exit_code == 0


def test_single_trials_are_judged_by_epochs_and_their_ratio(tmp_path: Path) -> None:
    a, b = trials(tmp_path / "a", [400.0]), trials(tmp_path / "b", [500.0])
    found = compare_speeds(a.root, b.root)
    time, speed = found.judged
    assert (time.verdict, time.change) == ("not judged", None)
    assert speed.samples == "epochs"
    assert speed.worse
    assert "at least one side has a single run" in found.cautions[0]
    done = invoke(a.root, b.root, "--threshold-percent", 10)
    assert isinstance(done.exception, RegressionError)
    assert "time to train: 25.00 % slower than" in str(done.exception)


def test_another_machine_is_told_and_judged_as_asked(tmp_path: Path) -> None:
    a = trials(tmp_path / "a", TIMES)
    b = trials(tmp_path / "b", slower(TIMES, 0.5), cpu={"model": "Other", "threads": 2})
    done = invoke(a.root, b.root)
    assert isinstance(done.exception, RegressionError)
    assert "caution: the two did not run on the same machine; see the settings" in done.output
    done = invoke(a.root, b.root, "--other-machine", "skip")
    assert done.exit_code == 0
    assert "not run on the same machine; times and speeds are not judged" in done.output
    done = invoke(a.root, b.root, "--other-machine", "refuse")
    assert isinstance(done.exception, ConfigError)
    assert "measured on another machine" in str(done.exception)


def test_another_task_or_benchmark_is_refused(tmp_path: Path) -> None:
    a, b = trials(tmp_path / "a", TIMES), trials(tmp_path / "b", TIMES)
    change(b.config, target_hit_rate=0.2)
    with pytest.raises(ConfigError, match=r"target_hit_rate is 0\.2, of the baseline .* 0\.225"):
        compare_speeds(a.root, b.root)
    with pytest.raises(ConfigError, match="only results of one benchmark are compared"):
        compare_speeds(a.root, repeated(tmp_path / "c.json", BEFORE))
    change(b.config, target_hit_rate=0.225, batch_size=4096)
    assert "the two did not do the same work" in compare_speeds(a.root, b.root).cautions[0]


def test_a_run_that_failed_is_no_baseline(tmp_path: Path) -> None:
    a, b = trials(tmp_path / "a", TIMES[:2]), trials(tmp_path / "b", TIMES)
    for trial in a.trials:
        change(trial.status, state="failed", message="disk full", time_to_train_s=None)
    with pytest.raises(ConfigError, match=r"no baseline: no trial ended [(]failed: disk full"):
        compare_speeds(a.root, b.root)
    done = invoke(b.root, a.root)
    assert isinstance(done.exception, RegressionError)
    assert "target missed" in str(done.exception)


def test_equal_runs_close_the_gate_no_more_often_than_the_confidence_says(tmp_path: Path) -> None:
    a, b = read(trials(tmp_path / "a", TIMES).root), read(trials(tmp_path / "b", TIMES).root)
    rng, closed = np.random.default_rng(0), 0
    for _ in range(200):
        sides = []
        for side in (a, b):
            times = 400 * (1 + 0.01 * rng.standard_normal(5))
            values = {"time_to_train_s": tuple(times), "samples_per_s": tuple(4e7 / times)}
            sides.append(replace(side, values=values))
        closed += gate.compare(*sides).worse
    assert closed <= 18  # at most 5 %; more than 18 of 200 have a probability of 0.006 then


def test_the_pull_request_gets_markdown_and_the_action_its_json(tmp_path: Path) -> None:
    a, b = trials(tmp_path / "a", TIMES), trials(tmp_path / "b", slower(TIMES, 0.07))
    change(b.run_file, run_id="x|<b>*y*")
    page, small, big = (tmp_path / name for name in ("p.md", "s.json", "b.json"))
    files = ("--markdown", page, "--smaller-is-better", small, "--bigger-is-better", big)
    done = invoke(a.root, b.root, *files)
    assert isinstance(done.exception, RegressionError)
    text = page.read_text()
    assert text.startswith("<!-- trainbench compare -->\n### ncf ml-1m: worse than the baseline\n")
    assert "| Time to train (s) | 400.59 | 428.64 | +7.00 % |" in text
    assert "<b>" not in text
    (entry,) = json.loads(small.read_text())
    assert (entry["name"], entry["unit"]) == ("ncf ml-1m: Time to train", "s")
    assert entry["value"] == pytest.approx(428.6, abs=0.1)
    assert entry["range"].startswith("± ")
    assert [e["name"] for e in json.loads(big.read_text())] == [
        "ncf ml-1m: Training speed",
        "ncf ml-1m: Best HR@10",
    ]
    for entry in [*json.loads(small.read_text()), *json.loads(big.read_text())]:
        assert {"name", "unit", "value"} <= entry.keys() <= {*entry} | {"range", "extra"}


def test_without_a_baseline_the_other_is_written_out(tmp_path: Path) -> None:
    run, page = trials(tmp_path / "a", TIMES), tmp_path / "p.md"
    done = invoke(run.root, "--markdown", page)
    assert done.exit_code == 0
    assert "no baseline" in done.output
    assert "- Time to train: 400.59 s" in page.read_text()
    assert CliRunner().invoke(cli, ["compare", "a", "b", "c"]).exit_code == 2


def test_a_quality_that_fell_to_0_closes_the_gate(tmp_path: Path) -> None:
    before, after = stored(tmp_path, [400.0, 400.0], trials=2)
    for run in (before, after):
        for trial in run.trials:
            change(trial.status, state="completed", time_to_train_s=None)
    change(after.trial(1).status, best_hit_rate=0.0)
    done = invoke(before.root, after.root)
    assert isinstance(done.exception, RegressionError)
    assert "% lower than" in str(done.exception)
    assert "best HR@10 lower" in done.stdout
    back = invoke(after.root, before.root)
    assert back.exit_code == 0, back.output


def test_json_without_a_baseline_is_json_and_a_machine_is_no_markup(tmp_path: Path) -> None:
    cpu = {"cpu": {"model": "<img src=x>|[a](http://b)"}}
    path = repeated(tmp_path / "a.json", BEFORE, environment=cpu)
    assert json.loads(invoke(path, "--json").stdout)["verdict"] == "no baseline"
    page = tmp_path / "a.md"
    assert invoke(path, path, "--markdown", page).exit_code == 0
    assert "\\<img" in page.read_text()
    assert "](http:" not in page.read_text()


@pytest.mark.filterwarnings("error")
def test_a_side_without_spread_gives_no_warning(tmp_path: Path) -> None:
    one = repeated(tmp_path / "a.json", BEFORE)
    other = repeated(tmp_path / "b.json", [50.0, 50.0, 50.0])
    assert compare_speeds(one, other).worse
    # Two values that differ much, at the highest confidence: an interval without an end.
    wide = repeated(tmp_path / "c.json", [1.0, 1e9])
    assert invoke(wide, other, "--confidence", "0.999999", "--json").exit_code == 0
