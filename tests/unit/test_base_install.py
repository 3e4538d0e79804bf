"""Without any extra, logs can be judged; what needs an extra says which, and makes nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from every_command import CODES, cheap, commands, contents, workplace

from trainbench.machine import extras

NOT_INSTALLED = re.compile(
    r"error: .* (is|are) not installed\)?: pip install (-e )?'\S+\[(report|train|mllog|,)+\]'"
)
# As where no extra is installed: a module that is None cannot be imported. Each command runs in a
# fork, so nothing that one of them imports or changes is there for the next.
PROGRAM = f"""
import json, os, sys
sys.modules.update(dict.fromkeys({tuple(extras.EXTRAS)}))
from trainbench.cli.main import main
codes = []
for folder, output, words in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        sys.argv[:] = ["trainbench", *words]
        main()
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""
WORDS = {path: cheap(path) for path in commands()} | {
    "evaluate with another dataset": ["evaluate", "--dataset=ml-1m", "--weights=absent.npz"],
    "report of a folder that is not there": ["report", "--run", "absent"],
    "stitch in another dialect": ["stitch", "--run", "data/runs/latest", "--dialect", "mllog"],
    "cnn with another model": ["cnn", "--model=trivial", "--device=cpu"],
    "pipeline where nothing is": ["pipeline", "--preset=quick", "--data-dir=new/folder"],
    "plan of a pipeline": ["pipeline", "--preset=quick", "--dry-run"],
}
NEEDS = {
    "bench all-reduce": "train",
    "bench cnn": "train",
    "bench ncf": "train",
    "cnn": "train",
    "cnn with another model": "train",
    "compare": "report",
    "evaluate": "train",
    "evaluate with another dataset": "train",
    "images convert": "train",
    "images pipeline": "train,report",
    "images train": "train",
    "pipeline": "train,report",
    "pipeline where nothing is": "train,report",
    "replay": "train",
    "report": "report",
    "report of a folder that is not there": "report",
    "stitch in another dialect": "mllog",
    "train": "train",
}


@dataclass(frozen=True)
class Ended:
    """How one command ended, and what was in its folder before and after."""

    code: int
    output: str
    before: dict[str, str]
    after: dict[str, str]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """The end of each of WORDS, each in a folder of its own."""
    base = tmp_path_factory.mktemp("base")
    place = workplace(base / "place")
    before, calls = contents(place), []
    for name, words in WORDS.items():
        folder = base / name
        shutil.copytree(place, folder, symlinks=True)
        calls.append((str(folder), f"{folder}.txt", words))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(calls)],
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        name: Ended(code, Path(output).read_text(), before, contents(Path(folder)))
        for name, code, (folder, output, _) in zip(
            WORDS, json.loads(done.stdout), calls, strict=True
        )
    }


@pytest.mark.parametrize("name", WORDS)
def test_a_command_works_or_says_what_to_install(name: str, ended: dict[str, Ended]) -> None:
    end = ended[name]
    assert end.code in CODES
    assert "Traceback" not in end.output
    if "not installed" in end.output and name != "doctor":
        assert end.code == 6
        assert NOT_INSTALLED.fullmatch(end.output.splitlines()[-1])
        assert end.after == end.before, "something was made before the check"


@pytest.mark.parametrize("name", NEEDS)
def test_what_needs_an_extra_names_it(name: str, ended: dict[str, Ended]) -> None:
    assert f"[{NEEDS[name]}]'" in ended[name].output


@pytest.mark.parametrize(
    "name", ["check", "score", "stitch", "download", "bench data", "plan of a pipeline"]
)
def test_what_needs_none_works(name: str, ended: dict[str, Ended]) -> None:
    assert ended[name].code == 0, ended[name].output


def test_the_doctor_names_what_training_and_the_report_lack(ended: dict[str, Ended]) -> None:
    said = ended["doctor"].output
    assert ended["doctor"].code in (0, 6)
    assert re.search(r"^WARN  tensorflow .*\[train\]'", said, re.MULTILINE)
    assert re.search(r"^WARN  report .*jinja2, matplotlib, scipy.*\[report\]'", said, re.MULTILINE)
