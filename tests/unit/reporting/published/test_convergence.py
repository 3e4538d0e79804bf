"""Epochs to the target beside public runs: honest sets pass, planted speed-ups are found."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from run_dir import build_run
from v05_log import Events, valued, write_results
from v05_log import run as log_of

from trainbench.compliance.tags import ncf as tags
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.page.render import write_report
from trainbench.reporting.published.convergence import (
    LEVEL,
    Convergence,
    convergence,
    epoch_of_target,
    sentences,
)
from trainbench.reporting.published.tables import PublishedRun, runs
from trainbench.trials.paths import RunDir

INTEL = [run for run in runs() if run.batch_size == 98_304]


def log(epoch: int | None, *, batch_size: int = 98_304, seed: int = 1, last: int = 19) -> Events:
    """A log whose evaluation of ``epoch`` is the first at the target; ``None``: of none to last."""
    rising = [40_000 + 1_000 * i for i in range(last + 1 if epoch is None else epoch)]
    hits = rising if epoch is None else [*rising, 88_000]
    events = log_of(seed=seed, start=1_541_635_650 + 10_000 * seed, hits=hits)
    return valued(tags.INPUT_BATCH_SIZE, batch_size)(events)


def checked(folder: Path, epochs: list[int | None], **options: int) -> Convergence:
    logs = [log(epoch, seed=seed, **options) for seed, epoch in enumerate(epochs)]
    write_results(folder / "results" / "system" / "ncf", logs)
    return convergence(collect(RunDir(folder), NCF))


def test_the_epoch_of_the_target_is_that_of_the_public_table(tmp_path: Path) -> None:
    found = checked(tmp_path, [4, 7, None])
    assert found.epochs == (4, 7, None)


def test_honest_sets_are_seldom_called_implausible(tmp_path: Path) -> None:
    """Sets drawn from the public runs: at most the level, by the exactness of the test."""
    generator, alarms, sets = random.Random(7), 0, 120
    shared = collect(one_run(tmp_path), NCF)
    for number in range(sets):
        drawn = generator.sample(INTEL, (1, 3, 10)[number % 3])
        trials = tuple(trial_like(shared.trials[0], run) for run in drawn)
        alarms += convergence(replace(shared, trials=trials)).implausible
    assert alarms <= 5  # 120 sets at 0.01: more than 5 come once in 400,000 times


def one_run(folder: Path) -> RunDir:
    write_results(folder / "results" / "system" / "ncf", [log(7)])
    return RunDir(folder)


def trial_like(trial, run: PublishedRun):  # type: ignore[no-untyped-def]
    """``trial`` with the evaluations of a public run."""
    rates = [0.5] * run.evaluations
    if run.epoch_of_target is not None:
        rates[run.epoch_of_target] = 0.636
    epochs = tuple(
        replace(trial.epochs[0], epoch=number, hit_rate=rate) for number, rate in enumerate(rates)
    )
    return replace(trial, epochs=epochs)


def test_all_public_runs_of_a_system_are_plausible_beside_it(tmp_path: Path) -> None:
    shared = collect(one_run(tmp_path), NCF)
    trials = tuple(trial_like(shared.trials[0], run) for run in INTEL)
    found = convergence(replace(shared, trials=trials))
    assert [trial and epoch_of_target(trial) for trial in trials] == [
        run.epoch_of_target for run in INTEL
    ]
    assert not found.implausible
    assert found.p == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("epochs", [[2], [5, 5, 4], [4, 5, 6, 5, 4, 6, 5, 5, 6, 5]])
def test_a_planted_speed_up_is_found_with_its_p(epochs: list[int | None], tmp_path: Path) -> None:
    found = checked(tmp_path, epochs)
    assert found.implausible
    assert found.p is not None
    assert found.p <= LEVEL
    (system,) = found.systems
    assert system.system == "2x Intel Xeon Platinum 8180 (56 cores)"
    assert (system.runs, system.converged, system.fastest, system.slowest) == (100, 55, 4, 12)
    said = " ".join(sentences(found))
    assert "Implausibly fast: p = " in said


def test_better_hyperparameters_that_let_more_runs_converge_are_no_finding(tmp_path: Path) -> None:
    """As the TensorFlow runs of 2018: 9 of 10 converge, and not faster than those of Intel."""
    found = checked(tmp_path, [5, 6, 7, 7, 7, 8, 9, 10, 7, 8, 6, 7, 9, 8, 7])
    assert found.p is not None
    assert found.p <= LEVEL
    assert not found.implausible
    assert "More runs converge than public ones" in " ".join(sentences(found))


def test_a_short_cap_censors_public_runs_as_well(tmp_path: Path) -> None:
    """A run that ended after epoch 5 without the target says little, and is not slow by it."""
    (system,) = checked(tmp_path, [None], last=5).systems
    faster = sum(r.epoch_of_target is not None and r.epoch_of_target <= 5 for r in INTEL)
    assert faster == 8
    assert system.p == 1.0
    (system,) = checked(tmp_path / "two", [5, None], last=5).systems
    assert system.p > 0.1


def test_one_run_has_little_power_and_the_report_says_so(tmp_path: Path) -> None:
    found = checked(tmp_path, [4])
    assert not found.implausible
    assert found.systems[0].smallest_p == pytest.approx(1 / 101)
    assert "The smallest p that 1 run can have here is 0.0099." in " ".join(sentences(found))


def test_a_set_has_to_be_fast_beside_every_system(tmp_path: Path) -> None:
    found = checked(tmp_path, [12, 13, 12], batch_size=1_048_576)
    assert len(found.systems) == 3
    assert found.p == max(system.p for system in found.systems)


def test_other_batch_sizes_and_tasks_are_not_compared_and_the_page_says_why(
    tmp_path: Path,
) -> None:
    found = checked(tmp_path / "a", [3], batch_size=65_536)
    assert found.p is None
    wanted = "no public run has the batch size 65,536 (there are 98,304, 1,048,576)"
    assert found.why_not == (wanted,)
    run = build_run(tmp_path / "b", trials=1)
    files = write_report(run, benchmark=NCF)
    record = json.loads(files.results_json.read_text())
    assert record["convergence"]["p"] is None
    assert record["published"]["rows"] == []
    for page in (files.html, files.markdown):
        text = page.read_text()
        assert "Is this good?" in text
        assert "Not compared: the target is HR@10 0.225, not 0.635" in text.replace("\\", "")
