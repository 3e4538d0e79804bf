"""Sample reports for the site, from real runs: NCF, images, a comparison and a history.

The runs are those of a folder that holds the data directories ``quick`` (NCF) and ``images``. What
is not there is run, by small presets, and takes a few minutes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

LEAST_NCF_RUNS = 2
MOST_RUNS = 5
REPORT = Path("report", "report.html")
# A small run may miss its target or lack the right to drop the page cache; times may differ.
_FINE = (0, 4, 5, 7)


def make(runs: Path, out: Path) -> str:
    """Write the sample reports into ``out``/samples and return the page that links to them."""
    folder = out / "samples"
    folder.mkdir(parents=True)
    made = _runs(runs / "quick", ["pipeline", "--preset", "quick"], LEAST_NCF_RUNS)
    ncf = _copied(made, folder / "ncf")
    made = _runs(runs / "images", ["images", "pipeline", "--preset", "quick"], 1)
    images = _copied(made, folder / "images")
    rows = [
        ("NCF, generated ratings", ncf[-1] / REPORT),
        ("ResNet, generated images", images[-1] / REPORT),
        ("Two runs of NCF compared", _compared(ncf[-2:], folder / "comparison")),
        ("The history of all these runs", _history(folder)),
        ("Logs that were sent, of two benchmarks", _review([ncf[-1], images[-1]], folder)),
    ]
    _make_small(folder)
    links = [f"| {name} | [{path.name}]({path.relative_to(out)}) |" for name, path in rows]
    return _page(["| sample | report |", "|---|---|", *links])


def without() -> str:
    """The page of a site that was built without samples."""
    return _page(["This site was built without them: `./scripts/docs.sh --samples DIR` adds them."])


def _page(lines: list[str]) -> str:
    head = [
        "# Sample reports",
        "",
        "Made from real runs of small presets when this site was built. They show what a report",
        "looks like; their times say nothing about a machine. [Files of a run](outputs.md) has",
        "what else a run leaves.",
        "",
    ]
    return "\n".join([*head, *lines, ""])


def _runs(data: Path, command: list[str], least: int) -> list[Path]:
    """The folders of at least ``least`` runs in ``data`` that have a report, oldest first."""
    while len(found := _finished(data)) < least:
        _trainbench(*command, "--data-dir", str(data))
    return found


def _finished(data: Path) -> list[Path]:
    folders = [page.parents[1] for page in data.glob(f"runs/*/{REPORT}")]
    return sorted(folder for folder in folders if folder.name != "latest")


def _copied(runs: list[Path], data: Path) -> list[Path]:
    """Copies of the newest of ``runs``, as they lie in a data directory, here ``data``."""
    copies = [data / "runs" / run.name for run in runs[-MOST_RUNS:]]
    for run, copy in zip(runs[-MOST_RUNS:], copies, strict=True):
        shutil.copytree(run, copy)
    return copies


def _compared(runs: list[Path], folder: Path) -> Path:
    """The first run once more, with a report that has the others beside it."""
    first = Path(shutil.copytree(runs[0], folder / runs[0].name))
    _trainbench("report", *(w for run in (first, *runs[1:]) for w in ("--run", str(run))))
    return first / REPORT


def _history(folder: Path) -> Path:
    out = folder / "history"
    _trainbench("history", str(folder / "ncf"), str(folder / "images"), "--out", str(out))
    return out / "index.html"


def _review(runs: list[Path], folder: Path) -> Path:
    """The report of nothing but the logs of ``runs``."""
    out = folder / "review"
    _trainbench("report", *(str(run / "results") for run in runs), "--out", str(out))
    return out / REPORT.name


def _make_small(folder: Path) -> None:
    """Remove what no report links to, once all reports are made: they look at whole runs."""
    for weights in folder.rglob("model"):
        shutil.rmtree(weights)
    # The builder would make a page of each, under the name of the report itself.
    for text in folder.rglob("*.md"):
        text.unlink()


def _trainbench(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "trainbench", *words], check=False)
    if done.returncode not in _FINE:
        sys.exit(done.returncode)
