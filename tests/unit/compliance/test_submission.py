"""The v0.5 submission folder: built from a run, and verified rule by rule."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import CHECKOUT
from run_dir import SYSTEM_NAME, build_run, change, seal
from v05_log import lines, many, run, without, write_results

from trainbench.compliance.outcome import outcome
from trainbench.compliance.score import score
from trainbench.compliance.submission.build import Submitter, build, entry
from trainbench.compliance.submission.verify import ENTRY_KEYS, NODE_KEYS, verify
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import ConfigError, DataIntegrityError, NotCompliantError
from trainbench.trials.paths import RunDir

SYSTEM = {
    "cpu": {"model": "Xeon 8180", "sockets": 2, "cores": 56, "threads": 112},
    "memory_bytes": 384 * 2**30,
    "gpus": [{"name": "A100", "memory_bytes": 40 * 2**30, "driver": "550.1"}] * 2,
    "cuda": "12.4",
    "os": "Debian GNU/Linux 12",
    "packages": {"tensorflow": "2.19.0", "trainbench": "0.1.0", "keras": None},
    "git": {"revision": "abc123", "dirty": False},
}
SUBMITTER = Submitter("An Org", "someone@example.org")


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_run(root: Path, *, runs: int = 100, converged: int = 60) -> RunDir:
    found = RunDir(root)
    trial = found.trial(0)
    trial.root.mkdir(parents=True)
    trial.system.write_text(json.dumps(SYSTEM))
    write_results(found.results("box"), many(runs, converged=converged))
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submission")
    source = make_run(folder / "run")
    return build(source, folder / "out", system="box", submitter=SUBMITTER, code=folder)


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A submission folder to be broken, with one of its logs."""
    others = shutil.ignore_patterns("result_[1-9]*.txt")
    return Path(shutil.copytree(built, tmp_path / "submission", ignore=others))


def found(root: Path) -> list[str]:
    return [finding.rule for finding in verify(root).findings]


def test_built_folder_is_verified_and_scored(built: Path) -> None:
    verification = verify(built)
    assert verification.findings == ()
    assert verification.exit_code == 0
    expected = score(built / "results" / "box" / "ncf").mean_s
    assert verification.results == {("box", "ncf"): pytest.approx(expected)}
    assert verification.to_text() == (
        f"{built}: box ncf: {expected:.2f} s\n"
        f"{built}: chain: 100 of 100 files are as their SHA-256 sums say\n"
        f"{built}: 0 findings\n"
    )


def test_layout_is_the_v05_one(built: Path) -> None:
    for name in (
        "submission.json",
        "code/ncf/README.md",
        "code/ncf/preproc_dataset.sh",
        "code/ncf/setup_box.sh",
        "code/ncf/run_and_time_box.sh",
        "results/box/entry.json",
        "results/box/ncf/result_99.txt",
    ):
        assert (built / name).is_file(), name


def test_code_is_the_checkouts_without_its_litter(tmp_path: Path) -> None:
    source = make_run(tmp_path / "run", runs=1, converged=1)
    out = build(source, tmp_path / "out", system="box", submitter=SUBMITTER, code=CHECKOUT)
    code = out / "code" / "ncf"
    module = "src/trainbench/compliance/submission/build.py"
    assert (code / module).read_bytes() == (CHECKOUT / module).read_bytes()
    assert (code / "pyproject.toml").is_file()
    assert not list(code.rglob("__pycache__"))
    assert not (code / "tests").exists()


def test_entry_is_filled_from_the_system_record() -> None:
    meta = entry(SYSTEM, SUBMITTER)
    assert set(meta) == set(ENTRY_KEYS)
    assert set(meta["nodes"][0]) == set(NODE_KEYS)
    assert (meta["hardware"], meta["framework"]) == ("2x A100", "TensorFlow 2.19.0")
    assert meta["nodes"][0]["sys_mem_size"] == "384 GiB"
    assert "CUDA 12.4" in meta["libraries"]


def test_entry_of_an_unknown_machine_has_all_keys() -> None:
    meta = entry({}, SUBMITTER)
    assert set(meta) == set(ENTRY_KEYS)
    assert meta["nodes"][0]["cpu"] == "N/A"


