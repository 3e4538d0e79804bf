"""The image classification workflow: as Popper reads it, and its steps without Docker."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import popper_runs
import pytest
import yaml
from checkout import CHECKOUT
from processes import PATIENCE_S, processes_in, wait_until

from trainbench.compliance.check import check
from trainbench.compliance.rules.levels import ruleset
from trainbench.trials.paths import DataDir

STEPS = ["download", "convert", "train", "stitch", "report"]


def test_popper_runs_the_five_steps_in_the_images_of_the_other_workflow(tmp_path: Path) -> None:
    names = ("containers", "image_classification", "settings.py")
    clone = popper_runs.copied(tmp_path / "clone", *names)
    process = popper_runs.popper(clone / "image_classification", tmp_path / "notes")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    created = popper_runs.noted(tmp_path / "notes", "create")
    assert [note["name"].split("_")[1] for note in created] == STEPS
    built = [
        Path(note["path"]).resolve() for note in popper_runs.noted(tmp_path / "notes", "build")
    ]
    wanted = ["download", "train", "train", "stitch", "stitch"]
    assert built == [clone / "containers" / name for name in wanted]
    for note in created:
        assert f"{clone}:/checkout:ro" in note["volumes"]
        assert f"{clone}/data:/data" in note["volumes"]
        assert note["environment"]["PYTHONPATH"] == "/checkout/src"
        assert note["environment"]["PRESET"] == "quick"


def test_its_steps_are_commands_of_the_command_line() -> None:
    from trainbench.cli.main import cli

    steps = yaml.safe_load((CHECKOUT / "image_classification" / "wf.yml").read_text())["steps"]
    for step in steps:
        group, *rest = step["args"]
        command: Any = cli.commands[group]
        if group == "images":
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(rest) <= known


def trainbench(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("PRESET", "RUNS", "SEED")}
    return subprocess.run(
        [sys.executable, "-m", "trainbench", *arguments],
        env={**inherited, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


TINY = [
    *("--set", "generated_train=100", "--set", "generated_eval=50", "--set", "max_epochs=2"),
    *("--set", "batch_size=20", "--set", "eval_batch_size=50", "--set", "warmup_epochs=0"),
    *("--set", "target_top_1=1.0", "--set", "learning_rate=0.001", "--set", "drop_caches=false"),
]
NOT_DROPPED = "level2/at-least-one/run_clear_caches"


@pytest.fixture(scope="module")
def missed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A whole run on a hundred images, which cannot reach a target of 1."""
    data = tmp_path_factory.mktemp("data")
    done = trainbench("images", "pipeline", "--data-dir", str(data), "--seed", "5", *TINY)
    return data, done.returncode, done.stdout + done.stderr


def test_a_run_that_misses_its_target_and_keeps_the_caches_ends_with_5_and_a_whole_report(
    missed: tuple[Path, int, str],
) -> None:
    data, code, output = missed
    assert code == 5, output
    run = data / "runs" / "latest"
    page = (run / "report" / "report.html").read_text()
    assert "Target not reached" in page
    assert re.findall("<figcaption[^>]*>([^<]*)", page) == [
        "Quality after each evaluation, and when",
        "top-5 after each evaluation",
        "Phases of trial 0",
        "The machine while trial 0 ran",
        "Images per second, mean of 20 steps",
        "How long steps took",
    ]
    assert "http" not in page.replace("http://www.w3.org", "")
    status = json.loads((run / "trial_0" / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("not_converged", 4)
    record = json.loads((run / "report" / "results.json").read_text())
    assert [e["epoch"] for e in record["measured"][0]["evaluations"]] == [1.0, 2.0]
    assert record["verdict"]["level_findings"]["2"] == 1
    assert record["missing"] == []
    schema = files("trainbench.reporting").joinpath("results.schema.json").read_text()
    jsonschema.validate(record, json.loads(schema))
    assert "Not the v0.5 statistic: 1 log and 0 converged runs, wanted 5 and 5." in page


def test_its_stitched_log_lacks_nothing_at_level_2_but_the_drop_of_the_caches(
    missed: tuple[Path, int, str],
) -> None:
    (log,) = (missed[0] / "runs" / "latest" / "results").glob("*/resnet/result_0.txt")
    lines = log.read_text().splitlines()
    for checker in ("2018-11", "2019-04"):
        found = check(lines, ruleset("2", checker=checker, benchmark="resnet"))
        assert [finding.rule for finding in found] == [NOT_DROPPED]


def test_the_next_call_skips_what_is_there(missed: tuple[Path, int, str]) -> None:
    data = str(missed[0])
    for step in ("download", "convert"):
        done = trainbench("images", step, "--data-dir", data, *TINY)
        assert done.returncode == 0, done.stderr
        assert "is complete and unchanged" in done.stderr


def test_a_killed_set_leaves_no_process_and_goes_on_with_the_trial_that_was_cut_off(
    missed: tuple[Path, int, str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    subprocess.run(["cp", "-a", str(missed[0]), str(data)], check=True)
    run = DataDir(data).run((data / "runs" / "latest").readlink().name)
    asked = json.loads(run.run_file.read_text())
    run.run_file.write_text(json.dumps(asked | {"runs": 2}))
    kept = {path: path.read_bytes() for path in run.trial(0).root.rglob("*") if path.is_file()}
    words = ["--data-dir", str(data), "--seed", "5", "--runs", "2", *TINY]

    process = subprocess.Popen(
        [sys.executable, "-m", "trainbench", "images", "train", *words],
        stderr=subprocess.DEVNULL,
    )
    wait_until(run.trial(1).phases.exists)
    process.kill()
    process.wait()
    wait_until(lambda: processes_in(data) == [])
    # A trial that does not come to it in its time of grace says "running": cut off all the same.
    assert json.loads(run.trial(1).status.read_text())["state"] in ("interrupted", "running")

    done = trainbench("images", "train", *words)
    assert done.returncode == 4, done.stderr
    assert "continuing run" in done.stderr
    assert "1 of 2 trial(s) missing" in done.stderr
    assert json.loads(run.trial(1).status.read_text())["state"] == "not_converged"
    assert {path: path.read_bytes() for path in kept} == kept
    assert len(list(run.root.glob("trial_1.aborted-*"))) == 1


def test_the_report_can_be_made_anew_from_the_run_directory_alone(
    missed: tuple[Path, int, str], tmp_path: Path
) -> None:
    run = missed[0] / "runs" / "latest"
    shutil.copytree(run, tmp_path / "copy")
    done = trainbench("report", "--run", str(tmp_path / "copy"), "--out", str(tmp_path / "again"))
    assert done.returncode == 5, done.stderr
    for name in ("report.html", "report.md", "results.json", "results.csv", "junit.xml"):
        assert (tmp_path / "again" / name).read_bytes() == (run / "report" / name).read_bytes()
