"""What a run folder or a submission names by a link, or holds as a pipe, is not read as its own."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from run_dir import SYSTEM_NAME, build_run

from trainbench.cli import pipeline
from trainbench.compliance.score import score
from trainbench.compliance.submission.build import Submitter, build
from trainbench.compliance.submission.verify import verify
from trainbench.errors import DataIntegrityError, NotCompliantError
from trainbench.files import is_own_file, whole_folder
from trainbench.trials.paths import RunDir

LAB = Submitter("lab", "a@b.org")
SECRET = "the secret of somebody else"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return build_run(tmp_path / "run", trials=2)


def everything_in(folder: Path) -> str:
    files = (path for path in folder.rglob("*") if path.is_file())
    return "\n".join(path.read_text(errors="replace") for path in files)


def linked(path: Path, to: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


@pytest.mark.parametrize(
    "name",
    [
        *("run.json", "config.json", "cache.json", "results/findings.json"),
        *("trial_1/status.json", "trial_1/epochs.jsonl", "trial_1/system.json"),
        *("trial_1/compliance_raw.log", f"results/{SYSTEM_NAME}/ncf/result_1.txt"),
    ],
)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_link_or_a_pipe_in_a_run_is_neither_quoted_nor_packed_nor_waited_for(
    run: RunDir, secret: Path, tmp_path: Path, name: str, kind: str
) -> None:
    path = run.root / name
    path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(secret)
    else:
        os.mkfifo(path)
    assert pipeline.report(run) in (0, 1, 4, 5)
    with contextlib.suppress(NotCompliantError):  # The sums of the run may not fit.
        build(run, tmp_path / "out", system=SYSTEM_NAME, submitter=LAB, code=run.report)
    assert SECRET not in everything_in(run.report) + everything_in(tmp_path / "out")
    if name != "run.json":
        pipeline.stitch(run)
        assert SECRET not in everything_in(run.root / "results")


def test_folders_behind_a_link_are_not_those_of_the_run(run: RunDir, tmp_path: Path) -> None:
    shutil.move(run.root / "trial_1", tmp_path / "trial_1")
    (run.root / "trial_1").symlink_to(tmp_path / "trial_1")
    assert [trial.index for trial in run.trials] == [0]
    inside = run.root / "trial_1" / "status.json"
    assert inside.is_file()
    assert not is_own_file(inside, run.root)


@pytest.mark.parametrize("name", ["report", "results"])
def test_nothing_is_written_through_a_link(run: RunDir, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(run.root / name, ignore_errors=True)
    (run.root / name).symlink_to(elsewhere)
    write = pipeline.report if name == "report" else pipeline.stitch
    with pytest.raises(DataIntegrityError, match=f"{name}.*: a symbolic link, or behind one"):
        write(run)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_logs_of_a_folder_are_files(run: RunDir, secret: Path, kind: str) -> None:
    folder = run.results(SYSTEM_NAME)
    (folder / "result_1.txt").unlink()
    if kind == "link":
        (folder / "result_1.txt").symlink_to(secret)
    else:
        os.mkfifo(folder / "result_1.txt")
    assert len(score(folder).runs) == 1


def test_a_submission_is_verified_by_its_own_files(
    run: RunDir, secret: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build(run, out, system=SYSTEM_NAME, submitter=LAB, code=run.report)
    linked(out / "submission.json", secret)
    linked(out / "results" / SYSTEM_NAME / "ncf" / "result_0.txt", secret)
    found = [str(finding) for finding in verify(out).findings]
    assert any("submission.json: a symbolic link" in each for each in found)
    assert any("result_0.txt" in each and "nothing at" in each for each in found)
    assert SECRET not in "".join(found)


def test_a_folder_that_takes_the_place_of_a_link_leaves_what_it_named(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (tmp_path / "cache").symlink_to(elsewhere)
    with whole_folder(tmp_path / "cache") as part:
        (part / "new").touch()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["new"]
    assert (elsewhere / "kept").exists()
