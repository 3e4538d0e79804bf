"""Trials of one set run by processes that share it: who may run which, and locks that hold not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from run_dir import change

from trainbench.benchmark import find, load
from trainbench.cli.pipeline import train
from trainbench.errors import (
    ConfigError,
    DataIntegrityError,
    MachineError,
    TargetNotReachedError,
    TrainbenchError,
)
from trainbench.trials import lock, trial_set
from trainbench.trials.lock import Claim, claimed, locked, shared
from trainbench.trials.paths import DataDir, RunDir
from trainbench.trials.shared_set import missing, ranges, require_complete, run_one
from trainbench.trials.spec import SetSpec
from trainbench.trials.trial_set import run_set, trial_seed

MakeSpec = Callable[..., SetSpec]


@pytest.fixture(autouse=True)
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SETTLE_S", 0.0), ("STILL_S", 0.6), ("BEAT_S", 0.2)):
        monkeypatch.setattr(lock, name, seconds)


@pytest.fixture
def make_spec(toy: None, tmp_path: Path) -> MakeSpec:
    benchmark = find("toy")

    def make(trial: int, *settings: str, of: int = 2, **given: object) -> SetSpec:
        config = benchmark.with_settings(benchmark.preset("easy"), ["drop_caches=false", *settings])
        data = DataDir(tmp_path)
        for step in (benchmark.download, benchmark.prepare):
            load(step)(config, data, *([find_source()] if step == benchmark.download else []))
        spec = SetSpec(
            benchmark, config, data, runs=of, trial=trial, into="set", git={"revision": "a" * 40}
        )
        return replace(spec, **given)  # type: ignore[arg-type]

    return make


def find_source() -> object:
    from trainbench.benchmark import PUBLISHER

    return PUBLISHER


def seeds(run: RunDir) -> list[str]:
    return [json.loads(trial.status.read_text())["seed"] for trial in run.trials]


def test_trials_by_number_are_the_trials_of_one_set_with_its_seed(make_spec: MakeSpec) -> None:
    first = run_one(make_spec(1, seed=7))
    assert missing(first) == {0: "not started"}
    with pytest.raises(DataIntegrityError, match=r"1 of 2 trials missing: 0 not started"):
        require_complete(first)
    second = run_one(make_spec(0))
    assert second.root == first.root
    assert seeds(second) == [str(trial_seed(7, 0)), str(trial_seed(7, 1))]
    require_complete(second)
    with pytest.raises(ConfigError, match=r"trial 1 of .* is complete"):
        run_one(make_spec(1))


def test_a_failed_trial_is_run_again_by_its_number_and_with_its_seed(make_spec: MakeSpec) -> None:
    run = run_one(make_spec(0))
    before = seeds(run)
    change(run.trial(0).status, state="failed")
    assert missing(run)[0] == "failed"
    run_one(make_spec(0))
    assert seeds(run) == before
    assert [path.name for path in run.root.glob("*.aborted-*")] == ["trial_0.aborted-0"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"of": 3}, r"number of trials \(--of\) 3 here, 2 there"),
        ({"seed": 8}, "--seed 8 here, 7 there"),
    ],
)
def test_another_set_is_refused_with_what_differs(
    make_spec: MakeSpec, given: dict[str, int], told: str
) -> None:
    run_one(make_spec(0, seed=7))
    with pytest.raises(ConfigError, match=told):
        run_one(make_spec(1, **given))


@pytest.mark.parametrize(
    ("settings", "told"),
    [("ends=killed", "trial 0 of .* failed: .* signal 9"), ("ends=damaged", "points")],
)
def test_a_failed_trial_is_told_at_once_though_the_verdict_is_deferred(
    make_spec: MakeSpec, settings: str, told: str
) -> None:
    """A job array knows no more of it than its exit code; a workflow goes on to its report."""
    with pytest.raises(TrainbenchError, match=told) as raised:
        train(make_spec(0, settings), defer_verdict=True)
    assert raised.value.exit_code in (1, 3)
    if settings == "ends=killed":
        train(replace(make_spec(0, settings), trial=None, runs=1), defer_verdict=True)


def test_a_trial_below_its_target_is_told_unless_the_verdict_is_deferred(
    make_spec: MakeSpec,
) -> None:
    train(make_spec(0, "target_r2=1.1"), defer_verdict=True)
    with pytest.raises(TargetNotReachedError, match=r"trial 1 of .* below the target 1\.1"):
        train(make_spec(1, "target_r2=1.1"), defer_verdict=False)


def test_nothing_of_a_set_is_there_before_what_takes_long_is_measured(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who is killed while it measures leaves nothing, and the next process makes the set."""
    spec, made = make_spec(0), list[list[Path]]()

    def measures(*_: object) -> dict[str, str]:
        made.append(list(tmp_path.glob("runs/*")) + list(tmp_path.glob("runs/.*")))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trial_set, "choice_of", measures)
        with pytest.raises(KeyboardInterrupt):
            run_one(spec)
    assert made == [[]]
    require_complete(run_one(replace(spec, runs=1)))


