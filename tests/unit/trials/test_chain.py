"""SHA-256 sums over a run: what is changed, missing or added afterwards is found."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from run_dir import SYSTEM_NAME, build_run, change, seal

from trainbench.compliance.stitch import stitch_run
from trainbench.files import sha256_of
from trainbench.trials import chain
from trainbench.trials.paths import RunDir

LOG = f"results/{SYSTEM_NAME}/ncf/result_0.txt"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run of one trial with its sums."""
    run = build_run(tmp_path / "run", trials=1)
    run.trial(0).model.mkdir()
    (run.trial(0).model / "weights.npz").write_bytes(b"weights")
    return seal(run)


def found(run: RunDir) -> set[tuple[str, str]]:
    return {(broken.rule, broken.file) for broken in chain.of_run(run).breaks}


def test_a_run_is_as_its_sums_say(run: RunDir) -> None:
    sums = chain.of_run(run)
    assert sums.breaks == ()
    files = {path.relative_to(run.root).as_posix() for path in run.root.rglob("*")
             if path.is_file() and path != run.chain}  # fmt: skip
    assert sums.equal == files
    assert (
        sums.sentence == f"chain: {len(files)} of {len(files)} files are as their SHA-256 sums say"
    )


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum here")
def test_coreutils_reads_the_sums(run: RunDir) -> None:
    for path in (run.chain, run.trial(0).chain):
        command = ["sha256sum", "--strict", "--quiet", "-c", path.name]
        assert subprocess.run(command, cwd=path.parent, check=False).returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        "run.json", "config.json", "manifest.json", "cache.json", "trial_0/compliance_raw.log",
        "trial_0/clock.jsonl", "trial_0/epochs.jsonl", "trial_0/phases.jsonl",
        "trial_0/status.json", "trial_0/system.json", "trial_0/cache_drop.json",
        "trial_0/model/weights.npz", "trial_0/sha256sums.txt", LOG, "results/findings.json",
    ],
)  # fmt: skip
def test_a_changed_byte_is_found_with_both_sums(run: RunDir, name: str) -> None:
    path = run.root / name
    before = sha256_of(path)
    path.write_bytes(path.read_bytes() + b"\n")
    (broken,) = (b for b in chain.of_run(run).breaks if b.rule == "chain/sha256")
    assert broken.file == name
    assert broken.wanted == f"sha256 {before}"
    assert broken.found == f"sha256 {sha256_of(path)}"


@pytest.mark.parametrize("name", ["trial_0/epochs.jsonl", "run.json", LOG])
def test_a_missing_file_is_found(run: RunDir, name: str) -> None:
    (run.root / name).unlink()
    assert ("chain/missing", name) in found(run)


def test_a_trial_that_was_taken_away_is_found(run: RunDir) -> None:
    shutil.rmtree(run.trial(0).root)
    assert ("chain/missing", "trial_0/sha256sums.txt") in found(run)


@pytest.mark.parametrize("name", ["trial_0/sha256sums.txt", "results/sha256sums.txt"])
def test_a_list_that_was_taken_away_is_found(run: RunDir, name: str) -> None:
    (run.root / name).unlink()
    assert ("chain/missing", name) in found(run)


def test_weights_may_be_left_out_of_a_copy_and_that_is_said(run: RunDir) -> None:
    shutil.rmtree(run.trial(0).model)
    sums = chain.of_run(run)
    assert sums.breaks == ()
    assert "not there: trial_0/model/weights.npz: not checked" in sums.sentence


def test_a_raw_log_that_comes_later_is_found_and_a_proof_or_a_note_is_not(run: RunDir) -> None:
    for name in ("proof.json", "notes.txt", "compliance_generator.log"):
        (run.trial(0).root / name).write_text("{}")
    assert found(run) == {("chain/unlisted", "trial_0/compliance_generator.log")}


@pytest.mark.parametrize(
    "line",
    ["", "nonsense", "0" * 63 + "  status.json", "0" * 64 + "  /etc/passwd",
     "0" * 64 + "  ../../outside", "0" * 64 + "  ..", "0" * 64 + " status.json", "\x00" * 80],
)  # fmt: skip
def test_a_line_that_sha256sum_would_not_write_is_found(run: RunDir, line: str) -> None:
    path = run.trial(0).chain
    path.write_text(f"{path.read_text()}{line}\n")
    assert ("chain/unreadable", "trial_0/sha256sums.txt") in found(run)


def test_a_list_that_cannot_be_read_is_found(run: RunDir) -> None:
    run.trial(0).chain.write_bytes(b"\xff" * 100)
    assert ("chain/unreadable", "trial_0/sha256sums.txt") in found(run)


def test_a_run_of_an_earlier_version_has_no_chain_and_that_is_said(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", trials=1)
    run.chain.unlink()
    assert chain.of_run(run) == chain.Chain(without=("trial_0", "results"))
    assert chain.of_run(run).sentence == "no chain: not checked"
    stitch_run(run, system=SYSTEM_NAME)
    assert chain.of_run(run).breaks == ()
    assert "no chain in trial_0: not checked" in chain.of_run(run).sentence


def test_logs_alone_need_no_chain_and_are_compared_with_one_that_is_there(run: RunDir) -> None:
    for path in [*run.root.glob("*.json"), *run.root.glob("trial_*"), run.findings]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert chain.of_run(run).breaks == ()
    assert chain.of_run(run).equal == {LOG}
    (run.root / LOG).write_text("")
    assert found(run) == {("chain/sha256", LOG)}
    run.chain.unlink()
    assert chain.of_run(run).sentence == "no chain: not checked"


def test_a_trial_that_is_still_running_has_no_list_yet(run: RunDir) -> None:
    run.trial(0).chain.unlink()
    run.chain.unlink()
    change(run.trial(0).status, state="running")
    assert ("chain/missing", "trial_0/sha256sums.txt") not in found(run)


def test_a_copy_elsewhere_and_a_relative_path_give_the_same(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run.root, "copy")
    os.symlink("copy", "link")
    for name in ("copy", "link", "run/../copy", "./copy"):
        assert chain.of_run(RunDir(Path(name))) == chain.of_run(run)


def test_a_stitched_log_that_is_cut_off_before_its_sums_is_not_believed(run: RunDir) -> None:
    run.chain.unlink()
    assert found(run) == {("chain/missing", "results/sha256sums.txt")}
    stitch_run(run, system=SYSTEM_NAME)
    assert found(run) == set()


def test_stitching_says_what_was_changed_before(run: RunDir) -> None:
    change(run.trial(0).status, degraded=[])
    change(run.manifest, published=False)
    result = stitch_run(run, system=SYSTEM_NAME)
    (in_trial,) = result.trials[0].stitch
    assert in_trial.rule == "stitch/chain/sha256"
    assert in_trial.found.startswith("trial_0/status.json: sha256 ")
    assert any(f.found.startswith("manifest.json: sha256 ") for f in result.set_findings)
    assert ("chain/sha256", "manifest.json") in found(run)
