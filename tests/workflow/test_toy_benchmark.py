"""A benchmark of one folder, tests/toy, goes through every step that a benchmark has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from checkout import CHECKOUT
from run_dir import build_run


def trainbench(*arguments: str | Path, code: int = 0) -> str:
    """What a command prints, with the toy installed; it has to end with ``code``."""
    paths = (str(CHECKOUT / "tests" / "toy"), os.environ.get("PYTHONPATH"))
    inherited = {k: v for k, v in os.environ.items() if k not in ("PRESET", "RUNS", "SEED")}
    done = subprocess.run(
        [sys.executable, "-m", "trainbench", *map(str, arguments)],
        env={**inherited, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def pipeline(data: Path, *arguments: str, code: int = 0) -> Path:
    """The folder of a new run."""
    trainbench("toy", "pipeline", "--data-dir", data, "--no-drop-caches", *arguments, code=code)
    return (data / "runs" / "latest").resolve()


def report_of(folder: Path) -> dict[str, object]:
    """results.json, which keeps to its schema, as a dictionary."""
    record: dict[str, object] = json.loads((folder / "results.json").read_text())
    schema = files("trainbench.reporting").joinpath("results.schema.json").read_text()
    jsonschema.validate(record, json.loads(schema))
    return record


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """Three trials, from download to report."""
    return pipeline(data, "--runs", "3", "--seed", "4")


def test_its_logs_are_stitched_clean_and_scored_as_its_own_rule_says(run: Path) -> None:
    trainbench("stitch", "--run", run)
    logs = sorted(run.glob("results/*/toy/result_*.txt"))
    assert len(logs) == 3
    trainbench("check", "--level", "2", *logs)
    score = trainbench("score", logs[0].parent)
    assert re.search(r"v0\.5 statistic: .* mean of 1 run; dropped the fastest and the", score)
    assert "\nepochs to target: " in score


def test_its_report_is_the_common_page_with_its_own_quality(run: Path, tmp_path: Path) -> None:
    trainbench("report", "--run", run, "--out", tmp_path)
    record = report_of(tmp_path)
    assert (record["benchmark"], record["missing"]) == ("toy", [])
    page = (tmp_path / "report.html").read_text()
    for sentence in (
        "<h1>Linear regression report</h1>",
        "Target reached in 3 of 3 trials",
        "best R2 0.9",
        "Quality after each epoch",
        "the preset easy with these settings changed",
    ):
        assert sentence in page
    assert "hit_rate" not in (tmp_path / "results.json").read_text()


def test_its_submission_folder_is_built_and_verified(run: Path, tmp_path: Path) -> None:
    who = ("--org", "example", "--email", "toy@example.com")
    trainbench("submission", "build", "--run", run, "--out", tmp_path / "submission", *who)
    assert "0 findings" in trainbench("submission", "verify", tmp_path / "submission")


def test_two_of_its_runs_are_compared_and_one_of_another_benchmark_is_refused(
    data: Path, run: Path, tmp_path: Path
) -> None:
    missed = pipeline(data, "--preset", "hard", code=4)
    steps = [json.loads(line) for line in (data / "steps.jsonl").read_text().splitlines()]
    assert [(step["step"], step["exit_code"]) for step in steps[-6:]] == [
        *(("download", 0), ("prepare", 0), ("train", 0), ("stitch", 0)),
        *(("report", 4), ("pipeline", 4)),
    ]
    trainbench("report", "--run", run, "--run", missed, "--out", tmp_path)
    comparison = report_of(tmp_path)["comparison"]
    assert isinstance(comparison, dict)
    values = {outcome["name"]: outcome["values"] for outcome in comparison["outcomes"]}
    assert values["outcome"] == ["Target reached in 3 of 3 trials", "Target not reached"]
    assert values["best_r2"][1] > 0.98
    settings = {setting["name"]: setting["values"] for setting in comparison["settings"]}
    assert settings["target_r2"] == [0.9, 1.1]

    ncf = build_run(tmp_path / "ncf", trials=1).root
    (line,) = trainbench("report", "--run", run, "--run", ncf, code=2).splitlines()
    assert f"{ncf}: a run of ncf, but {run} is one of toy" in line
