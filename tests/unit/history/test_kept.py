"""``trainbench runs``: list, show, tag, note, prune; and what users say of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from filelock import FileLock
from run_dir import build_run, change, seal
from stored_runs import stored

from trainbench.cli.main import cli
from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.history.kept import kept
from trainbench.history.reading import read, read_run
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.page.render import write_report
from trainbench.trials import chain, live, notes
from trainbench.trials.paths import DataDir


def invoke(*words: object) -> Any:
    return CliRunner().invoke(cli, ["runs", *map(str, words)])


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    stored(tmp_path, [400.0, 401.0, 402.0, 403.0, 404.0])
    data = DataDir(tmp_path)
    data.latest.symlink_to("2026-0001-ml-1m")
    return data


def names(data: DataDir) -> list[str]:
    return sorted(p.name for p in data.runs.iterdir() if not p.is_symlink())


def test_runs_are_listed_with_their_size_the_newest_first(data: DataDir) -> None:
    (data.runs / "elsewhere").symlink_to(data.runs / "2026-0000-ml-1m")
    record = json.loads(invoke("list", "--data-dir", data.root, "--json").stdout)
    assert [run["run_id"] for run in record] == [f"2026-{n:04d}-ml-1m" for n in (4, 3, 2, 1, 0)]
    assert [run["latest"] for run in record] == [False, False, False, True, False]
    assert record[0]["time_to_train_s"] == 404
    size = sum(512 * p.stat().st_blocks for p in (data.runs / "2026-0004-ml-1m").rglob("*.*"))
    assert record[0]["size_bytes"] == size > 100_000
    text = invoke("list", "--data-dir", data.root).stdout
    assert "2026-0001-ml-1m *" in text
    assert "1 of 1 reached" in text


def test_prune_lists_first_and_removes_only_when_told(data: DataDir) -> None:
    done = invoke("prune", "--keep", 2, "--data-dir", data.root)
    assert isinstance(done.exception, ConfigError)
    assert "2026-0000-ml-1m" in done.stdout
    assert len(names(data)) == 5
    done = invoke("prune", "--keep", 2, "--yes", "--data-dir", data.root)
    assert done.exit_code == 0
    assert "stays: 2026-0001-ml-1m (runs/latest)" in done.stdout
    assert names(data) == ["2026-0001-ml-1m", "2026-0003-ml-1m", "2026-0004-ml-1m"]
    assert data.latest.resolve().is_dir()
    steps = data.steps.read_text().splitlines()
    assert json.loads(steps[-1])["step"] == "prune"


def test_prune_keeps_what_is_tagged_or_runs_and_never_leaves_the_folder(data: DataDir) -> None:
    outside = data.root.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    runs = {one.name: one.run for one in kept(data)}
    (runs["2026-0000-ml-1m"].root / "link").symlink_to(outside)
    (data.runs / "2020-linked").symlink_to(outside)
    change(runs["2026-0002-ml-1m"].trial(0).status, state="running")
    invoke("tag", "2026-0003", "keep", "--data-dir", data.root)
    done = invoke("prune", "--keep", 0, "--yes", "--data-dir", data.root)
    assert done.exit_code == 0, done.output
    assert names(data) == ["2026-0001-ml-1m", "2026-0002-ml-1m", "2026-0003-ml-1m"]
    assert (outside / "precious").read_text() == "x"
    assert (data.runs / "2020-linked").is_symlink()
    # Cut off long ago, it does not run.
    for path in runs["2026-0002-ml-1m"].root.rglob("*"):
        os.utime(path, (1, 1))
    invoke("prune", "--keep", 0, "--yes", "--data-dir", data.root)
    assert names(data) == ["2026-0001-ml-1m", "2026-0003-ml-1m"]


def test_nothing_is_removed_while_a_step_runs(data: DataDir) -> None:
    with FileLock(data.lock):
        done = invoke("prune", "--keep", 1, "--yes", "--data-dir", data.root)
    assert isinstance(done.exception, MachineError)
    assert len(names(data)) == 5


def test_runs_of_a_folder_that_is_a_link_are_not_removed(data: DataDir, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "runs").symlink_to(data.runs)
    done = invoke("prune", "--keep", 0, "--yes", "--data-dir", other)
    assert isinstance(done.exception, DataIntegrityError) or "nothing to remove" in done.output
    assert len(names(data)) == 5


def test_a_run_is_found_by_the_beginning_of_its_id_and_latest(data: DataDir) -> None:
    shown = invoke("show", "2026-0003", "--data-dir", data.root).stdout
    assert shown.startswith("run      2026-0003-ml-1m\n")
    assert "(latest)" in invoke("show", "latest", "--data-dir", data.root).stdout
    done = invoke("show", "2026", "--data-dir", data.root)
    assert "5 runs begin so" in str(done.exception)
    assert isinstance(invoke("show", "x", "--data-dir", data.root).exception, ConfigError)


def test_a_later_note_breaks_no_sum_and_run_json_stays(tmp_path: Path) -> None:
    run = build_run(tmp_path / "runs" / "one", trials=1)
    change(run.run_file, note="as bought", tags=["lab"])
    seal(run)
    before = run.run_file.read_bytes()
    assert notes.notes_of(run) == notes.Notes("as bought", ("lab",), later=False)
    found = notes.change(run, note="with the new cooler", add=["cooled"], remove=["lab"])
    assert found == notes.notes_of(run) == notes.Notes("with the new cooler", ("cooled",), True)
    assert run.run_file.read_bytes() == before
    assert not chain.of_run(run).breaks
    # What was said at the start is covered.
    change(run.run_file, note="something else")
    assert "run.json" in {b.file for b in chain.of_run(run).breaks}
    assert read_run(run).note == "with the new cooler"


def test_notes_and_tags_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    run = build_run(tmp_path / "one", trials=1)
    for tag in ("", "a b", "-x", "x" * 41, "\x1b"):
        with pytest.raises(ConfigError, match="wanted letters"):
            notes.change(run, add=[tag])
    with pytest.raises(ConfigError, match="wanted at most 2,000"):
        notes.change(run, note="x" * 2_001)
    run.notes.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataIntegrityError, match="symbolic link"):
        notes.change(run, note="x")


def test_a_running_trial_says_how_far_it_is(data: DataDir) -> None:
    trial = kept(data)[0].run.trial(0)
    writer = live.Writer(trial.progress)
    writer.tell(epochs=20, name="HR@10", target=0.635, phase="train_epoch", epoch=3)
    writer.tell(done=45, total=100, rate_per_s=1.2e6, quality=0.598, wait_s=0.1, eta_s=240.0)
    assert live.read(trial) is None  # it has ended
    change(trial.status, state="running")
    line = (
        "epoch 3/20 45 %  1.20 Msamples/s  HR@10 0.5980 (target 0.635)  wait 0.1 s  "
        "ETA 4m00s at most"
    )
    assert (
        f"trial 0  running  {line}\n" in invoke("show", "2026-0004", "--data-dir", data.root).stdout
    )
    record = json.loads(invoke("show", "2026-0004", "--json", "--data-dir", data.root).stdout)
    assert record["trials"][0]["progress"]["epoch"] == 3
    change(trial.progress, unix_s=1.0)
    assert "it may be gone" in invoke("show", "2026-0004", "--data-dir", data.root).stdout
    trial.progress.write_text("{")
    assert live.read(trial) is None


def test_the_report_shows_the_note_and_says_when_it_was_said(tmp_path: Path) -> None:
    run = build_run(tmp_path / "one", trials=1)
    change(run.run_file, note="as bought", tags=["lab"])
    page = write_report(run, benchmark=NCF).markdown.read_text()
    assert "| Note | as bought |" in page
    assert "| Tags | lab |" in page
    notes.change(run, note="<b>cooled</b>")
    files = write_report(run, benchmark=NCF)
    assert "said later: not covered by the sums of the run" in files.markdown.read_text()
    assert "<b>cooled" not in files.html.read_text()
    record = json.loads(files.results_json.read_text())
    assert record["notes"] == {"note": "<b>cooled</b>", "tags": ["lab"], "later": True}
    assert read(files.results_json).note == "<b>cooled</b>"


def test_a_path_names_a_run_of_this_data_directory_alone(data: DataDir, tmp_path: Path) -> None:
    stored(tmp_path / "other", [400.0])
    elsewhere = tmp_path / "other" / "runs" / "2026-0000-ml-1m"
    done = invoke("note", elsewhere, "x", "--data-dir", data.root)
    assert isinstance(done.exception, ConfigError)
    assert not (data.runs / "2026-0000-ml-1m" / "notes.json").exists()
    done = invoke("note", data.runs / "2026-0000-ml-1m", "x", "--data-dir", data.root)
    assert done.exit_code == 0


def test_a_note_is_one_line_of_a_list(data: DataDir) -> None:
    invoke("note", "2026-0000", "one\ntrial 9  running\x1b[31m", "--data-dir", data.root)
    for words in (["list"], ["show", "2026-0000"]):
        text = invoke(*words, "--data-dir", data.root).stdout
        assert "one\\ntrial 9  running\\x1b[31m" in text


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX systems")
def test_read_only_folders_of_a_run_go_with_it(data: DataDir) -> None:
    (data.runs / "2026-0000-ml-1m" / "trial_0").chmod(0o555)
    done = invoke("prune", "--keep", 4, "--yes", "--data-dir", data.root)
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in data.runs.iterdir() if p.name[0] == ".") == []


def test_a_run_that_may_not_be_read_is_listed_and_stays(
    data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path) -> bool:
        if path.parent.name == "2026-0000-ml-1m":
            raise PermissionError(13, "Permission denied", str(path))
        return os.path.isfile(path)

    monkeypatch.setattr(Path, "is_file", closed)
    record = json.loads(invoke("list", "--data-dir", data.root, "--json").stdout)
    assert (record[-1]["run_id"], record[-1]["state"]) == ("2026-0000-ml-1m", "cannot be read")
    done = invoke("prune", "--keep", 0, "--yes", "--data-dir", data.root)
    assert "stays: 2026-0000-ml-1m (cannot be read)" in done.stdout
    assert names(data) == ["2026-0000-ml-1m", "2026-0001-ml-1m"]
