"""`bench scale --workers` puts several workers beside one and says what each is worth."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from trainbench.bench import workers
from trainbench.bench.workers import Case
from trainbench.cli.machine import bench
from trainbench.errors import ConfigError, MachineError
from trainbench.machine import allotment

SMALL = Case(2, batch=256, users=300, items=200, seconds=0.1, settings=("xla=false",))


def invoke(*words: str) -> Result:
    return CliRunner().invoke(bench, ["scale", *words])


def test_workers_join_train_and_count_what_they_send() -> None:
    found = workers.measured(SMALL)
    assert found["samples_per_s"] > 0
    assert found["shared_cores"] == (allotment.cores() < 2)
    assert len(found["each"]) == 2
    for worker in found["each"]:
        assert worker["traffic"]["bytes_per_step"] > 0
        assert worker["peak_rss_bytes"] > 10_000_000


def test_a_worker_that_fails_is_named_with_its_last_line() -> None:
    with pytest.raises(MachineError, match=r"ended: worker 0 of 1: .*unheard"):
        workers.measured(replace(SMALL, workers=1, settings=("unheard=1",)))


def test_workers_that_take_too_long_are_ended_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_TIMEOUT_S", 0.01)
    before = psutil.Process().children()  # Of other tests: a fork server may live on.
    with pytest.raises(
        MachineError, match=r"2 workers, batch 256: not done within 0\.01 s; run it"
    ):
        workers.measured(SMALL)
    assert set(psutil.Process().children()) <= set(before)


STARTS_A_WORKER = """
import json, os, subprocess, sys, time
part = json.dumps({**json.loads(sys.argv[1]), "parent": os.getpid()})
words = [sys.executable, "-m", "trainbench.bench.workers", "--part", part]
# Its output goes nowhere: of a pipe that nobody reads it could end too.
nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
print(subprocess.Popen(words, **nowhere).pid, flush=True)
time.sleep(600)
"""


def test_a_worker_ends_with_the_process_that_started_it() -> None:
    case = asdict(replace(SMALL, workers=1, seconds=600.0))
    given = json.dumps({"case": case, "addresses": [], "index": 0})
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_A_WORKER, given], stdout=subprocess.PIPE
    ) as top:
        assert top.stdout
        worker = psutil.Process(int(top.stdout.readline()))
        top.kill()
    _, alive = psutil.wait_procs([worker], 60)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_each_worker_has_a_physical_core_and_more_than_these_share_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(allotment, "cpu_of_each_core", lambda: (0, 2))
    pinned: list[set[int]] = []

    def pin(_: int, numbers: set[int]) -> None:
        pinned.append(numbers)
        raise InterruptedError

    monkeypatch.setattr("os.sched_setaffinity", pin)
    for index in range(3):
        with pytest.raises(InterruptedError):
            workers._part(replace(SMALL, workers=3), (), index)
    assert pinned == [{0}, {2}, {0}]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The cases in their order, each measured at once: 100, 80 and 60 samples a second and core."""
    cases: list[Case] = []

    def measured(case: Case) -> dict[str, Any]:
        cases.append(case)
        several = {"sharded": 80.0, "mirrored": 60.0}[case.tables] * case.workers
        return {
            "samples_per_s": 100.0 if case.workers == 1 else several,
            "traffic": {"bytes_per_step": 5_000_000} if case.workers > 1 else None,
            "each": [{"peak_rss_bytes": 2**30}] * case.workers,
            "shared_cores": case.workers > 2,
        }

    monkeypatch.setattr(workers, "measured", measured)
    return cases


def test_each_kind_of_tables_is_compared_with_one_worker_by_turns(told: list[Case]) -> None:
    found = invoke("--workers", "2", "--batch", "4096", "--repeats", "2", "--json")
    assert found.exit_code == 0, found.output
    kinds = [(case.workers, case.tables) for case in told]
    assert kinds == [(1, "sharded"), (2, "sharded"), (2, "mirrored")] * 2
    one, sharded, mirrored = json.loads(found.stdout)["rows"]
    assert (one["workers"], one["tables"], one["times"], one["sent_bytes"]) == (1, None, 1, 0)
    assert (sharded["tables"], sharded["times"], sharded["efficiency"]) == ("sharded", 1.6, 0.8)
    assert (mirrored["tables"], mirrored["times"], mirrored["efficiency"]) == ("mirrored", 1.2, 0.6)
    assert sharded["sent_bytes"] == 5_000_000
    assert not sharded["shared_cores"]


def test_more_workers_than_cores_are_marked_in_the_table(told: list[Case]) -> None:
    lines = invoke("--workers", "4", "--batch", "4096").stdout.splitlines()
    assert "of mirrored tables, sent a step is computed for a ring, not counted" in lines[1]
    assert [("shared cores" in line) for line in lines[3:]] == [False, True, True]
    assert lines[4].split()[:5] == ["4,096", "4", "sharded", "320", "3.20"]
    assert "80%" in lines[4]


def test_cores_are_as_many_workers_as_there_are(
    told: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allotment, "cpus", lambda: 16)
    monkeypatch.setattr(allotment, "cores", lambda: 8)
    assert invoke("--workers", "cores").exit_code == 0
    assert {(case.workers, case.batch) for case in told} == {
        (n, batch) for n in (1, 8) for batch in (65_536, 2_048)
    }
    told.clear()
    for cores, reason in ((1, "there is one alone; wanted a number"), (65, "there are 65; wanted")):
        monkeypatch.setattr(allotment, "cores", lambda cores=cores: cores)
        refused = invoke("--workers", "cores")
        assert refused.exit_code == 2
        assert reason in refused.output
    assert told == []


def test_a_batch_that_the_workers_cannot_share_is_refused_before_any_is_measured(
    told: list[Case],
) -> None:
    with pytest.raises(ConfigError, match="cannot be divided among 3 workers"):
        workers.run(3, batches=(4_098, 2_048))
    assert told == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--workers", "1"], "1 is not in the range"),
        (["--workers", "many"], "'many' is not a valid integer"),
        (["--batch", "2048"], "--batch needs --workers"),
        (["--repeats", "2"], "--repeats needs --workers"),
        (["--workers", "2", "--full"], "leave out --full"),
        (["--workers", "2", "--step", "epoch"], "leave out --step"),
        (["--workers", "2", "--train-steps", "3"], "leave out --train-steps"),
        (["--workers", "2", "--pairs", "1M"], "leave out --pairs"),
    ],
)
def test_options_that_do_not_belong_together_are_usage_errors(
    told: list[Case], words: list[str], reason: str
) -> None:
    refused = invoke(*words)
    assert refused.exit_code == 2
    assert reason in refused.output
    assert told == []