def _edit(path: str, change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        content = json.loads((root / path).read_text())
        change(content)
        (root / path).write_text(json.dumps(content))

    return edit


def _log(name: str, text: str) -> Callable[[Path], None]:
    return lambda root: (root / "results/box/ncf" / name).write_text(text)  # type: ignore[return-value]


ENTRY = "results/box/entry.json"

BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no results": (lambda r: shutil.rmtree(r / "results"), "submission/exists/results"),
    "no code": (lambda r: shutil.rmtree(r / "code"), "submission/exists/code"),
    "no submission.json": (lambda r: (r / "submission.json").unlink(), "submission/json"),
    "submission.json is a list": (
        lambda r: (r / "submission.json").write_text("[]"),
        "submission/json",
    ),
    "extra key": (
        _edit("submission.json", lambda c: c.update(name="x")),
        "submission/keys/name",
    ),
    "missing key": (_edit("submission.json", lambda c: c.pop("org")), "submission/keys/org"),
    "code of another benchmark": (
        lambda r: (r / "code" / "chess").mkdir(),
        "submission/benchmark",
    ),
    "no README": (
        lambda r: (r / "code/ncf/README.md").unlink(),
        "submission/exists/README.md",
    ),
    "no preprocessing": (
        lambda r: (r / "code/ncf/preproc_dataset.sh").unlink(),
        "submission/exists/preproc_dataset.sh",
    ),
    "no setup": (
        lambda r: (r / "code/ncf/setup_box.sh").unlink(),
        "submission/exists/setup_box.sh",
    ),
    "no run script": (
        lambda r: (r / "code/ncf/run_and_time_box.sh").unlink(),
        "submission/exists/run_and_time_box.sh",
    ),
    "broken entry.json": (lambda r: (r / ENTRY).write_text("{"), "submission/json"),
    "power in the entry": (_edit(ENTRY, lambda c: c.update(power=1)), "submission/keys/power"),
    "no hardware": (_edit(ENTRY, lambda c: c.pop("hardware")), "submission/keys/hardware"),
    "extra node key": (
        _edit(ENTRY, lambda c: c["nodes"][0].update(colour="red")),  # type: ignore[index]
        "submission/keys/colour",
    ),
    "nodes no list": (_edit(ENTRY, lambda c: c.update(nodes=3)), "submission/nodes"),
    "unknown division": (
        _edit(ENTRY, lambda c: c.update(division=["closed"])),
        "submission/division",
    ),
    "level 2 in the open division": (
        _edit(ENTRY, lambda c: c.update(division="open")),
        "submission/level",
    ),
    "results of another benchmark": (
        lambda r: (r / "results/box/chess").mkdir(),
        "submission/benchmark",
    ),
    "missing log": (lambda r: None, "submission/exists/result_7.txt"),
    "level 1 in the closed division": (
        _log("result_0.txt", "".join(lines(without(tags.RUN_CLEAR_CACHES)(run())))),
        "level2/at-least-one/run_clear_caches",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_folder_is_found(name: str, copy: Path) -> None:
    change, rule = BREAKS[name]
    change(copy)
    assert rule in found(copy)
    assert verify(copy).exit_code == 1


def test_a_log_that_was_changed_after_building_is_found(copy: Path) -> None:
    log = copy / "results/box/ncf/result_0.txt"
    log.write_text(log.read_text().replace("run_stop", "run_stop "))
    (changed,) = (f for f in verify(copy).findings if f.rule == "submission/chain/sha256")
    assert changed.found.startswith("results/box/ncf/result_0.txt: sha256 ")


def test_a_log_that_was_added_after_building_is_found(built: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(built, tmp_path / "copy") / "results/box/ncf"
    shutil.copy(folder / "result_7.txt", folder / "result_100.txt")
    assert "submission/chain/unlisted" in found(tmp_path / "copy")


def test_a_folder_without_sums_is_not_checked_and_that_is_said(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    (copy / "sha256sums.txt").unlink()
    assert verify(copy).findings == ()
    assert f"{copy}: no chain: not checked\n" in verify(copy).to_text()


def test_a_run_whose_log_is_not_its_trials_is_not_built(tmp_path: Path) -> None:
    source = build_run(tmp_path / "run", trials=1)
    log = source.results(SYSTEM_NAME) / "result_0.txt"
    log.write_text(log.read_text().replace("0.2321", "0.2421"))
    source.chain.unlink()
    with pytest.raises(NotCompliantError, match=r"result_0\.txt: line \d+: records/stitched"):
        build(source, tmp_path / "out", system=SYSTEM_NAME, submitter=SUBMITTER, code=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_run_whose_records_were_changed_is_not_built(tmp_path: Path) -> None:
    source = seal(build_run(tmp_path / "run", trials=1))
    change(source.trial(0).status, degraded=[])
    with pytest.raises(NotCompliantError, match=r"trial_0/status\.json: chain/sha256"):
        build(source, tmp_path / "out", system=SYSTEM_NAME, submitter=SUBMITTER, code=tmp_path)


def test_too_few_converged_runs_are_found(tmp_path: Path) -> None:
    source = make_run(tmp_path / "run", converged=49)
    out = build(source, tmp_path / "out", system="box", submitter=SUBMITTER, code=tmp_path)
    (finding,) = verify(out).findings
    assert finding.rule == "submission/converged"
    assert "fewer than 50 runs converged" in finding.found
    assert verify(out).results == {("box", "ncf"): None}


def of_resnet(root: Path, *, runs: int, converged: int) -> Path:
    """A submission folder without sums whose logs are of ResNet, of level 1."""
    for name in ("README.md", "preproc_dataset.sh", "setup_box.sh", "run_and_time_box.sh"):
        write_text(root / "code" / "resnet" / name, "x")
    write_text(root / "submission.json", json.dumps({"org": "o", "poc_email": "e"}))
    meta = entry(SYSTEM, Submitter("o", "e", division="open"))
    write_text(root / "results" / "box" / "entry.json", json.dumps(meta))
    logs = [[replace(e, benchmark="resnet") for e in log] for log in many(runs, converged=0)]
    logs[:converged] = [
        [replace(e, benchmark="resnet") for e in log]
        for log in many(converged, converged=converged)
    ]
    write_results(root / "results" / "box" / "resnet", logs)
    return root


@pytest.mark.parametrize(("runs", "converged", "findings"), [(5, 5, 0), (5, 4, 0), (7, 5, 0)])
def test_the_time_is_the_one_that_the_v05_tool_prints(
    runs: int, converged: int, findings: int, tmp_path: Path
) -> None:
    """It looks at result_0 to result_4 only, and drops the slowest, converged or not."""
    verification = verify(of_resnet(tmp_path, runs=runs, converged=converged))
    times = [outcome(log).time_s or 0 for log in many(converged, converged=converged)]
    times += [9_999_999_999.99] * (5 - converged)
    assert verification.results == {
        ("box", "resnet"): pytest.approx(statistics.fmean(sorted(times)[1:-1]))
    }
    assert len(verification.findings) == findings


def test_infinite_times_in_a_mean_are_shown_and_found(tmp_path: Path) -> None:
    verification = verify(of_resnet(tmp_path, runs=5, converged=3))
    assert [finding.rule for finding in verification.findings] == ["submission/converged"]
    assert "box resnet: 3333333446.60 s" in verification.to_text()


def test_logs_are_read_as_by_the_checker_that_the_tool_comes_with(copy: Path) -> None:
    """Text before the token hides a line from that of 2018-11, and not from that of 2019-04."""
    log = copy / "results/box/ncf/result_0.txt"
    log.write_text("".join(f"INFO {line}\n" for line in log.read_text().splitlines()))

    def of_log(checker: dict[str, str]) -> list[str]:
        found = verify(copy, **checker).findings
        return [f.rule for f in found if f.rule.startswith("level")]

    assert "level1/exactly-one/run_start" in of_log({})
    assert of_log({"checker": "2019-04"}) == []


def test_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    source = make_run(tmp_path / "run", runs=1, converged=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ConfigError, match="not empty"):
        build(source, tmp_path / "out", system="box", submitter=SUBMITTER, code=CHECKOUT)


def test_run_that_is_not_stitched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataIntegrityError, match="stitch"):
        build(RunDir(tmp_path), tmp_path / "out", system="x", submitter=SUBMITTER, code=CHECKOUT)
    assert not (tmp_path / "out").exists()


def test_unknown_division_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="division"):
        build(
            RunDir(tmp_path),
            tmp_path / "out",
            system="x",
            submitter=Submitter("o", "e", division="half"),
            code=CHECKOUT,
        )


def test_empty_folder_is_described_not_a_crash(tmp_path: Path) -> None:
    assert sorted(found(tmp_path)) == [
        "submission/exists/code",
        "submission/exists/results",
        "submission/json",
    ]
