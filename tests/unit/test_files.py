"""Files and folders appear whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from trainbench.errors import TrainbenchError
from trainbench.files import whole_file, whole_folder


def test_a_file_appears_when_the_body_ends(tmp_path: Path) -> None:
    file = tmp_path / "f"
    with whole_file(file) as part:
        part.write_text("new")
        assert part.parent == tmp_path
        assert part.name.startswith(".")
        assert not file.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert file.read_text() == "new"


def test_a_file_that_fails_leaves_the_old_one_and_no_part(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")
    with contextlib.suppress(TrainbenchError), whole_file(file) as part:
        part.write_text("half")
        raise TrainbenchError("stopped")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert file.read_text() == "old"


@pytest.mark.parametrize("durable", [True, False])
def test_a_folder_takes_the_place_of_the_old_one(durable: bool, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "c"
    for content in ("old", "new"):
        with whole_folder(folder, durable=durable) as part:
            (part / "deep").mkdir()
            (part / "deep" / content).write_text(content)
    assert [path.name for path in folder.parent.iterdir()] == ["c"]
    assert [path.name for path in (folder / "deep").iterdir()] == ["new"]


def test_a_folder_that_fails_leaves_the_old_one_and_no_part(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "old").write_text("")
    with contextlib.suppress(TrainbenchError), whole_folder(folder) as part:
        (part / "new").write_text("")
        raise TrainbenchError("stopped")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["c", "c/old"]


def test_what_a_killed_process_left_is_not_in_the_folder(tmp_path: Path) -> None:
    for name in (".unfinished-c", ".unfinished-old-c", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "remains").write_text("")
    with whole_folder(tmp_path / "c") as part:
        (part / "new").write_text("")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["new"]