def test_another_setting_is_refused_by_name(make_spec: MakeSpec) -> None:
    run_one(make_spec(0))
    with pytest.raises(ConfigError, match=r"target_r2 0\.8 here"):
        run_one(make_spec(1, "target_r2=0.8"))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"arrays": {"items": {"sha256": "b" * 64}}}, "arrays items sha256"),
        ({"files": {"train.npy": "b" * 64}}, "files train.npy"),
        ({"counts": {"train": 8}}, "counts train"),
    ],
)
def test_other_data_are_refused_wherever_their_sums_stand(
    make_spec: MakeSpec,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, object],
    told: str,
    tmp_path: Path,
) -> None:
    """Ratings may differ in the training pairs alone, and images have the sums of their files."""
    begun = {
        "arrays": {"items": {"dtype": "<i4", "sha256": "a" * 64}},
        "files": {"train.npy": "a" * 64},
        "counts": {"train": 7},
        "manifest": {"archive_sha256": "c" * 64},
        "versions": {"numpy": "1"},
        "record_sha256": "d" * 64,
    }
    made_elsewhere = {
        "manifest": {"archive_sha256": "e" * 64},
        "versions": {"numpy": "2"},
        "record_sha256": "f" * 64,
    }
    path = tmp_path / "cache" / "toy" / "cache.json"
    specs = [make_spec(0), make_spec(1)]
    path.write_text(json.dumps(begun))
    run_one(specs[0])
    path.write_text(json.dumps({**begun, **made_elsewhere, **changed}))
    with pytest.raises(ConfigError, match=rf"the data are others \(cache\.json: {told}\)"):
        run_one(specs[1])
    path.write_text(json.dumps({**begun, **made_elsewhere}))
    run_one(specs[1])


def test_a_run_of_the_usual_kind_is_joined_by_no_trial_and_continues_no_shared_set(
    make_spec: MakeSpec,
) -> None:
    whole = run_set(replace(make_spec(0), trial=None, runs=1))
    with pytest.raises(ConfigError, match="and no set that trials join"):
        run_one(make_spec(0, into=whole.root.name))
    begun = run_one(make_spec(0, seed=3))
    again = run_set(replace(make_spec(0), trial=None, seed=3))
    assert again.root != begun.root


