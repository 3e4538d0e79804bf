"""``trainbench init``: a workflow in a folder of its own, whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from checkout import CHECKOUT
from every_command import contents

from trainbench.cli import workflow
from trainbench.errors import ConfigError, MachineError

OF_DEVELOPERS = {"scripts/test.sh"}
"""Named in a comment, and of no use to a workflow."""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init") / "made" / "workflow"
    workflow.write(folder)
    return folder


def test_everything_that_a_step_or_a_script_opens_is_there(fresh: Path) -> None:
    """Each image's folder, and every file of the checkout that is named in what was written."""
    for name in re.findall(r"uses: (\S+)", (fresh / "wf.yml").read_text()):
        assert (fresh / name / "Dockerfile").is_file()
        assert (fresh / name / "requirements.txt").is_file()
    texts = [path.read_text() for path in (*fresh.glob("*.*"), *fresh.glob("scripts/*.*"))]
    for name in re.findall(r"(?<![\w/])scripts/[\w-]+\.\w+", "\n".join(texts)):
        assert (fresh / name).exists() or name in OF_DEVELOPERS, name


def test_the_code_in_it_runs(fresh: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainbench", "--version"],
        cwd=fresh,
        env={**os.environ, "PYTHONPATH": str(fresh / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("trainbench, version")
    assert (fresh / "src/trainbench/py.typed").is_file()


def test_a_container_can_read_it_and_a_shell_run_it(fresh: Path) -> None:
    modes = {path: path.stat().st_mode & 0o777 for path in (fresh, *fresh.rglob("*"))}
    assert set(modes.values()) == {0o644, 0o755}
    assert modes[fresh / "scripts/run.sh"] == modes[fresh / "install_cuda_docker.sh"] == 0o755


def test_an_installed_package_carries_it(tmp_path: Path) -> None:
    """The wheel as pip builds it; what it holds is written as from the checkout."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
         "-w", tmp_path, CHECKOUT],
        check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("trainbench_ncf-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site-packages")
    installed = tmp_path / "site-packages"
    done = subprocess.run(
        [sys.executable, "-m", "trainbench", "init", "made"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    workflow.write(tmp_path / "wanted")
    assert contents(tmp_path / "made") == contents(tmp_path / "wanted")


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"not empty; .* --force"):
        workflow.write(tmp_path)
    with pytest.raises(ConfigError, match="a file; name a folder"):
        workflow.write(tmp_path / "notes.txt")
    assert contents(tmp_path) == before


def test_an_empty_folder_and_what_a_killed_init_left_are_filled(
    tmp_path: Path, fresh: Path
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / ".unfinished-workflow" / "src").mkdir(parents=True)
    number = (tmp_path / "here").stat().st_ino
    workflow.write(tmp_path / "here")
    assert contents(tmp_path / "here") == contents(fresh)
    assert (tmp_path / "here").stat().st_ino == number, "a shell may stand in it"


def test_force_replaces_the_workflow_and_keeps_all_else(tmp_path: Path, fresh: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(fresh, folder)
    own = ("data/runs/1", "src/mine/a.py", "scripts/mine.sh", "containers/mine/Dockerfile", "x")
    for name in own:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    (folder / "src/trainbench/of_an_older_version.py").touch()
    (folder / "wf.yml").write_text("old")
    workflow.write(folder, force=True)
    left = contents(folder)
    assert all((folder / name).read_text() == "mine" for name in own)
    added = {str(parent) for name in own for parent in (Path(name), *Path(name).parents)}
    assert {k: v for k, v in left.items() if k not in added} == {
        k: v for k, v in contents(fresh).items() if k not in added
    }


@pytest.mark.parametrize("obstacle", ["scripts", "wf.yml/", "src@"])
def test_what_is_in_the_way_is_named_and_nothing_is_changed(tmp_path: Path, obstacle: str) -> None:
    name = obstacle.rstrip("/@")
    if obstacle.endswith("/"):
        (tmp_path / name).mkdir()
    elif obstacle.endswith("@"):
        (tmp_path / name).symlink_to("elsewhere")
    else:
        (tmp_path / name).touch()
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=f"{name}: .*in the way"):
        workflow.write(tmp_path, force=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("there", [True, False])
def test_a_disk_that_breaks_leaves_the_folder_as_it_was(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new"
    if there:
        folder.mkdir()
    copytree = shutil.copytree

    def broken(source: Path, target: Path, *rest: object, **options: object) -> object:
        if Path(source).name == "trainbench":
            raise OSError(28, "No space left on device", str(target))
        return copytree(source, target, *rest, **options)

    monkeypatch.setattr(workflow.shutil, "copytree", broken)
    with pytest.raises(MachineError, match="No space left"):
        workflow.write(folder)
    assert contents(tmp_path) == ({"new": ""} if there else {})
