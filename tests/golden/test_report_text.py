"""The report's text files, byte for byte. After a wanted change, write them anew:

PYTHONPATH=src:tests/fixtures python tests/golden/test_report_text.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from checkout import CHECKOUT
from run_dir import build_run, seal, send

from trainbench.ncf.benchmark import NCF
from trainbench.reporting.page.render import write_report

GOLDEN = CHECKOUT / "tests" / "golden" / "report"
NAMES = ("report.md", "results.json", "results.csv", "epochs.csv")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return written(tmp_path_factory.mktemp("golden"))


def written(folder: Path) -> dict[str, str]:
    """The files by name. The list of rules is left out: docs/rules.md and its tests hold it."""
    run = build_run(folder / "a", trials=2)
    send(run.trial(1))
    run = seal(run)
    other = build_run(folder / "b", trials=1, run_id="20261117-080000-ml-1m")
    report = write_report(run, compare=[other], benchmark=NCF).html.parent
    texts = {name: (report / name).read_text() for name in NAMES}
    results = {**json.loads(texts["results.json"]), "rules": []}
    texts["results.json"] = json.dumps(results, indent=2, sort_keys=True) + "\n"
    return texts


@pytest.mark.parametrize("name", NAMES)
def test_the_report_of_two_trials_is_known_to_the_byte(texts: dict[str, str], name: str) -> None:
    assert texts[name] == (GOLDEN / name).read_text()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.mkdir(exist_ok=True)
        for file_name, text in written(Path(scratch)).items():
            (GOLDEN / file_name).write_text(text)
