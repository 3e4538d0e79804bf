"""The report's text files, byte for byte. After a wanted change, write them anew:

python tests/golden/test_report_text.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "unit"))

from run_dir import build_run  # noqa: E402

from trainbench.report.render import write_report  # noqa: E402

GOLDEN = HERE / "report"
NAMES = ("report.md", "results.json", "results.csv", "epochs.csv", "junit.xml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("golden"))


def written(folder: Path) -> Path:
    run = build_run(folder / "a", trials=2)
    other = build_run(folder / "b", trials=1, run_id="20261117-080000-ml-1m")
    return write_report(run, compare=[other]).html.parent


@pytest.mark.parametrize("name", NAMES)
def test_the_report_of_a_run_of_two_trials_is_known_to_the_byte(folder: Path, name: str) -> None:
    assert (folder / name).read_text() == (GOLDEN / name).read_text()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        fresh = written(Path(scratch))
        GOLDEN.mkdir(exist_ok=True)
        for file_name in NAMES:
            (GOLDEN / file_name).write_bytes((fresh / file_name).read_bytes())
