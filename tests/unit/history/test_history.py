"""``trainbench history``: series, alarms and exit code, and the page from a file."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from run_dir import change
from stored_runs import noisy, stored

from trainbench.cli.main import cli
from trainbench.errors import ConfigError, RegressionError
from trainbench.history.page import html
from trainbench.history.record import history_json
from trainbench.history.series import history
from trainbench.history.stored import stored as found_in
from trainbench.trials import notes
from trainbench.trials.paths import RunDir

CNN: dict[str, Any] = {
    "schema": 1,
    "params": {"model": "resnet20"},
    "stats": {"images_per_sec": 100.0, "num_workers": 1},
    "batch_size": 32,
    "step_times_s": [0.32] * 25,
    "repeats": None,
    "degraded": [],
    "environment": {"cpu": {"model": "A"}, "packages": {"tensorflow": "2.21.0"}},
}


def invoke(*words: object) -> Any:
    return CliRunner().invoke(cli, ["history", *map(str, words)])


def slowed(root: Path, seed: int = 0) -> list[RunDir]:
    """30 runs with a noise of 1 %, 5 % slower from the 20th on."""
    times = noisy(30, seed)
    times[19:] *= 1.05
    return stored(root, times)


def cnn(folder: Path, speeds: list[float], **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, speed in enumerate(speeds):
        record = copy.deepcopy(CNN) | {"created_unix_s": 1.79e9 + index, **changes}
        record["stats"]["images_per_sec"] = float(speed)
        (folder / f"result_{index:03d}.json").write_text(json.dumps(record))


def test_a_slowdown_planted_at_run_20_of_30_is_marked_there_with_exit_code_7(
    tmp_path: Path,
) -> None:
    slowed(tmp_path)
    done = invoke(tmp_path, "--json")
    assert isinstance(done.exception, RegressionError)
    assert done.exception.exit_code == 7
    record = json.loads(done.stdout)
    (series,) = record["series"]
    time, speed, quality = series["trends"]
    assert [change["number"] for change in time["changes"]] == [20]
    assert [change["number"] for change in speed["changes"]] == [20]
    assert time["changes"][0]["run"] == "2026-0019-ml-1m"
    assert time["changes"][0]["percent"] == pytest.approx(5, abs=1.2)
    assert speed["changes"][0]["alarm"]
    assert quality["changes"] == []
    assert json.loads((tmp_path / "history/history.json").read_text()) == record
    assert "slower since run 20" in str(done.exception)


def test_what_else_changed_at_the_run_is_told(tmp_path: Path) -> None:
    runs = slowed(tmp_path)
    for run in runs[19:]:
        change(run.trial(0).system, kernel="6.2.0", git={"revision": "b" * 40, "dirty": True})
    found = history(found_in([tmp_path]))
    told = {name: (before, since) for name, before, since in found.alarms[0].software}
    assert told["kernel"] == ("6.1.0-18-amd64", "6.2.0")
    assert told["uncommitted changes"] == ("no", "yes")
    assert told["git revision"][1] == "b" * 40


def test_equal_runs_are_exit_code_0(tmp_path: Path) -> None:
    stored(tmp_path, noisy(30, 1))
    done = invoke(tmp_path)
    assert done.exit_code == 0
    assert "no change of level" in done.stdout


def test_faster_runs_are_noted_and_are_no_alarm(tmp_path: Path) -> None:
    times = noisy(30, 2)
    times[19:] /= 1.05
    stored(tmp_path, times)
    done = invoke(tmp_path)
    assert done.exit_code == 0
    assert "faster since run 20" in done.stdout


def test_a_slowdown_that_was_repaired_or_expected_or_small_is_no_alarm(tmp_path: Path) -> None:
    times = noisy(30, 3)
    times[9:20] *= 1.05
    stored(tmp_path / "a", times)
    done = invoke(tmp_path / "a")
    assert done.exit_code == 0
    assert "no alarm: later runs are as before again" in done.stdout
    runs = slowed(tmp_path / "b")
    notes.change(runs[19], add=[notes.EXPECTED])
    done = invoke(tmp_path / "b")
    assert done.exit_code == 0
    assert "tagged 'expected'" in done.stdout
    assert invoke(tmp_path / "b", "--threshold-percent", 10).exit_code == 0
    notes.change(runs[19], remove=[notes.EXPECTED])
    assert isinstance(invoke(tmp_path / "b").exception, RegressionError)


def test_machines_and_tasks_are_never_mixed(tmp_path: Path) -> None:
    """Every second run is on a machine that takes twice as long."""
    fast, slow = noisy(15, 4), noisy(15, 5, mean_s=800.0)
    for a, b in zip(fast, slow, strict=True):
        stored(tmp_path, [a])
        stored(tmp_path, [b], cpu={"model": "Slow CPU", "cores": 2, "threads": 2})
    found = history(found_in([tmp_path]))
    assert len(found.series) == 2
    assert not found.alarms
    assert [len(series.runs) for series in found.series] == [15, 15]
    others = stored(tmp_path / "other", noisy(3, 6))
    for run in others:
        change(run.config, batch_size=4096)
    assert len(history(found_in([tmp_path, tmp_path / "other"])).series) == 3
    for run in others:
        change(run.config, batch_size=2048)
        change(run.manifest, ratings_sha256="ab" * 32)
    assert len(history(found_in([tmp_path])).series) == 3


def test_software_and_a_few_mebibytes_are_the_same_machine(tmp_path: Path) -> None:
    stored(tmp_path, [400.0])
    stored(tmp_path, [401.0], kernel="7.0", memory_bytes=16 * 2**30 - 5_000_000)
    stored(tmp_path, [402.0], packages={"tensorflow": "2.99"})
    assert len(history(found_in([tmp_path])).series) == 1


def test_a_new_setting_with_its_default_makes_no_other_task_of_earlier_runs(
    tmp_path: Path,
) -> None:
    runs = stored(tmp_path, [400.0, 401.0])
    config = json.loads(runs[0].config.read_text())
    del config["tpu"], config["last_batch"]
    runs[0].config.write_text(json.dumps(config))
    assert len(history(found_in([tmp_path])).series) == 1


def test_runs_that_failed_still_run_or_are_replays_are_left_out_and_said(tmp_path: Path) -> None:
    runs = stored(tmp_path, noisy(12, 7))
    change(runs[3].trial(0).status, state="failed", message="out of memory", time_to_train_s=None)
    change(runs[4].trial(0).status, state="running", time_to_train_s=None)
    change(runs[5].run_file, replays={"run_id": "x", "trial": 0, "seed": "1"})
    shutil.rmtree(runs[6].trial(0).root)
    runs[7].run_file.write_text("{")
    done = invoke(tmp_path)
    assert done.exit_code == 0
    for said in (
        "2026-0003-ml-1m: no trial ended (failed: out of memory)",
        "2026-0004-ml-1m: no trial ended (running)",
        "2026-0005-ml-1m: a replay",
        "2026-0006-ml-1m: no trial was started",
        "not read:",
    ):
        assert said in done.stdout
    record = json.loads((tmp_path / "history/history.json").read_text())
    assert [len(series["runs"]) for series in record["series"]] == [10, 1]
    assert len(record["series"][0]["trends"][0]["values"]) == 7
    assert "run.json" in record["unreadable"][0]["path"] + record["unreadable"][0]["reason"]


def test_a_run_without_a_time_is_missing_in_that_trend_alone(tmp_path: Path) -> None:
    runs = stored(tmp_path, noisy(12, 8))
    change(runs[2].trial(0).status, state="not_converged", time_to_train_s=None)
    (series,) = history(found_in([tmp_path])).series
    assert [len(trend.values) for trend in series.trends] == [11, 12, 12]


def test_results_of_the_harness_and_data_directories_are_found_in_one_call(tmp_path: Path) -> None:
    stored(tmp_path / "data", noisy(4, 9))
    speeds = 100 * (1 + 0.01 * np.random.default_rng(1).standard_normal(24))
    speeds[15:] *= 0.9
    cnn(tmp_path / "cnn" / "nightly", list(speeds))
    (tmp_path / "cnn" / "other.json").write_text('{"stats": 3}')
    (tmp_path / "cnn" / "broken.json").write_text('{"stats": {}, "batch_size": 0}')
    done = invoke(tmp_path / "data", tmp_path / "cnn", "--out", tmp_path / "page")
    assert isinstance(done.exception, RegressionError)
    assert "cnn resnet20, batch 32" in str(done.exception)
    assert "slower since run 16" in str(done.exception)
    assert "broken.json: not a result" in " ".join(done.stdout.split())
    assert (tmp_path / "page/index.html").is_file()


def test_links_are_not_followed_and_a_run_counts_once(tmp_path: Path) -> None:
    stored(tmp_path / "data", noisy(3, 10))
    (tmp_path / "data/runs/latest").symlink_to("2026-0002-ml-1m")
    (tmp_path / "data/runs/elsewhere").symlink_to(tmp_path / "data/runs")
    shutil.copytree(tmp_path / "data/runs/2026-0001-ml-1m", tmp_path / "copy")
    found = found_in([tmp_path / "data", tmp_path / "copy"])
    assert (len(found.runs), found.copies) == (3, 1)


def test_a_place_that_is_not_there_or_is_no_result_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        found_in([tmp_path / "none"])
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ConfigError, match="not a result"):
        found_in([tmp_path / "x.json"])
    assert "no runs found" in invoke(tmp_path, "--out", tmp_path / "page").stdout


def test_the_page_is_complete_and_the_same_every_time(tmp_path: Path) -> None:
    runs = slowed(tmp_path)
    notes.change(runs[4], note="<b>fan</b> & heat", add=["lab"])
    runs[4].report.mkdir()
    (runs[4].report / "report.html").write_text("x")
    found = history(found_in([tmp_path]))
    page = html(found, tmp_path / "history")
    assert page == html(history(found_in([tmp_path])), tmp_path / "history")
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert '<a href="../runs/2026-0004-ml-1m/report/report.html">2026-0004-ml-1m</a>' in page
    assert "&lt;b&gt;fan&lt;/b&gt; &amp; heat" in page
    assert page.count("data-words=") == 30
    for alternative in re.findall(r'role="img" aria-label="([^"]*)"', page):
        assert "of 30 runs, from" in alternative
    assert "5.4 % slower since run 20" in page
    assert "Best HR@10" in page


def test_the_only_script_is_the_filter_and_its_names_are_those_of_the_page(tmp_path: Path) -> None:
    slowed(tmp_path)
    page = html(history(found_in([tmp_path])), tmp_path)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    for name in re.findall(r"form\.elements\.(\w+)", script):
        assert f'name="{name}"' in page
    for name in re.findall(r'getElementById\("(\w+)"\)', script):
        assert f'id="{name}"' in page
    assert "fetch" not in script


def test_what_steers_a_terminal_in_a_name_is_made_visible(tmp_path: Path) -> None:
    (run,) = stored(tmp_path, [400.0])
    change(run.run_file, run_id="a\x1b[31mb")
    assert "\x1b" not in html(history(found_in([tmp_path])), tmp_path)


BAD = (5, "x", True, -1, 0, 1e308, 10**400, [[]], [{}], {"a": [1]})


def test_whatever_a_damaged_file_holds_other_runs_are_shown(tmp_path: Path) -> None:
    run, _ = stored(tmp_path, [400.0, 401.0])
    trial = run.trial(0)
    fields = {
        run.run_file: ("created_unix_s", "runs", "note", "tags", "trainbench_version"),
        trial.status: ("degraded", "time_to_train_s", "message", "state"),
        trial.system: ("gpus", "memory_bytes", "images", "packages", "cpu", "git"),
        run.config: ("batch_size", "dataset"),
    }
    for path, names in fields.items():
        good = path.read_text()
        for name in names:
            for value in BAD:
                path.write_text(json.dumps({**json.loads(good), name: value}))
                found = found_in([tmp_path])
                assert "2026-0001-ml-1m" in [each.name for each in found.runs]
                json.loads(history_json(history(found)))
        path.write_text(good)


def test_a_setting_that_json_does_not_know_is_a_word(tmp_path: Path) -> None:
    run, _ = stored(tmp_path, [400.0, 401.0])
    run.config.write_text('{"batch_size": 1e999}')
    assert '"Infinity"' in history_json(history(found_in([tmp_path])))


def test_what_cannot_be_read_is_said_and_runs_of_one_second_are_two(tmp_path: Path) -> None:
    for name, time_s in (("a", 400.0), ("b", 500.0), ("c", 500.2)):
        stored(tmp_path / name, [time_s])
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "results.json").write_text('{"schema_version": 1, "trials": [')
    (tmp_path / "d" / "list.json").write_text("[1]")
    found = found_in([tmp_path])
    assert (len(found.runs), found.copies) == (2, 1)
    [(path, reason)] = found.unreadable
    assert path.endswith("results.json")
    assert reason.startswith("damaged")
