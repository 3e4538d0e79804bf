"""The logger: silent outside its context, whole lines inside, its caller's file and line."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from checkout import CHECKOUT
from mlperf_compliance import mlperf_log
from mlperf_compliance import tags as package_tags

from trainbench.compliance.emit import emit, enabled, logging_to
from trainbench.compliance.event import Event
from trainbench.compliance.parse import read_log
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import MachineError

HERE = Path(__file__).parent


def written(path: Path) -> list[Event]:
    found = read_log(path)
    assert found.findings == ()
    return list(found.events)


def test_tags_are_the_32_of_ncf() -> None:
    assert set(package_tags.NCF_TAGS) == tags.NCF_TAGS
    assert len(tags.NCF_TAGS) == 32
    constants = {name: value for name, value in vars(tags).items() if isinstance(value, str)}
    named = {name: value for name, value in constants.items() if value in tags.NCF_TAGS}
    assert len(named) == 32
    assert all(value == getattr(tags, name) for name, value in named.items())


def test_tags_are_alphabetical_in_their_sections() -> None:
    sections = (CHECKOUT / "src/trainbench/compliance/tags/ncf.py").read_text().split("\n# ")
    for section in sections[1:-1]:
        names = [line.split(" = ")[0] for line in section.splitlines()[1:] if ' = "' in line]
        assert names == sorted(names)


def test_emit_does_nothing_outside_the_context(capsys: pytest.CaptureFixture[str]) -> None:
    assert not enabled()
    assert emit("no such key", object()) is None
    assert capsys.readouterr() == ("", "")


def test_every_line_goes_to_the_file_and_none_to_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "new" / "raw.log", root_dir=HERE):
        emit(tags.RUN_START)
        emit(tags.EVAL_ACCURACY, {"epoch": 0, "value": 0.5})
    assert capsys.readouterr() == ("", "")
    text = (tmp_path / "new" / "raw.log").read_text()
    assert [line.split(" ")[0] for line in text.splitlines()] == ["NCF_RAW_:::MLPv0.5.0"] * 2


def test_lines_can_be_echoed(tmp_path: Path) -> None:
    echo = io.StringIO()
    with logging_to(tmp_path / "raw.log", root_dir=HERE, raw_prefix="", echo=echo):
        emit(tags.TRAIN_LOOP)
    assert echo.getvalue() == (tmp_path / "raw.log").read_text()


def test_call_site_is_the_callers_without_the_root(tmp_path: Path) -> None:
    with logging_to(tmp_path / "raw.log", root_dir=HERE.parent):
        emit(tags.RUN_START)
    (event,) = written(tmp_path / "raw.log")
    assert event.file == f"{HERE.name}/{Path(__file__).name}"
    assert "emit(tags.RUN_START)" in Path(__file__).read_text().splitlines()[event.line - 1]


def test_folder_with_spaces_and_regex_characters_stays_parsable(tmp_path: Path) -> None:
    """The v0.5 parser refuses a space or a colon in the file name, the package takes the root for
    a regular expression.
    """
    folder = tmp_path / "my (project) c++: 1"
    folder.mkdir()
    module = folder / "caller.py"
    module.write_text(
        "from trainbench.compliance.emit import emit\n"
        "from trainbench.compliance.tags import ncf as tags\n"
        "def call(): emit(tags.RUN_START)\n"
    )
    scope: dict[str, object] = {}
    exec(compile(module.read_text(), str(module), "exec"), scope)
    for root in (folder, HERE):
        with logging_to(tmp_path / f"{root.name}.log", root_dir=root):
            scope["call"]()  # type: ignore[operator]
    (trimmed,) = written(tmp_path / f"{folder.name}.log")
    assert trimmed.file == "caller.py"
    (whole,) = written(tmp_path / f"{HERE.name}.log")
    assert whole.file.endswith("my_(project)_c++__1/caller.py")


@pytest.mark.parametrize(
    ("value", "logged"),
    [
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([256, 64]), [256, 64]),
        ((256, 64), [256, 64]),
        ({"epoch": np.int32(1), "value": np.float64(0.635)}, {"epoch": 1, "value": 0.635}),
        (None, None),
        ("text\nwith a line end", "text\nwith a line end"),
    ],
)
def test_numpy_values_are_accepted(value: object, logged: object, tmp_path: Path) -> None:
    with logging_to(tmp_path / "raw.log", root_dir=HERE):
        emit(tags.INPUT_SIZE, value)
    (event,) = written(tmp_path / "raw.log")
    assert event.value == logged


@pytest.mark.parametrize("value", [float("nan"), np.float32("inf"), object(), {1, 2}])
def test_value_that_is_no_json_is_refused(value: object, tmp_path: Path) -> None:
    with logging_to(tmp_path / "raw.log", root_dir=HERE), pytest.raises(ValueError, match=r"."):
        emit(tags.INPUT_SIZE, value)


def test_unknown_key_is_refused(tmp_path: Path) -> None:
    with (
        logging_to(tmp_path / "raw.log", root_dir=HERE),
        pytest.raises(ValueError, match="key"),
    ):
        emit("run_begin")


def test_seed_has_a_line_that_checkers_ignore(tmp_path: Path) -> None:
    with logging_to(tmp_path / "raw.log", root_dir=HERE):
        emit(tags.SEED, 2**63)
    (event,) = written(tmp_path / "raw.log")
    assert (event.key, event.value) == ("seed", 2**63)
    assert tags.SEED not in package_tags.NCF_TAGS


def test_deferred_value_is_announced_under_its_identifier(tmp_path: Path) -> None:
    with logging_to(tmp_path / "raw.log", root_dir=HERE):
        identifier = emit(tags.EVAL_HP_NUM_USERS, deferred=True)
        with pytest.raises(ValueError, match="deferred"):
            emit(tags.EVAL_HP_NUM_USERS, 1, deferred=True)
    (event,) = written(tmp_path / "raw.log")
    assert event.value == f"DEFERRED: {identifier}"


def test_times_are_unix_seconds_with_nine_digits_in_order(tmp_path: Path) -> None:
    with logging_to(tmp_path / "raw.log", root_dir=HERE):
        for _ in range(20):
            emit(tags.INPUT_ORDER)
    events = written(tmp_path / "raw.log")
    assert all(len(event.timestamp.split(".")[1]) == 9 for event in events)
    assert [e.time for e in events] == sorted(e.time for e in events)


def test_contexts_nest_and_leave_the_package_as_it_was(tmp_path: Path) -> None:
    before = (mlperf_log.LOGGER.handlers, mlperf_log.ROOT_DIR_NCF, mlperf_log.NCF_TAG_SET)
    with logging_to(tmp_path / "outer", root_dir=HERE):
        emit(tags.RUN_START)
        with logging_to(tmp_path / "inner", root_dir=HERE):
            emit(tags.INPUT_ORDER)
        emit(tags.RUN_STOP, {"success": True})
    assert not enabled()
    assert [event.key for event in written(tmp_path / "inner")] == ["input_order"]
    assert [event.key for event in written(tmp_path / "outer")] == ["run_start", "run_stop"]
    after = (mlperf_log.LOGGER.handlers, mlperf_log.ROOT_DIR_NCF, mlperf_log.NCF_TAG_SET)
    assert after == before


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    def write() -> None:
        for _ in range(25):
            emit(tags.INPUT_ORDER, "x" * 500)

    with logging_to(tmp_path / "raw.log", root_dir=HERE):
        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [event.value for event in written(tmp_path / "raw.log")] == ["x" * 500] * 100


WRITER = """
import sys
from pathlib import Path
from trainbench.compliance.emit import emit, logging_to
from trainbench.compliance.tags import ncf as tags
with logging_to(Path(sys.argv[1]), root_dir=Path("/")):
    for number in range(100):
        emit(tags.INPUT_SIZE, {"process": sys.argv[2], "number": number, "pad": "x" * 3000})