def test_a_step_and_trials_of_a_set_keep_each_other_out(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    refused = pytest.raises(MachineError, match="in use by train --trial")
    with shared(data), shared(data), refused, locked(data, "download"):
        pass
    with locked(data, "download"), pytest.raises(MachineError, match="in use by"), shared(data):
        pass


def no_lock(*arguments: object, **more: object) -> object:
    """A file system that gives a lock to everybody who asks, as NFS with nolock does."""

    class Everybodys:
        def acquire(self, *, blocking: bool) -> None:
            Path(str(arguments[0])).touch()

        def release(self) -> None:
            pass

    return Everybodys()


HOLDER = """
import sys, time
from pathlib import Path
from trainbench.trials import lock
lock.FileLock, lock.SETTLE_S, lock.STILL_S, lock.BEAT_S = None, 0.5, 3.0, 0.1
class Everybodys:
    def __init__(self, path, **more): self.path = path
    def acquire(self, *, blocking): Path(self.path).touch()
    def release(self): pass
lock.FileLock = Everybodys
lock._BOOT_ID = Path(sys.argv[2])
try:
    with lock.claimed(Path(sys.argv[1]), "trial 0"):
        print("mine", flush=True)
        sys.stdin.readline()
        print("done", flush=True)
except lock.MachineError as error:
    print(error, flush=True)
"""


def start(path: Path, boot: str) -> subprocess.Popen[str]:
    machine = path.with_name(boot)
    machine.write_text(boot)
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(machine)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_of_two_machines_whose_locks_hold_nothing_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "trial_0.lock"
    first = start(path, "boot-a")
    assert first.stdout
    assert first.stdout.readline() == "mine\n"
    late, _ = start(path, "boot-b").communicate("\n")
    assert f"process {first.pid} on" in late
    assert "does not hold between machines" in late
    assert first.communicate("\n")[0] == "done\n"


def test_of_two_machines_that_start_at_once_at_most_one_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "trial_0.lock"
    both = [start(path, boot) for boot in ("boot-a", "boot-b")]
    told = [one.communicate("\n")[0] for one in both]
    assert sum("done" in text for text in told) <= 1, told
    assert sum("does not hold between machines" in text for text in told) >= 1, told


def test_a_claim_that_stands_still_is_of_a_dead_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trial_0.lock"
    path.write_bytes(Claim(host="gone", boot="another").bytes_at(4))
    with claimed(path, "trial 0"):
        assert json.loads(path.read_text())["host"] != "gone"
    assert path.read_bytes() == b""


WITHOUT_FILES = """
import os, resource, sys, time
from pathlib import Path
from trainbench.trials import lock
lock.SETTLE_S, lock.BEAT_S = 0.0, 0.05

free = os.dup(0)
os.close(free)
def opens(more):
    # The system refuses to open a further file (EMFILE), as a server that is away does.
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, 4096))

path, when = Path(sys.argv[1]), sys.argv[2]
try:
    if when == "looks":
        opens(1)
    pause = lambda _: opens(0) if when == "claims" else None
    with lock.claimed(path, "trial 0", lost=print, pause=pause):
        opens(1)
        time.sleep(0.5)
        opens(99)
    print("done", os.path.getsize(path))
except (lock.MachineError, OSError) as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("runs", "done 0\n"),
        ("looks", "OSError [Errno 24] Too many open files: '{path}'\n"),
        ("claims", "OSError [Errno 24] Too many open files: '{path}'\n"),
    ],
)
def test_a_lock_that_cannot_be_read_is_not_somebody_elses(
    tmp_path: Path, when: str, told: str
) -> None:
    path = tmp_path / "trial_0.lock"
    words = [sys.executable, "-c", WITHOUT_FILES, str(path), when]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (told.format(path=path), "")


def test_a_claim_that_is_written_over_while_the_trial_runs_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "FileLock", no_lock)
    path, lost = tmp_path / "trial_0.lock", list[MachineError]()
    with claimed(path, "trial 0", lost=lost.append):
        other = Claim(host="other", boot="another")
        path.write_bytes(other.bytes_at(0))
        while not lost:
            pass
    assert "on other has it too" in str(lost[0])
    assert json.loads(path.read_text())["token"] == other.token


def test_numbers_are_written_as_slurm_writes_an_array() -> None:
    assert ranges([5, 0, 1, 2, 9, 8]) == "0-2,5,8-9"
