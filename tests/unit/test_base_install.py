"""Without any extra, logs can be judged; what needs an extra says which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from run_dir import SYSTEM_NAME, build_run

EXTRAS = ("absl", "jinja2", "keras", "matplotlib", "mlperf_logging", "scipy", "tensorflow")
# As where none of them is installed: a module that is None cannot be imported.
PROGRAM = f"""
import sys
sys.modules.update(dict.fromkeys({EXTRAS}))
from trainbench.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("base") / "run").root


def trainbench(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_logs_are_checked_scored_and_stitched(run: Path) -> None:
    results = run / "results" / SYSTEM_NAME / "ncf"
    for words in (
        ("--help",),
        ("check", "--level", "2", results / "result_0.txt"),
        ("score", results),
        ("stitch", "--run", run),
    ):
        assert trainbench(*words, cwd=run).returncode == 0, words


def test_the_doctor_names_what_training_lacks(run: Path) -> None:
    done = trainbench("doctor", cwd=run)
    assert done.returncode in (0, 6)
    assert "pip install 'trainbench[train]'" in done.stdout


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("report --run .", "report"),
        ("compare . .", "report"),
        ("stitch --run . --dialect mllog", "mllog"),
        ("cnn --model=trivial --device=cpu", "train"),
        ("bench ncf", "train"),
    ],
)
def test_what_needs_an_extra_names_it(run: Path, words: str, extra: str) -> None:
    done = trainbench(*words.split(), cwd=run)
    assert done.returncode == 6
    assert done.stderr.splitlines()[-1].endswith(f"pip install 'trainbench[{extra}]'")
