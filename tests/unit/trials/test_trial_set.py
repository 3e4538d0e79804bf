"""A set of trials: what is continued, what starts anew, and what ends the set."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainbench.errors import DataIntegrityError
from trainbench.trials.paths import DataDir, RunDir
from trainbench.trials.trial_set import (
    interrupted_run,
    new_run,
    read_status,
    run_missing,
    trial_seed,
)

WRITES_STATUS = "import json, sys; open(sys.argv[1], 'w').write(sys.argv[2]); print('at work')"


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[int], RunDir]:
    record = tmp_path / "record.json"
    record.write_text("{}")

    def make_run(runs: int) -> RunDir:
        return new_run(
            DataDir(tmp_path / "data"),
            preset="quick",
            config="the configuration",
            cache_record=record,
            manifest=record,
            runs=runs,
            seed=3,
            command=["train"],
        )

    return make_run


def ends_with(run: RunDir, **status: object) -> Callable[[int, int], list[str]]:
    """A trial's process that writes ``status``, with its seed, and ends."""
    return lambda index, seed: [
        sys.executable,
        "-c",
        WRITES_STATUS,
        str(run.trial(index).status),
        json.dumps({"seed": seed, **status}),
    ]


def test_each_trial_has_a_seed_of_its_own_and_finished_ones_are_left_alone(
    make_run: Callable[[int], RunDir],
) -> None:
    run = make_run(3)
    run_missing(run, runs=3, seed=3, command=ends_with(run, state="converged"))
    found = [read_status(run.trial(index))["seed"] for index in range(3)]
    assert found == [trial_seed(3, index) for index in range(3)]
    assert len(set(found)) == 3
    assert run.trial(0).stdout.read_text() == "at work\n"
    run_missing(run, runs=3, seed=3, command=ends_with(run, state="failed", exit_code=1))
    assert {read_status(run.trial(index))["state"] for index in range(3)} == {"converged"}


def test_an_interrupted_set_is_continued_only_by_the_same_request(
    make_run: Callable[[int], RunDir], tmp_path: Path
) -> None:
    run, data = make_run(2), DataDir(tmp_path / "data")
    asked = {"config": "the configuration", "runs": 2, "seed": 3}
    assert interrupted_run(data, **asked) == run  # type: ignore[arg-type]
    for other in ({"config": "another"}, {"runs": 1}, {"seed": None}):
        assert interrupted_run(data, **{**asked, **other}) is None  # type: ignore[arg-type]
    run_missing(run, runs=2, seed=3, command=ends_with(run, state="not_converged"))
    assert interrupted_run(data, **asked) is None  # type: ignore[arg-type]


def test_a_trial_that_was_cut_off_starts_anew_beside_its_remains(
    make_run: Callable[[int], RunDir],
) -> None:
    run = make_run(1)
    run.trial(0).root.mkdir()
    run.trial(0).status.write_text('{"state": "running"}')
    run_missing(run, runs=1, seed=3, command=ends_with(run, state="converged"))
    assert read_status(run.trial(0))["state"] == "converged"
    remains = run.root / "trial_0.aborted-0" / "status.json"
    assert json.loads(remains.read_text()) == {"state": "running"}


def test_a_process_that_dies_is_a_failed_trial_with_its_signal(
    make_run: Callable[[int], RunDir],
) -> None:
    run = make_run(1)
    dies = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    run_missing(run, runs=1, seed=3, command=lambda index, seed: dies)
    status = read_status(run.trial(0))
    assert status["state"] == "failed"
    assert "signal 9 (often the kernel, out of memory" in status["message"]


def test_a_failure_that_the_next_trial_would_share_ends_the_set(
    make_run: Callable[[int], RunDir],
) -> None:
    run = make_run(2)
    failed = ends_with(run, state="failed", exit_code=3, message="a damaged cache")
    with pytest.raises(DataIntegrityError, match="trial 0 failed: a damaged cache"):
        run_missing(run, runs=2, seed=3, command=failed)
    assert not run.trial(1).root.exists()