"""


def test_processes_write_whole_lines_even_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "raw.log"
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)])
        for number in range(3)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    found = {(e.value["process"], e.value["number"]) for e in written(path)}
    assert found == {(str(process), number) for process in range(3) for number in range(100)}


def test_environments_compliance_file_does_not_catch_the_lines(tmp_path: Path) -> None:
    """The package opens COMPLIANCE_FILE when it is imported."""
    path = tmp_path / "raw.log"
    subprocess.run(
        [sys.executable, "-c", WRITER, str(path), "0"],
        env={"COMPLIANCE_FILE": str(tmp_path / "other.log")},
        check=True,
    )
    assert len(written(path)) == 100
    assert (tmp_path / "other.log").read_text() == ""


def test_missing_package_is_named_when_logging_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with (
        pytest.raises(MachineError, match=r"pip install mlperf_compliance==0\.0\.10"),
        logging_to(tmp_path / "raw.log", root_dir=HERE),
    ):
        pass


@pytest.mark.parametrize("version", ["0.0.5", "0.0"])
def test_old_package_is_named(
    version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    with (
        pytest.raises(MachineError, match=rf"version {version}, wanted 0.0.6 or later"),
        logging_to(tmp_path / "raw.log", root_dir=HERE),
    ):
        pass


def test_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineError, match="cannot be opened"),
        logging_to(tmp_path, root_dir=HERE),
    ):
        pass


def test_what_is_logged_is_what_json_says(tmp_path: Path) -> None:
    with logging_to(tmp_path / "raw.log", root_dir=HERE):
        emit(tags.OPT_LR, np.float32(0.1))
    (event,) = written(tmp_path / "raw.log")
    assert json.dumps(event.value) == "0.10000000149011612"
