"""The public interface: what a notebook or a script gets from ``import trainbench``."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from run_dir import build_run

import trainbench
from trainbench.errors import ConfigError, DataIntegrityError, MachineError


def test_every_public_name_is_there_and_documented() -> None:
    for name in trainbench.__all__:
        found = getattr(trainbench, name)
        assert isinstance(found, str) or found.__doc__


def test_no_public_name_is_also_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(trainbench.__path__)}
    assert not modules & set(trainbench.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        trainbench.trian  # noqa: B018


def test_importing_the_package_imports_nothing_of_it() -> None:
    code = "import sys, trainbench; print([m for m in sys.modules if m.startswith('trainbench.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_types_are_shipped() -> None:
    assert (Path(trainbench.__file__).parent / "py.typed").exists()


def test_a_run_from_a_script_goes_from_download_to_report(toy: None, tmp_path: Path) -> None:
    run = trainbench.run(
        "toy", settings={"points": 100, "drop_caches": False}, data_dir=tmp_path / "data", seed=1
    )
    assert run.folder.parent == tmp_path / "data" / "runs"
    assert run.report.exists()
    assert run.results["run"]["seed"] == "1"
    again = trainbench.report(run.folder, out=tmp_path / "again")
    assert again.exit_code == run.exit_code
    (log,) = run.folder.glob("results/*/toy/result_0.txt")
    assert trainbench.check_log(log, level="1") == []
    assert trainbench.score(log.parent).converged == 1


def test_settings_are_checked_as_on_the_command_line(toy: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'points'"):
        trainbench.run("toy", settings={"point": 100}, data_dir=tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'toy'"):
        trainbench.run("toys", data_dir=tmp_path)


@pytest.mark.parametrize("wrong", [{"runs": 0}, {"seed": -1}])
def test_a_wrong_number_is_refused_before_anything_is_written(
    toy: None, tmp_path: Path, wrong: dict[str, int]
) -> None:
    with pytest.raises(ConfigError, match="wanted"):
        trainbench.run("toy", data_dir=tmp_path / "data", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "data").exists()


def test_a_file_that_cannot_be_used_is_an_error_with_its_name(toy: None, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    run = build_run(tmp_path / "run")
    for use in (
        lambda: trainbench.check_log(tmp_path / "absent"),
        lambda: trainbench.run("toy", data_dir=file),
        lambda: trainbench.report(run.root, out=file),
    ):
        with pytest.raises(MachineError, match=f"{tmp_path}/(absent|file)"):
            use()


def test_results_without_a_report_are_an_error_with_the_files_name(tmp_path: Path) -> None:
    run = trainbench.Run(tmp_path, tmp_path / "report.html", 0)
    with pytest.raises(DataIntegrityError, match=r"results\.json: .*write the report again"):
        _ = run.results


def test_one_run_to_compare_needs_no_list(tmp_path: Path) -> None:
    run, other = build_run(tmp_path / "run"), build_run(tmp_path / "other")
    found = trainbench.report(run.root, out=tmp_path / "out", compare=str(other.root))
    assert "Comparison" in found.report.read_text()


def test_a_report_of_a_copied_run(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    found = trainbench.report(run.root, out=tmp_path / "out")
    assert found.report == tmp_path / "out" / "report.html"
    assert found.report.exists()
    assert found.folder == run.root
