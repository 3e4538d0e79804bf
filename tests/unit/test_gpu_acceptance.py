"""The claims about GPUs: the pages that make them, and the script that checks them.

Here only claims that train nothing are checked; all of them take minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest

from trainbench.errors import DataIntegrityError

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


@pytest.mark.parametrize("words", [("--help",), ("--list", "-h"), ("--only", "wings", "--help")])
def test_help_is_shown_wherever_it_is_asked_for(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: scripts/gpu_acceptance.sh")


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where three claims were checked on the CPU, one of which needs a GPU."""
    folder = tmp_path_factory.mktemp("acceptance")
    claims = ("--only", "recorded", "--only", "lanes", "--only", "whole-epoch")
    done = run("--devices", "cpu", *claims, "--out", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_claim_is_checked_on_the_cpu_and_written_as_record_and_page(checked: Path) -> None:
    assert results(checked) == {"whole-epoch": "passed", "lanes": "passed", "recorded": "skipped"}
    record = json.loads((checked / "acceptance.json").read_text())
    assert record["state"] == "finished"
    assert record["counts"] == {"passed": 2, "failed": 0, "skipped": 1, "not run": 0}
    assert record["machine"]["packages"]["tensorflow"]
    page = (checked / "acceptance.md").read_text()
    assert "2 passed, 0 failed, 1 skipped, 0 not run" in page
    assert "| lanes | No step in lanes is chosen" in page
    assert "not there: a GPU's sensors" in page
    assert (checked / "lanes/log.txt").is_file()


def test_a_call_goes_on_where_another_ended(checked: Path, tmp_path: Path) -> None:
    out = shutil.copytree(checked, tmp_path / "out")
    # What is kept is of the same code.
    done = run("--devices", "cpu", "--resume", "--only", "cnn-memory", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lanes:" not in done.stdout
    assert results(out) == results(checked) | {"cnn-memory": "skipped"}


def rewritten(folder: Path, change: Callable[[Any], None]) -> None:
    """Change the record in ``folder``."""
    path = folder / "acceptance.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("result", ["failed", "not run"])
def test_what_is_not_asked_for_again_keeps_its_result_and_the_call_fails_with_it(
    checked: Path, tmp_path: Path, result: str
) -> None:
    out = shutil.copytree(checked, tmp_path / "out")
    rewritten(out, lambda record: record["claims"][1].update(result=result, found="it was so"))
    done = run("--devices", "cpu", "--resume", "--only", "cnn-memory", "--out", out)
    assert done.returncode == 1, done.stdout + done.stderr
    assert results(out) == results(checked) | {"lanes": result, "cnn-memory": "skipped"}
    page = (out / "acceptance.md").read_text()
    assert f"**{result}** | it was so" in page
    assert f"1 {result}" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["machine"]["packages"].update(tensorflow="1.15"), "of other devi"),
        (lambda record: record.update(machine=[]), "Expected `object`, got `array`"),
        (lambda record: record["machine"].pop("cpu"), "'cpu'"),
        (lambda record: record.update(claims=5), "Expected `array`, got `int`"),
        (lambda record: record.update(claims=[7]), "Expected `object`, got `int`"),
        (lambda record: record["claims"][0].update(seconds="x"), "Expected `float`, got `str`"),
        (lambda record: record["claims"][0].update(figures=[]), "Expected `object`, got `array`"),
        (lambda record: record["claims"][0].update(result="so so"), "the result 'so so'"),
        (lambda record: record["claims"][0].pop("result"), "missing required field `result`"),
    ],
)
def test_a_record_that_does_not_fit_is_told_and_left_as_it_is(
    gpu_acceptance: Callable[[str], Any],
    checked: Path,
    tmp_path: Path,
    change: Callable[[Any], None],
    said: str,
) -> None:
    shutil.copy(checked / "acceptance.json", tmp_path)
    machine = json.loads((tmp_path / "acceptance.json").read_text())["machine"]
    rewritten(tmp_path, change)
    with pytest.raises(DataIntegrityError) as told:
        gpu_acceptance("record").kept(tmp_path, "cpu", machine)
    assert said in str(told.value)
    assert "leave --resume out" in str(told.value)


