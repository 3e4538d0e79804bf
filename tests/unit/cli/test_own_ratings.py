"""Own ratings through the command line: what each step says and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from run_dir import build_run

from trainbench.cli import main as cli
from trainbench.compliance.score import score
from trainbench.compliance.submission.build import Submitter, build
from trainbench.errors import NotCompliantError
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.page.render import write_report

ROWS = "".join(
    f"u{user},{(7 * user + i) % 40},{i % 5 + 1}\n" for user in range(9) for i in range(20)
)
COLUMNS = "--columns=user=reader,item=book,rating=stars"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    path = tmp_path / "books.csv"
    path.write_text(f"reader,book,stars\n{ROWS}")
    return path


def trainbench(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["trainbench", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_table_becomes_a_cache_that_is_marked(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(table.parent)
    given = ("download", "--ratings", table, COLUMNS, "--held-out", "random")
    assert trainbench(monkeypatch, *given) == 0
    said = capsys.readouterr().err
    assert "held out of each user: one at random, seed 0" in said
    assert "180 rows read, 180 kept" in said
    assert "the next steps take --dataset own" in said
    assert trainbench(monkeypatch, "download", "--dataset", "own", "--verify") == 0
    assert trainbench(monkeypatch, "preprocess", "--dataset", "own") == 0
    (cache,) = (table.parent / "data" / "cache").iterdir()
    record = json.loads((cache / "cache.json").read_text())
    assert record["manifest"]["own"] is True
    assert record["counts"]["users"] == 9


def test_the_environment_says_the_same_as_the_options(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    given = {"RATINGS": str(table), "RATINGS_COLUMNS": COLUMNS[10:], "RATINGS_POSITIVE_FROM": "3"}
    for name, value in {**given, "DATASET": "books", "RATINGS_HEADER": "1"}.items():
        monkeypatch.setenv(name, value)
    assert trainbench(monkeypatch, "download") == 0
    own = json.loads(Path("data/raw/books/manifest.json").read_text())["own"]
    assert (own["rows_kept"], own["options"]["positive_from"]) == (108, 3.0)


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["download", "--ratings", "books.csv"], 3, "missing columns user, item; found reader"),
        (["download", "--ratings", "absent.csv"], 6, "absent.csv: not found; check --ratings"),
        (["download", "--ratings", "books.csv", "--dataset", "ml-1m"], 2, "choose another"),
        (["download", "--ratings", "books.csv", "--format", "xls"], 2, "'xls' is not one of"),
        (["download", "--ratings", "books.csv", "--division", "closed"], 2, "No such option"),
        (["download", "--dataset", "books"], 2, "run download --ratings FILE --dataset books"),
        (["preprocess", "--dataset", "books"], 2, "unknown dataset 'books'"),
        (["pipeline", "--dataset=books", "--division=closed", "--dry-run"], 2, "MovieLens alone"),
    ],
)
def test_a_mistake_is_one_line_with_its_exit_code(
    words: list[str],
    code: int,
    complaint: str,
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(table.parent)
    assert trainbench(monkeypatch, *words) == code
    said = capsys.readouterr().err
    assert complaint in said
    assert "Traceback" not in said


def test_parquet_without_its_package_names_the_extra(table: Path) -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None; from trainbench.cli.main import main; main()"
    )
    words = ["download", "--ratings", str(table), "--format", "parquet"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=table.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6
    assert "[parquet]'" in done.stderr.splitlines()[-1]
    assert list((table.parent / "data").glob("raw/*")) == []


@pytest.fixture
def own_run(tmp_path: Path):
    """A run whose data are somebody's own, and whose logs say so."""
    run = build_run(tmp_path / "run", trials=1)
    own = {"file": "books.csv", "rows_read": 180, "rows_kept": 108, "sha256": "ab" * 32}
    manifest = json.loads(run.manifest.read_text())
    run.manifest.write_text(json.dumps({**manifest, "published": False, "own": own}))
    config = json.loads(run.config.read_text())
    run.config.write_text(json.dumps({**config, "dataset": "books", "division": "open"}))
    return run


def test_a_report_names_own_data_exactly(own_run) -> None:
    files = write_report(own_run, benchmark=NCF)
    text = files.markdown.read_text().replace("\\", "")
    assert "NeuMF on own ratings 'books'" in text
    assert f"| own ratings: sha256 | {'ab' * 32} |" in text
    assert "| own ratings: rows kept | 108 |" in text
    assert "own ratings: rows read" in files.html.read_text()


def test_own_data_are_no_submission_and_no_statistic(own_run, tmp_path: Path) -> None:
    (folder,) = (own_run.root / "results").glob("*/ncf")
    submitter = Submitter("lab", "a@b.org")
    with pytest.raises(NotCompliantError, match="trained on own ratings; a submission is of"):
        build(
            own_run,
            tmp_path / "out",
            system=folder.parent.name,
            submitter=submitter,
            code=tmp_path,
        )
    (log,) = folder.glob("result_*.txt")
    lines = log.read_text().splitlines(keepends=True)
    marked = lines[-1][: lines[-1].index(") ") + 2] + 'degraded: "own_data"\n'
    log.write_text("".join([*lines[:-1], marked, lines[-1]]))
    (found,) = score(folder).runs
    assert not found.counts
    assert "own ratings, not the data of the rules" in found.reason
