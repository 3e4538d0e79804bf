"""One step at a time in a data directory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import wait_until
from small_disk import files_no_longer_than

from trainbench.errors import DataIntegrityError, MachineError, TargetNotReachedError
from trainbench.trials import lock
from trainbench.trials.lock import claimed, locked, recorded, recorded_of
from trainbench.trials.paths import DataDir

HOLD = """
import sys, time
from pathlib import Path
from trainbench.trials.lock import locked
from trainbench.trials.paths import DataDir
with locked(DataDir(Path(sys.argv[1])), "train"):
    print("held", flush=True)
    time.sleep(60)
"""


def _holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_step_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    try:
        refused = pytest.raises(MachineError, match=f"in use by train, process {holder.pid}")
        with refused, locked(DataDir(tmp_path), "download"):
            pass
    finally:
        holder.kill()
        holder.wait()


def test_a_killed_step_leaves_no_lock(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(DataDir(tmp_path), "download"):
        pass


SET = """
import sys
from pathlib import Path
from trainbench.trials import trial_set
from trainbench.trials.lock import claimed, locked
from trainbench.trials.paths import DataDir
root, trial = Path(sys.argv[1]), sys.argv[3]
held = {
    "a run": lambda: locked(DataDir(root), "train"),
    "a trial of a shared set": lambda: claimed(root / ".lock", "trial 0", pause=lambda _: None),
}
with held[sys.argv[2]]():
    trial_set.follow([sys.executable, "-c", trial, str(root)], root / "stdout.log")
"""
TRIAL = """
import sys, time
from pathlib import Path
root = Path(sys.argv[1])
(root / "begun").touch()
while not (root / "may_end").exists():
    time.sleep(0.02)
(root / "status.json").write_text("the last of the old one")
"""


@pytest.mark.parametrize("what", ["a run", "a trial of a shared set"])
def test_a_trial_keeps_the_lock_of_its_killed_set_until_it_has_written_its_last(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken() -> contextlib.AbstractContextManager[object]:
        if what == "a run":
            return locked(DataDir(tmp_path), "train")
        return claimed(tmp_path / ".lock", "trial 0", pause=lambda _: None)

    words = [sys.executable, "-c", SET, str(tmp_path), what, TRIAL]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as set_of_trials:
        wait_until((tmp_path / "begun").exists, process=set_of_trials)
        set_of_trials.kill()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(lock, "ENDS_WITHIN_S", 0.1)
            with pytest.raises(MachineError, match=f"in (use|work) by .*{set_of_trials.pid}"):
                taken().__enter__()
    finally:
        (tmp_path / "may_end").touch()
    with taken():
        assert (tmp_path / "status.json").exists()


def test_a_lock_that_is_a_link_is_refused_and_its_target_stays(tmp_path: Path) -> None:
    target = tmp_path / "thesis.txt"
    target.write_text("precious")
    (tmp_path / ".lock").symlink_to(target)
    with pytest.raises(MachineError, match="cannot write here"), locked(DataDir(tmp_path), "train"):
        pass
    assert target.read_text() == "precious"


def test_the_lock_names_its_holder_alone(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.lock.write_text("preprocess, process 1, and more than a step writes there\n" * 2)
    with locked(data, "train"):
        assert data.lock.read_text().startswith(f"train, process {os.getpid()}, since ")
        assert data.lock.read_text().count("\n") == 1


def test_a_missing_data_volume_says_how_to_mount_it(tmp_path: Path) -> None:
    refused = pytest.raises(MachineError, match=r"popper run -f wf\.yml -c settings\.py")
    with refused, locked(DataDir(tmp_path / "absent"), "train"):
        pass


def test_the_exit_code_of_a_step_is_recorded(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    with locked(data, "download"):
        pass
    with pytest.raises(DataIntegrityError), locked(data, "preprocess"):
        raise DataIntegrityError("ratings.csv: line 3: found 'x'")
    lines = data.steps.read_text().splitlines()
    assert len(lines) == 2
    last = json.loads(lines[-1])
    assert (last["step"], last["exit_code"]) == ("preprocess", 3)
    assert "line 3" in str(last["message"])


def lines(data: DataDir) -> list[tuple[str, int, str]]:
    found = [json.loads(line) for line in data.steps.read_text().splitlines()]
    return [(line["step"], line["exit_code"], line["message"]) for line in found]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (TargetNotReachedError("best HR@10 0.4"), 4, "best HR@10 0.4"),
        (OSError(28, "No space left on device", "x.npy"), 6, "x.npy: No space left on device"),
        (ModuleNotFoundError("no", name="jinja2"), 6, "jinja2 is not installed: "),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(3), 3, ""),
        (SystemExit(None), 0, ""),
        (SystemExit("words"), 1, ""),
        (ZeroDivisionError("a defect"), 1, "ZeroDivisionError: a defect"),
    ],
)
def test_a_step_is_recorded_with_the_exit_code_of_its_process(
    error: BaseException, code: int, message: str, tmp_path: Path
) -> None:
    data = DataDir(tmp_path)
    with pytest.raises(type(error)), recorded(data, "train"):
        raise error
    ((step, found, said),) = lines(data)
    assert (step, found) == ("train", code)
    assert said.startswith(message)


def test_a_verdict_is_the_exit_code_of_its_step(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    with locked(data, "pipeline") as step:
        step.exit_code = 4
    assert lines(data) == [("pipeline", 4, "")]


def test_what_is_done_with_a_copied_run_is_recorded_nowhere(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    run = data.run("one")
    run.root.mkdir(parents=True)
    with recorded_of(run, "report"):
        pass
    assert not data.steps.exists()
    with recorded(data, "download"):
        pass
    with recorded_of(run, "stitch"):
        pass
    assert [step for step, *_ in lines(data)] == ["download", "stitch"]
    copied = DataDir(tmp_path).run("two")
    copied.root.mkdir(parents=True)
    with recorded_of(copied, "report"):
        pass
    assert not DataDir(tmp_path).steps.exists()


def test_a_step_that_cannot_be_recorded_ends_as_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataDir(tmp_path)
    with recorded(data, "download"):
        pass
    before = data.steps.read_bytes()
    for limit in (len(before), len(before) + 5):
        missed = pytest.raises(TargetNotReachedError)
        with files_no_longer_than(limit), missed, recorded(data, "train"):
            raise TargetNotReachedError("best HR@10 0.4")
        assert data.steps.read_bytes() == before
        with files_no_longer_than(limit), recorded(data, "train"):
            pass
        told = capsys.readouterr().err
        assert told.count("steps.jsonl: ") == 2
        assert told.count("not recorded: the end of train") == 2