def test_resume_refuses_the_record_of_another_machine(checked: Path, tmp_path: Path) -> None:
    out = shutil.copytree(checked, tmp_path / "out")
    rewritten(out, lambda record: record["machine"]["packages"].update(tensorflow="1.15"))
    before = (out / "acceptance.json").read_bytes()
    done = run("--devices", "cpu", "--resume", "--only", "recorded", "--out", out)
    assert done.returncode == 3
    assert "leave --resume out" in done.stderr
    assert (out / "acceptance.json").read_bytes() == before


@pytest.fixture
def gpu_acceptance(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A module of the script's, by name."""
    paths = os.pathsep.join([str(ROOT / "scripts"), str(ROOT / "src")])
    monkeypatch.setenv("PYTHONPATH", paths)
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import_module("gpu_acceptance.__main__")
    return lambda name: import_module(f"gpu_acceptance.{name}")


def test_without_names_resume_checks_what_is_not_settled(
    gpu_acceptance: Callable[[str], Any],
) -> None:
    running, record = gpu_acceptance("running"), gpu_acceptance("record")
    every = list(gpu_acceptance("claims").CLAIMS)
    done = {
        name: record.Outcome(name, result, "")
        for name, result in zip(every, ("passed", "failed", "skipped", "not run"), strict=False)
    }
    assert running._wanted([], done) == [every[1], every[3], *every[4:]]
    assert running._wanted([every[2], every[0]], done) == [every[0], every[2]]


def test_a_claim_that_takes_too_long_fails_and_the_others_are_checked(tmp_path: Path) -> None:
    several = ("--only", "whole-epoch", "--only", "recorded", "--limit-s", "0.01")
    done = run("--devices", "cpu", *several, "--out", tmp_path)
    assert done.returncode == 1
    assert results(tmp_path) == {"whole-epoch": "failed", "recorded": "failed"}
    page = (tmp_path / "acceptance.md").read_text()
    assert "**failed** | not done within 0.0 s" in page


def test_what_has_not_ended_when_the_time_is_over_is_not_run(tmp_path: Path) -> None:
    out = ("--out", tmp_path, "--minutes", "0.0001")
    done = run("--devices", "cpu", "--only", "lanes", "--only", "recorded", *out)
    assert done.returncode == 1
    assert results(tmp_path) == {"lanes": "not run", "recorded": "not run"}
    assert state(tmp_path) == "the 0.0001 minutes were over"
    assert "the 0.0001 minutes were over" in (tmp_path / "acceptance.md").read_text()


@pytest.mark.parametrize(
    ("limit_s", "left_s", "result", "found"),
    [(600, 0.01, "not run", "ended, as it was late"), (0.01, 600, "failed", "not done within")],
)
def test_which_limit_ended_a_claim_decides_whether_it_failed(
    gpu_acceptance: Callable[[str], Any],
    tmp_path: Path,
    limit_s: float,
    left_s: float,
    result: str,
    found: str,
) -> None:
    outcome = gpu_acceptance("running")._in_a_process(
        "recorded", "cpu", tmp_path / "own", limit_s=limit_s, left_s=left_s, over="it was late"
    )
    assert outcome.result == result
    assert outcome.found.startswith(found)


def test_what_a_check_started_ends_though_the_check_ended_by_itself(
    gpu_acceptance: Callable[[str], Any],
) -> None:
    process = subprocess.Popen(
        ["bash", "-c", "sleep 600 >/dev/null & echo $!; kill -9 $$"],
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    left = psutil.Process(int(process.stdout.readline()))
    assert process.wait() == -signal.SIGKILL
    assert left.is_running()
    gpu_acceptance("running")._end(process)
    with suppress(psutil.NoSuchProcess):
        while left.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


def test_a_disk_that_refuses_ends_the_call_as_the_environment_and_the_record_says_so(
    gpu_acceptance: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "log.txt")

    monkeypatch.setattr(gpu_acceptance("running"), "_in_a_process", refuse)
    # Signals and environment stay the tests' own.
    monkeypatch.setattr(gpu_acceptance("running").signals, "listen", lambda: None)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    words = ["gpu_acceptance.sh", "--devices=cpu", "--only=recorded", f"--out={tmp_path}"]
    monkeypatch.setattr("sys.argv", words)
    assert gpu_acceptance("__main__").main() == 6
    assert state(tmp_path) == "ended: log.txt: Permission denied"


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
