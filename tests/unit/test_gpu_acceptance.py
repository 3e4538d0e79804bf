"""The claims about GPUs: the pages that make them, and the script that checks them.

Here only claims that compile nothing are checked; all of them take minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "gpu_acceptance.sh"


# Pages that speak of a GPU and say nothing that only a GPU can show.
WITHOUT_A_CLAIM = {
    "README.md": "leads to other pages",
    "cnn_evaluate.md": "an assumption, named as one",
    "environments.md": "simulated, or named as not run",
    "errors.md": "messages",
    "glossary.md": "a word",
    "history.md": "a field",
    "input.md": "the producer's process, which sees none",
    "install.md": "the names of packages",
    "tutorial_ci.md": "needs none",
    "tutorial_first_run.md": "needs none",
    "tutorial_ratings.md": "needs none",
}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def results(folder: Path) -> dict[str, str]:
    claims = json.loads((folder / "acceptance.json").read_text())["claims"]
    return {claim["claim"]: claim["result"] for claim in claims}


def state(folder: Path) -> Any:
    return json.loads((folder / "acceptance.json").read_text())["state"]


def test_page_and_script_list_the_same_claims() -> None:
    of_page = re.findall(
        r"^\| `([a-z0-9-]+)` \| (.+?) \|",
        (ROOT / "docs/devices.md").read_text().split("## GPU claims")[1],
        re.MULTILINE,
    )
    listed = [tuple(line.split(": ", 1)) for line in run("--list").stdout.splitlines()]
    assert listed
    assert of_page == listed


def test_pages_that_say_what_was_not_tested_on_a_gpu_lead_to_the_claims() -> None:
    # The word is the page's own; devices.md has the list.
    silent = [
        page.name
        for page in (ROOT / "docs").glob("*.md")
        if re.search(r"not tested on a\s+GPU", page.read_text(), re.IGNORECASE)
        and "devices.md#gpu-claims" not in page.read_text()
    ]
    assert silent == []


def test_each_page_that_speaks_of_a_gpu_stands_beside_a_claim_or_is_named_as_having_none() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    speak = {page.name for page in pages if re.search(r"\bGPUs?\b", page.read_text())}
    claims = (ROOT / "docs/devices.md").read_text().split("## GPU claims")[1]
    beside = set(re.findall(r"\]\(([a-z0-9_]+\.md)\)", claims)) | {"devices.md"}
    assert speak == beside | set(WITHOUT_A_CLAIM)
    assert not beside & set(WITHOUT_A_CLAIM)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two claims were checked on the CPU, one of which needs a GPU."""
    folder = tmp_path_factory.mktemp("acceptance")
    done = run("--devices", "cpu", "--only", "recorded", "--only", "lanes", "--out", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_claim_is_checked_on_the_cpu_and_written_as_record_and_page(checked: Path) -> None:
    assert results(checked) == {"lanes": "passed", "recorded": "skipped"}
    record = json.loads((checked / "acceptance.json").read_text())
    assert record["state"] == "finished"
    assert record["counts"] == {"passed": 1, "failed": 0, "skipped": 1, "not run": 0}
    assert record["machine"]["packages"]["tensorflow"]
    page = (checked / "acceptance.md").read_text()
    assert "1 passed, 0 failed, 1 skipped, 0 not run" in page
    assert "| lanes | No step in lanes is chosen" in page
    assert "not there: a GPU's sensors" in page
    assert (checked / "lanes/log.txt").is_file()


def test_a_call_goes_on_where_another_ended(checked: Path, tmp_path: Path) -> None:
    out = shutil.copytree(checked, tmp_path / "out")
    # What is kept is of the same code.
    done = run("--devices", "cpu", "--resume", "--only", "cnn-memory", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lanes:" not in done.stdout
    wanted = {"lanes": "passed", "recorded": "skipped", "cnn-memory": "skipped"}
    assert results(out) == wanted
    record = json.loads((out / "acceptance.json").read_text())
    record["machine"]["packages"]["tensorflow"] = "1.15"
    (out / "acceptance.json").write_text(json.dumps(record))
    done = run("--devices", "cpu", "--resume", "--only", "recorded", "--out", out)
    assert done.returncode == 3
    assert "leave --resume out" in done.stderr


def test_a_claim_that_takes_too_long_fails_and_the_others_are_checked(tmp_path: Path) -> None:
    several = ("--only", "whole-epoch", "--only", "recorded", "--limit-s", "0.01")
    done = run("--devices", "cpu", *several, "--out", tmp_path)
    assert done.returncode == 1
    assert results(tmp_path) == {"whole-epoch": "failed", "recorded": "failed"}
    page = (tmp_path / "acceptance.md").read_text()
    assert "**failed** | not done within 0.0 s" in page


def test_what_has_not_begun_when_the_time_is_over_is_not_run(tmp_path: Path) -> None:
    out = ("--out", tmp_path, "--minutes", "0.0001")
    done = run("--devices", "cpu", "--only", "lanes", "--only", "recorded", *out)
    assert done.returncode == 1
    assert results(tmp_path)["recorded"] == "not run"
    assert "the 0.0001 minutes were over" in (tmp_path / "acceptance.md").read_text()


def test_an_interrupted_call_leaves_both_files_whole_and_no_process(tmp_path: Path) -> None:
    several = ("--only", "one-device", "--only", "recorded", "--out", str(tmp_path))
    process = subprocess.Popen(
        [SCRIPT, "--devices", "cpu", *several], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    for line in process.stderr:
        if "1/2 one-device" in line:
            break
    # The files are there from the start.
    assert results(tmp_path) == {"one-device": "not run", "recorded": "not run"}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=600)
    assert process.returncode == 130
    assert state(tmp_path) == "interrupted"
    assert "interrupted" in (tmp_path / "acceptance.md").read_text()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if _names(path, tmp_path)]


def _names(path: Path, folder: Path) -> bool:
    try:
        return str(folder) in path.read_text()
    except OSError:
        return False


def test_without_a_gpu_there_is_an_error_before_anything_is_set_up(tmp_path: Path) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    driver.chmod(0o755)
    out = tmp_path / "out"
    done = subprocess.run(
        [SCRIPT, "--out", out], capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 6, done.stderr
    assert "no GPU here" in done.stderr
    assert not out.exists()


def test_an_unknown_claim_is_a_usage_error() -> None:
    done = run("--only", "wings")
    assert done.returncode == 2
    assert "wings" in done.stderr
